"""`Services`: what an app opens and makes when it is asked for: broker, result store, results, control, worker."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, tzinfo
from functools import cached_property, partial
from operator import attrgetter
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from canvaslite import current
from canvaslite.canvas import signature
from canvaslite.canvas.records import record_links
from canvaslite.exceptions import AlwaysEagerIgnored, ImproperlyConfigured
from canvaslite.utils.functional import user_stacklevel
from canvaslite.utils.imports import import_from_cwd, instantiate, symbol_by_name
from canvaslite.utils.time import UTC, local_timezone
from canvaslite.utils.uuid import uuid


class Services:
    """Base of the application: everything here is made on first use, so that an app costs little to define."""

    #: Classes that do the work, or their names; a subclass may set its own.
    amqp_cls: Any = 'canvaslite.publish.amqp:AMQP'
    publisher_cls: Any = 'canvaslite.publish.publisher:Publisher'
    connections_cls: Any = 'canvaslite.app.connections:Connections'
    control_cls: Any = 'canvaslite.control:Control'
    log_cls: Any = 'canvaslite.app.log:Logging'
    worker_cls: Any = 'canvaslite.worker.worker:Worker'
    #: Class of the result store, where it is not in the settings.
    backend_cls: Any = None

    # What the application has.
    conf: Any
    on_after_fork: Any
    _tasks: Any

    def __init__(self) -> None:
        self._local = threading.local()
        self._backend_cache: Any = None
        self._backend_mutex = threading.RLock()

    # -- broker -------------------------------------------------------------------------------------------

    @cached_property
    def amqp(self) -> Any:
        """Queues, routes and messages."""
        amqp = instantiate(self.amqp_cls, app=self)
        self.conf.bind_to(lambda: amqp.flush_routes())
        return amqp

    #: What a Celery app's loader is seen to be asked for: to import the modules of tasks.
    loader: Any = cached_property(lambda self: SimpleNamespace(
        import_default_modules=self.import_default_modules, import_task_module=import_from_cwd))
    #: What sends task messages, and what opens connections.
    publisher: Any = cached_property(lambda self: symbol_by_name(self.publisher_cls)(self))
    connections: Any = cached_property(lambda self: symbol_by_name(self.connections_cls)(self))
    #: Connections and producers for publishing, at most ``broker_pool_limit`` at once.
    pool: Any = property(attrgetter('connections.pool'))
    producer_pool: Any = property(attrgetter('amqp.producer_pool'))

    def connection_for_read(self, url: Any = None, **options: Any) -> Any:
        """A connection for consuming; options as for `connection`."""
        return self.connections.open(url or self.conf.broker_read_url, **options)

    def connection_for_write(self, url: Any = None, **options: Any) -> Any:
        """A connection for publishing; options as for `connection`."""
        return self.connections.open(url or self.conf.broker_write_url, **options)

    def connection(self, hostname: Any = None, **options: Any) -> Any:
        """A connection to the broker, or to the host or URL `hostname`; `options` are those of `Connections.open`."""
        return self.connection_for_write(hostname, **options)

    def connection_or_acquire(self, connection: Any = None, pool: bool = True, *_: Any,
                              **__: Any) -> AbstractContextManager[Any]:
        """Within ``with``: `connection`, or where it is None one of the pool, or without `pool` a new one."""
        if connection is not None:
            return nullcontext(connection)
        return self.connections.acquire(self.pool, 'connection') if pool else self.connection_for_write()

    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]:
        """Within ``with``: `producer`, or where it is None one of the pool."""
        return (self.connections.acquire(self.producer_pool, 'producer') if producer is None
                else nullcontext(producer))

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, producer: Any = None, publisher: Any = None,
                  router: Any = None, route_name: str | None = None, result_cls: Any = None,
                  add_to_parent: bool = True, **options: Any) -> Any:
        """Send the task called `name`, which need not be known here; returns its `AsyncResult`. `options` are those of
        `Task.apply_async`; what is not given is taken from a task of that name, if there is one."""
        if self.conf.task_always_eager:
            warnings.warn(AlwaysEagerIgnored('task_always_eager has no effect on send_task'),
                          stacklevel=user_stacklevel())
        task = options.get('task_type') or self._tasks.get(name)
        if task is not None:
            options = {**task._get_exec_options(), **options}
        if router is not None or route_name is not None:
            options = (router or self.amqp.router).route(options, route_name or name, args, kwargs, task)
        options['task_id'] = task_id = options.get('task_id') or uuid()
        ignored = options.get('ignore_result')
        producer = producer or publisher
        if not ignored and options.get('reply_to') in (None, self.thread_oid):
            self.backend.on_task_call(producer, task_id)
        if options.get('link'):
            record_links(self, name, options)
        self.publisher.publish(name, args, kwargs, options, task=task, producer=producer)
        result = (result_cls or self.AsyncResult)(task_id)
        result.ignored = ignored
        parent = current.get_current_worker_task() if add_to_parent else None
        if parent is not None:
            parent.add_trail(result)
        return result

    def setup_security(self, *args: Any, **options: Any) -> None:
        """Sign what is sent, and accept only what is signed; see `canvaslite.security.setup_security`."""
        symbol_by_name('canvaslite.security:setup_security')(*args, **options, app=self)

    # -- results ------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Any:
        """The result store; one for each thread where it cannot be shared."""
        return self._backend_cache or getattr(self._local, 'backend', None) or self._make_backend()

    def _make_backend(self) -> Any:
        with self._backend_mutex:
            made = self._backend_cache or self._get_backend()
            if getattr(made, 'thread_safe', True):
                self._backend_cache = made
            else:
                self._local.backend = made
            return made

    def _get_backend(self) -> Any:
        url = self.backend_cls or self.conf.result_backend
        scheme = url.partition('://')[0].partition('+')[0] if isinstance(url, str) else None
        override = (self.conf.override_backends or {}).get(scheme)
        if override is not None:
            return instantiate(override, app=self, url=url)
        return symbol_by_name('canvaslite.backends:by_url')(url, self)

    #: The classes of results, of this app.
    AsyncResult: Any = cached_property(lambda self: self.subclass_with_self('canvaslite.result:AsyncResult'))
    GroupResult: Any = cached_property(lambda self: self.subclass_with_self('canvaslite.result:GroupResult'))
    ResultSet: Any = cached_property(lambda self: self.subclass_with_self('canvaslite.result:ResultSet'))

    def signature(self, *args: Any, **kwargs: Any) -> Any:
        """A signature of this app; arguments as for `canvaslite.signature`."""
        kwargs['app'] = self
        return signature(*args, **kwargs)

    def subclass_with_self(self, Class: Any, name: str | None = None, attribute: str = 'app',
                           reverse: str | None = None, keep_reduce: bool = False, **attributes: Any) -> Any:
        """A subclass of `Class` (or the class of that name) with this app as `attribute`, pickled as found in it."""
        Class = symbol_by_name(Class)
        made = {attribute: self, '__module__': Class.__module__, '__doc__': Class.__doc__, **attributes}
        if not keep_reduce:
            path = reverse or Class.__name__
            made['__reduce__'] = lambda self: (restore_in_app, (path, self.__reduce_args__()))
        return type(name or Class.__name__, (Class,), made)

    # -- worker and remote control ------------------------------------------------------------------------

    #: Remote control of workers, and the log of a worker.
    control: Any = cached_property(lambda self: instantiate(self.control_cls, app=self))
    log: Any = cached_property(lambda self: instantiate(self.log_cls, app=self))
    #: Makes a `Worker` of this app; its arguments are the worker's options.
    Worker: Any = property(lambda self: partial(symbol_by_name(self.worker_cls), self))

    def worker_main(self, argv: list[str] | None = None) -> Any:
        """As `start`, for the command ``worker``; raises `ValueError` where it is not among the arguments."""
        argv = sys.argv if argv is None else argv
        if 'worker' not in argv:
            raise ValueError("'worker' must be among the arguments; use app.start() for other commands")
        return self.start(argv)

    def start(self, argv: list[str] | None = None) -> Any:
        """Run the command line for this app with these arguments (default: the program's); returns its exit status."""
        current.set_current_app(self)
        current.set_default_app(self)
        try:
            return symbol_by_name('canvaslite.cli:main')(sys.argv[1:] if argv is None else argv)
        except SystemExit as exc:
            return exc.code

    # -- time and identity --------------------------------------------------------------------------------

    @cached_property
    def timezone(self) -> tzinfo:
        """The setting ``timezone``, else UTC, with ``enable_utc`` off the local one. Raises `ImproperlyConfigured`."""
        name = self.conf.timezone or (UTC if self.conf.enable_utc else local_timezone())
        try:
            return ZoneInfo(name) if isinstance(name, str) else name
        except (KeyError, ValueError) as exc:
            raise ImproperlyConfigured(f"setting 'timezone': there is no time zone {name!r} here") from exc

    def now(self) -> datetime:
        """The time, in the app's time zone."""
        return datetime.now(self.timezone)

    def uses_utc_timezone(self) -> bool:
        """Whether the app's time zone is UTC."""
        return self.timezone == UTC

    #: Id of this app in this process, where replies to it are sent.
    oid: Any = cached_property(lambda self: current.make_oid(self, threads=False))

    @property
    def thread_oid(self) -> str:
        """Id of this app in this thread."""
        try:
            return self._local.oid  # type: ignore[no-any-return]
        except AttributeError:
            self._local.oid = found = current.make_oid(self, threads=True)
            return found

    # -- end of life --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close connections, and forget the app; only needed for apps that come and go."""
        for name in ('publisher', 'connections', 'amqp'):
            close = getattr(self.__dict__.pop(name, None), 'close', None)
            if close is not None:
                close()
        self._backend_cache, self._local = None, threading.local()
        current.deregister_app(self)
        if current.default_app() is self:
            current.set_default_app(None)

    def _after_fork(self) -> None:
        if 'connections' in self.__dict__:
            self.connections.forget_inherited()
        self.__dict__.pop('oid', None)
        self._local = threading.local()
        self._backend_mutex = threading.RLock()
        if self.on_after_fork.receivers:
            self.on_after_fork.send(sender=self)


def restore_in_app(path: str, args: Mapping[str, Any]) -> Any:
    """The current app's object of that class: what it is unpickled with."""
    return attrgetter(path)(current.get_current_app())(*args)


os.register_at_fork(after_in_child=lambda: [app._after_fork() for app in current.active_apps()])
