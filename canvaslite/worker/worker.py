"""`Worker`: takes tasks from the broker and has them run, with an event loop, a pool, and a consumer."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from canvaslite import bootsteps, signals
from canvaslite.app.declare import reload_module
from canvaslite.exceptions import ImproperlyConfigured, WorkerTerminate
from canvaslite.pools import pool_class
from canvaslite.pools.base import Doorbell, Pool
from canvaslite.utils import inflate
from canvaslite.utils.functional import either
from canvaslite.utils.imports import describe_missing, import_from_cwd
from canvaslite.utils.log import worker_logger as logger
from canvaslite.utils.nodenames import default_nodename, node_format, worker_direct
from canvaslite.worker.autoscale import read_bounds
from canvaslite.worker.outcomes import Outcomes
from canvaslite.worker.pidfile import Pidfile, PidfileTaken
from canvaslite.worker.policies import Policies
from canvaslite.worker.receipts import Returns
from canvaslite.worker.request import Stage
from canvaslite.worker.shutdown import EX_FAILURE, EX_OK, Shutdown
from canvaslite.worker.state import State

#: Exit status when the pidfile is another's.
EX_CANTCREAT = 73


class Worker:
    """A worker. Making one imports the app's modules and checks the settings; `start` runs it to its end.

    Options that are None are taken from the settings. `concurrency` may be ``'auto'``; `queues` and `exclude_queues`
    are names, in a list or with commas; `autoscale` is ``'MAX,MIN'`` processes; `ready_callback(consumer)` is called
    when it takes messages; `optimization` changes nothing. Raises `ImproperlyConfigured` for a wrong setting.
    """

    class Blueprint(bootsteps.Blueprint):
        """The parts of a worker."""

        name = 'Worker'
        default_steps = tuple(f'canvaslite.worker.steps.worker:{step}'
                              for step in ('Hub', 'StateFile', 'Pool', 'Autoscaler', 'Sweeper', 'Consumer'))

    def __init__(self, app: Any, hostname: str | None = None, *, concurrency: Any = None, pool: Any = None,
                 queues: Any = None, exclude_queues: Any = None, include: Any = None, loglevel: Any = None,
                 logfile: Any = None, pidfile: str | None = None, statedb: str | None = None,
                 prefetch_multiplier: int | None = None,
                 time_limit: float | None = None, soft_time_limit: float | None = None,
                 max_tasks_per_child: int | None = None, max_memory_per_child: int | None = None,
                 optimization: str | None = None, purge: bool = False, disable_rate_limits: bool | None = None,
                 ready_callback: Any = None, autoscale: Any = None, **options: Any) -> None:
        self.app = app
        self.hostname = default_nodename(hostname)
        self.startup_time = datetime.now(timezone.utc)
        self.loglevel = loglevel
        self.purge = purge
        self.options = options
        self.exitcode: int | None = None
        self.ready_callback = ready_callback
        self.bell = Doorbell(lambda: None)
        self.shutdown = Shutdown(self.hostname, self.bell.ring)
        with _telling_what_is_missing():
            app.import_default_modules()  # which may listen to the signal
        signals.celeryd_init.send(sender=self.hostname, instance=self, conf=app.conf, options=options)
        with _telling_what_is_missing():
            self.setup_includes(include)
        self.setup_defaults(concurrency=concurrency, prefetch_multiplier=prefetch_multiplier, time_limit=time_limit,
                            soft_time_limit=soft_time_limit, max_tasks_per_child=max_tasks_per_child,
                            max_memory_per_child=max_memory_per_child, disable_rate_limits=disable_rate_limits)
        self.setup_files(logfile, pidfile, statedb)
        #: The most and the least processes, where the pool grows and shrinks by itself.
        self.autoscale = read_bounds(autoscale) if autoscale else None
        if self.autoscale is not None:
            self.concurrency = self.autoscale[1]
        self.autoscaler: Any = None
        self.setup_queues(queues, exclude_queues)
        self.check_connection()
        signals.worker_init.send(sender=self)
        self.pool_cls = pool_class(pool or app.conf.worker_pool)
        if self.autoscale is not None and self.pool_cls.grow is Pool.grow:
            raise ImproperlyConfigured(
                f'--autoscale: the {self.pool_cls.name} pool cannot grow; use prefork or threads.')
        inflate.default[:] = [inflate.Limits.of(app.conf)]
        self.setup_state()
        self.steps: list[Any] = []
        self.blueprint = self.Blueprint(steps=app.steps['worker'])
        self.blueprint.apply(self, **options)

    # -- making

    def setup_includes(self, include: Any) -> None:
        """Import these modules besides those that the app names."""
        if include:
            self.app.conf.include = tuple(self.app.conf.include or ()) + tuple(_names(include))
            for name in _names(include):
                self.app.loader.import_task_module(name)
        self.app.finalize()

    def setup_defaults(self, **given: Any) -> None:
        """Take what was not given from the settings."""
        conf = self.app.conf
        self.concurrency = _count_processes(either(given['concurrency'], conf.worker_concurrency))
        self.prefetch_multiplier = int(either(given['prefetch_multiplier'], conf.worker_prefetch_multiplier))
        self.time_limit = either(given['time_limit'], conf.task_time_limit)
        self.soft_time_limit = either(given['soft_time_limit'], conf.task_soft_time_limit)
        self.max_tasks_per_child = either(given['max_tasks_per_child'], conf.worker_max_tasks_per_child)
        self.max_memory_per_child = either(given['max_memory_per_child'], conf.worker_max_memory_per_child)
        self.disable_rate_limits = either(given['disable_rate_limits'], conf.worker_disable_rate_limits)
        self.consumer_cls = conf.worker_consumer

    def setup_files(self, *given: Any) -> None:
        """Name the log, the pidfile and the state file, by the settings where they were not given."""
        conf = self.app.conf
        names = map(either, given, (conf.worker_logfile, conf.worker_pidfile, conf.worker_state_db))
        self.logfile, pidfile, self.statedb = (
            node_format(name, self.hostname) if isinstance(name, str) else name for name in names)
        self.pidfile = Pidfile(pidfile) if pidfile else None

    def setup_queues(self, include: Any, exclude: Any = None) -> None:
        """Choose the queues to consume from."""
        queues = self.app.amqp.queues
        try:
            queues.select(_names(include))
        except KeyError as exc:
            raise ImproperlyConfigured(
                f'Trying to select queue subset of {_names(include)!r}, but queue {exc} is not in task_queues; '
                f'task_create_missing_queues would make it.') from None
        for name in _names(exclude):
            if name not in queues:
                raise ImproperlyConfigured(
                    f'Trying to deselect queue subset of {_names(exclude)!r}, but queue {name!r} is not in '
                    'task_queues.')
        queues.deselect(_names(exclude))
        if self.app.conf.worker_direct:
            queues.select_add(worker_direct(self.hostname))

    def check_connection(self) -> None:
        """Find out whether the URLs of broker and result store can be understood."""
        try:
            connection = self.app.connection_for_read()
            transport = connection.transport
        except ImproperlyConfigured:
            raise
        except (KeyError, ValueError, ImportError) as exc:
            raise ImproperlyConfigured(f'broker_url: {exc.args[0] if exc.args else repr(exc)}') from exc
        self.connection_errors = tuple(connection.recoverable_connection_errors) + tuple(connection.connection_errors)
        self.driver_type = transport.driver_type
        # Asked for its errors.
        self.backend = self.app.backend

    def setup_state(self) -> None:
        self.hub: Any = None
        self.pool: Any = None
        self.consumer: Any = None
        self.timer: Any = None
        self.state = State()
        self.returns = Returns()
        self.outcomes = Outcomes(self.state, self.returns)
        self.policies = Policies(self.app.tasks, self.time_limit, self.soft_time_limit,
                                 rate_limited=not self.disable_rate_limits)
        for name in self.app.tasks:
            self.policies.find(name)

    # -- life

    def start(self) -> None:
        """Run until told to stop; `exitcode` says how it ended."""
        self.shutdown.install()
        try:
            if self._begin():
                self._run()
        finally:
            self._end()

    def _begin(self) -> bool:
        if self.pidfile is not None:
            try:
                self.pidfile.acquire()
            except (PidfileTaken, OSError) as exc:
                logger.critical('Error: %s', exc)
                self.exitcode = EX_CANTCREAT
                return False
        signals.celeryd_after_setup.send(sender=self.hostname, instance=self, conf=self.app.conf)
        return not self.purge or self._purge()

    def _purge(self) -> bool:
        try:
            with self.app.connection_for_write() as connection:
                count = self.app.control.purge(connection=connection)
        except Exception as exc:
            logger.critical('purge: Connection error: %s', exc)
            self.exitcode = EX_FAILURE
            return False
        if count:
            print(f'purge: Erased {count} {"message" if count == 1 else "messages"} from the queue.\n', flush=True)
        return True

    def _run(self) -> None:
        try:
            self.blueprint.start(self)
        except WorkerTerminate as exc:
            self.terminate(_exit_code(exc))
        except SystemExit as exc:
            self.stop(_exit_code(exc))
        except KeyboardInterrupt:
            self.stop(EX_FAILURE)
        except Exception as exc:
            logger.critical('Unrecoverable error: %r', exc, exc_info=True)
            self.stop(EX_FAILURE)

    def _end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.exitcode is None:
            self.exitcode = EX_OK
        if self.pool is not None:
            self.pool.terminate()
        self.shutdown.uninstall()
        self.bell.close()
        if self.pidfile is not None:
            self.pidfile.release()

    def stop(self, exitcode: int | None = None) -> None:
        """Stop warmly: what runs ends, what did not start goes back."""
        if exitcode is not None:
            self.exitcode = exitcode
        try:
            self.blueprint.stop(self)
        except WorkerTerminate as exc:
            self.terminate(_exit_code(exc))
            return
        signals.worker_shutdown.send(sender=self)

    def terminate(self, exitcode: int | None = None) -> None:
        """Stop coldly: what runs is killed."""
        if exitcode is not None:
            self.exitcode = exitcode
        if self.blueprint.state == bootsteps.CLOSE:
            self.blueprint.send_all(self, 'terminate', 'terminating')
        else:
            self.blueprint.stop(self, terminate=True)
        signals.worker_shutdown.send(sender=self)

    def on_consumer_ready(self, consumer: Any) -> None:
        signals.worker_ready.send(sender=consumer)
        logger.info('%s ready.', self.hostname)
        if self.ready_callback is not None:
            self.ready_callback(consumer)

    def reload(self, modules: Iterable[str] | None = None, reload: bool = False) -> None:
        """Import `modules` (with `reload` again; None: those that the app says), read the tasks' options again, and
        replace the processes."""
        wanted = self.app.import_default_modules() if modules is None else [import_from_cwd(name) for name in modules]
        if reload:
            for module in wanted:
                reload_module(self.app, module)
        self.consumer.reset_rate_limits()
        self.pool.restart()

    def release_inherited(self) -> None:
        """In a new child: let go of what only the parent uses."""
        self.bell.close()
        if self.consumer is not None:
            self.consumer.release_inherited()

    @property
    def max_concurrency(self) -> int:
        """How many tasks may come to run at once."""
        most: int = self.pool.num_processes if self.autoscaler is None else self.autoscaler.max_concurrency
        return most

    # -- for remote control

    def note_running(self) -> None:
        """Mark as active what runs, whether or not it was reported yet."""
        for request in self.pool.running():
            if request.stage is Stage.RESERVED:
                request.stage = Stage.ACTIVE

    def info(self) -> dict[str, Any]:
        uptime = datetime.now(timezone.utc) - self.startup_time
        return {'total': self.policies.counts(), 'pid': os.getpid(), 'clock': str(self.app.control.mailbox.clock.value),
                'uptime': round(uptime.total_seconds())}

    def rusage(self) -> Mapping[str, Any]:
        """The system's account of this process."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {name[3:]: getattr(usage, name) for name in dir(usage) if name.startswith('ru_')}

    def stats(self) -> dict[str, Any]:
        """What ``inspect stats`` shows."""
        return {**self.info(), **self.blueprint.info(self), **self.consumer.blueprint.info(self.consumer),
                'rusage': self.rusage()}

    def __repr__(self) -> str:
        return f'<Worker: {self.hostname} ({self.blueprint.human_state()})>'

    def __str__(self) -> str:
        return self.hostname


#: Celery's name for a worker inside a program.
WorkController = Worker


@contextmanager
def _telling_what_is_missing() -> Iterator[None]:
    """A module that is not there is a user's mistake."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise ImproperlyConfigured(
            f'include, imports: cannot import the modules of the app: {describe_missing(exc)}') from exc


def _names(names: Any) -> list[str]:
    if not names:
        return []
    return [name.strip() for name in names.split(',') if name.strip()] if isinstance(names, str) else list(names)


def _count_processes(concurrency: Any) -> int:
    """The number that `concurrency` says; that of the CPUs this process may use for None, 0 and ``'auto'``."""
    if concurrency and str(concurrency).lower() != 'auto':
        try:
            return int(concurrency)
        except ValueError:
            raise ImproperlyConfigured(
                f"worker_concurrency is {concurrency!r}: it must be a number or 'auto'.") from None
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 2


def _exit_code(exc: SystemExit) -> int:
    return exc.code if isinstance(exc.code, int) else int(exc.code is not None)

