"""`SoloPool`: tasks run one after the other in the worker's own process and thread."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from canvaslite.exceptions import WorkerShutdown, WorkerTerminate
from canvaslite.execution.entry import Executor
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

    def start(self, hub: Any) -> None:
        self._hub = hub
        self._bell.register(hub)
        self._runner = self.preparation.enter(0)

    def pump(self) -> None:
        if not self.waiting or self._current is not None:
            return
        request = self._current = self.waiting.popleft()
        self.listener.on_started(request, os.getpid(), time.monotonic())
        self.listener.flush()
        try:
            outcome = self._runner.run(request.job())
        except (WorkerShutdown, WorkerTerminate):
            raise
        except BaseException as exc:
            self._current = None
            self.listener.on_lost(request, f'Worker exited prematurely: {exc!r}.')
        else:
            self._current = None
            self.listener.on_finished(request, outcome.kind, outcome.runtime, outcome.note)
        if self.waiting:  # one task a turn, so that what comes from the broker is read between them
            self._bell.ring()

    def pending(self) -> int:
        return len(self.waiting) + (self._current is not None)

    def running(self) -> Iterable[Any]:
        return () if self._current is None else (self._current,)

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
