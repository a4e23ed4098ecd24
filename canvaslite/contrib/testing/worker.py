"""Workers for tests, each in a thread of the test's own process."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Any

from canvaslite.app.log import Logging
from canvaslite.contrib.testing import tasks as tasks  # every worker for tests can be asked for a ping
from canvaslite.result.blocking import allow_join_result
from canvaslite.signals import Signal
from canvaslite.utils.nodenames import anon_nodename
from canvaslite.worker.worker import Worker

WORKER_LOGLEVEL = os.environ.get('WORKER_LOGLEVEL', 'error')

test_worker_starting = Signal(name='test_worker_starting')
test_worker_started = Signal({'worker', 'consumer'}, name='test_worker_started')
test_worker_stopped = Signal({'worker'}, name='test_worker_stopped')

#: Bytes that a log record may have.
_RECORD_SIZE = 1 << 17


class ChildLog(logging.Handler):
    """Gives what this process's children log to its own root logger, so that pytest's ``caplog`` has it."""

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._read, name='ChildLog', daemon=True)
        self._thread.start()
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            sent = copy.copy(record)
            if sent.exc_info:  # a traceback cannot leave its process
                sent.exc_text, sent.exc_info = logging.Formatter().formatException(sent.exc_info), None
            with suppress(Exception):  # what cannot be pickled, or is too long, the child has logged by itself
                self._writer.send(pickle.dumps(sent))

    def _read(self) -> None:
        while data := self._reader.recv(_RECORD_SIZE):
            logging.getLogger().handle(pickle.loads(data))

    def close(self) -> None:
        logging.getLogger().removeHandler(self)
        self._writer.send(b'')
        self._thread.join()
        self._reader.close()
        self._writer.close()
        super().close()


class TestWorkController(Worker):
    """A worker of which a test can know that it has started."""

    __test__ = False  # pytest, it is no test

    def __init__(self, *args: Any, **options: Any) -> None:
        self._on_started = threading.Event()
        super().__init__(*args, **options)

    def start(self) -> None:
        try:
            with closing(ChildLog()) if self.pool_cls.can_interrupt else nullcontext():
                super().start()
        finally:
            self._on_started.set()

    def on_consumer_ready(self, consumer: Any) -> None:
        super().on_consumer_ready(consumer)
        test_worker_started.send(sender=self.app, worker=self, consumer=consumer)
        self._on_started.set()

    def ensure_started(self) -> None:
        """Wait, in another thread than the worker's, until it takes messages.

        Raises `RuntimeError`: it has ended before.
        """
        self._on_started.wait()
        if self.exitcode is not None:
            raise RuntimeError(f'The worker did not start (exit code {self.exitcode}): see its log.')


@contextmanager
def start_worker(app: Any, concurrency: int = 1, pool: Any = 'solo', loglevel: Any = WORKER_LOGLEVEL,
                 logfile: Any = None, perform_ping_check: bool = True, ping_task_timeout: float = 10.0,
                 shutdown_timeout: float = 10.0, **options: Any) -> Iterator[Any]:
    """Within ``with``: a worker of `app` that takes messages. `options` are the worker's.

    Raises `RuntimeError`: it did not start, or did not end within `shutdown_timeout` seconds.
    """
    test_worker_starting.send(sender=app)
    worker = None
    try:
        with _start_worker_thread(app, concurrency, pool, loglevel, logfile, perform_ping_check=perform_ping_check,
                                  shutdown_timeout=shutdown_timeout, **options) as worker:
            if perform_ping_check:
                with allow_join_result():
                    assert app.tasks['celery.ping'].delay().get(timeout=ping_task_timeout) == 'pong'
            yield worker
    finally:
        test_worker_stopped.send(sender=app, worker=worker)


@contextmanager
def _start_worker_thread(app: Any, concurrency: int = 1, pool: Any = 'solo', loglevel: Any = WORKER_LOGLEVEL,
                         logfile: Any = None, WorkController: Any = TestWorkController,
                         perform_ping_check: bool = True, shutdown_timeout: float = 10.0,
                         **options: Any) -> Iterator[Any]:
    setup_app_for_worker(app, loglevel, logfile)
    with app.connection() as connection:
        connection.connect()  # the worker would try for ever
    worker = WorkController(app=app, concurrency=concurrency, hostname=options.pop('hostname', None) or anon_nodename(),
                            pool=pool, loglevel=loglevel, logfile=logfile, **options)
    thread = threading.Thread(target=worker.start, name='TestWorker', daemon=True)
    thread.start()
    try:
        worker.ensure_started()
        yield worker
    finally:
        worker.shutdown.cold = 0
        worker.shutdown.ring()
        thread.join(shutdown_timeout)
        if thread.is_alive():
            raise RuntimeError(f'The worker has not ended {shutdown_timeout} seconds after it was told to: where a '
                               'task may take longer, give start_worker a larger shutdown_timeout.')


def setup_app_for_worker(app: Any, loglevel: Any, logfile: Any) -> None:
    """Make `app` the current one, and its log that of this process."""
    app.finalize()
    app.set_current()
    app.set_default()
    Logging.already_setup = False
    app.log.setup(loglevel=loglevel, logfile=logfile)
