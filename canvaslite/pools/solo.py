"""`SoloPool`: tasks run one after the other in the worker's own process and thread."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable
from typing import Any

from canvaslite.exceptions import WorkerShutdown, WorkerTerminate
from canvaslite.execution.entry import Executor
from canvaslite.execution.tracer import user_code
from canvaslite.pools.base import Doorbell, Listener, Pool, Preparation


class SoloPool(Pool):
    """The worker does nothing else while a task runs: no heartbeats, no time limits."""

    name = 'solo'

    def __init__(self, limit: int, preparation: Preparation, listener: Listener, **options: Any) -> None:
        super().__init__(1, preparation, listener, **options)
        self._current: Any = None
        self._runner: Executor
        self._hub: Any = None
        self._bell = Doorbell(self.pump)
        #: Runs while the current task has what is left of its time after a cold stop was asked for.
        self._patience: threading.Timer | None = None

    def start(self, hub: Any) -> None:
        self._hub = hub
        self._bell.register(hub)
        self._runner = self.preparation.enter(0)

    def pump(self) -> None:
        if not self.waiting or self._current is not None:
            return
        request = self._current = self.waiting.popleft()
        try:
            outcome = self._runner.run(request.job(), self._on_read)
        except WorkerTerminate:  # the task is still the current one, for `end_running`
            raise
        except BaseException as exc:
            self._current = None
            self.listener.on_lost(request, f'Worker exited prematurely: {exc!r}.')
            if isinstance(exc, WorkerShutdown):
                raise
        else:
            self._current = None
            self.listener.on_finished(request, outcome.kind, outcome.runtime, outcome.note)
        finally:
            if self._patience is not None:
                self._patience.cancel()
        if self.waiting:  # one task a turn, so that what comes from the broker is read between them
            self._bell.ring()

    def _on_read(self) -> None:
        self.listener.on_started(self._current, os.getpid(), time.monotonic())
        with contextlib.suppress(Exception):  # the connection is lost, which the loop finds by itself
            self.listener.flush()

    def pending(self) -> int:
        return len(self.waiting) + (self._current is not None)

    def running(self) -> Iterable[Any]:
        return () if self._current is None else (self._current,)

    def interrupt(self, at_once: bool) -> None:
        if self._current is None or not user_code.running:
            return
        patience = self.options.get('patience')
        if at_once or not patience:
            raise WorkerTerminate(1)
        # Asks again, and so that a call of the system ends which the task is in.
        self._patience = threading.Timer(patience, signal.pthread_kill, (threading.get_ident(), signal.SIGQUIT))
        self._patience.daemon = True
        self._patience.start()

    def end_running(self) -> None:
        request, self._current = self._current, None
        if request is not None:
            self.listener.on_lost(request, 'Worker exited prematurely.')

    def stop(self, timeout: float) -> None:
        self.terminate()

    def terminate(self) -> None:
        if self._hub is not None:
            self._bell.unregister(self._hub)
            self._hub = None
            self.preparation.leave(0)
        self._bell.close()

    @property
    def info(self) -> dict[str, Any]:
        return {**super().info, 'processes': [os.getpid()], 'max-tasks-per-child': None,
                'put-guarded-by-semaphore': True, 'timeouts': ()}
