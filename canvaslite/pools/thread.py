"""`ThreadPool`: tasks run in threads of the worker's own process."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

from canvaslite.execution.entry import Executor
from canvaslite.execution.outcome import Outcome
from canvaslite.pools.base import Doorbell, Listener, Pool, Preparation


class ThreadPool(Pool):
    """For tasks that wait more than they compute. A running task cannot be interrupted, so it has no time limits."""

    name = 'threads'

    def __init__(self, limit: int, preparation: Preparation, listener: Listener, **options: Any) -> None:
        super().__init__(limit, preparation, listener, **options)
        self._handed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reports: deque[tuple[Executor, Any, Outcome | float | str]] = deque()
        #: What runs, and who runs it.
        self._running: dict[Any, Executor] = {}
        self._bell = Doorbell(self._read_reports)
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._hub: Any = None

    def start(self, hub: Any) -> None:
        self._hub = hub
        self._bell.register(hub)
        self._start_threads(self.limit)

    def _start_threads(self, n: int) -> None:
        for _ in range(n):
            index = len(self._threads)
            name = f'ThreadPoolWorker-{index + 1}'
            self._threads.append(threading.Thread(target=self._work, args=(index,), name=name, daemon=True))
            self._threads[-1].start()

    def _work(self, index: int) -> None:
        runner = self.preparation.enter(index)
        while not runner.given_up:
            request = self._handed.get()
            if request is None:
                return
            try:
                on_read = partial(self._report, runner, request, time.monotonic())
                self._report(runner, request, runner.run(request.job(), on_read))
            except BaseException as exc:  # SystemExit would end the thread without a word
                self._report(runner, request, f'Worker exited prematurely: {exc!r}.')

    def _report(self, runner: Executor, request: Any, event: Outcome | float | str) -> None:
        """Tell the loop that `request` started (when), ended (how), or was lost (why)."""
        self._reports.append((runner, request, event))
        self._bell.ring()

    def _read_reports(self) -> None:
        while self._reports:
            runner, request, event = self._reports.popleft()
            if runner.given_up:
                continue
            if isinstance(event, float):
                self._running[request] = runner
                self.listener.on_started(request, os.getpid(), event)
                continue
            self._running.pop(request, None)
            self._busy -= 1
            if isinstance(event, str):
                self.listener.on_lost(request, event)
            else:
                self.listener.on_finished(request, event.kind, event.runtime, event.note)

    def pump(self) -> None:
        while self.waiting and self._busy < self.limit:
            self._busy += 1
            self._handed.put(self.waiting.popleft())

    def pending(self) -> int:
        return len(self.waiting) + self._busy

    def running(self) -> Iterable[Any]:
        return list(self._running)

    def grow(self, n: int = 1) -> None:
        self.limit += n
        self._start_threads(n)

    def shrink(self, n: int = 1) -> None:
        if n >= self.limit:
            raise ValueError('The pool needs at least one thread.')
        self.limit -= n
        for _ in range(n):
            self._handed.put(None)

    def end_running(self) -> None:
        """A thread cannot be ended. It goes on as long as this process, but what it does is not kept any more; others
        take its place."""
        self._read_reports()
        given_up = [request for request in self._running if request.verdict is None]
        for request in given_up:
            self._running.pop(request).give_up()
            self._busy -= 1
            self.listener.on_lost(request, 'Worker exited prematurely.')
        self._start_threads(len(given_up))

    def stop(self, timeout: float) -> None:
        self._dismiss()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        self.terminate()

    def _dismiss(self) -> None:
        """Have the threads end when they have nothing to run."""
        for _ in self._threads:
            self._handed.put(None)

    def terminate(self) -> None:
        self._dismiss()
        if self._hub is not None:
            self._bell.unregister(self._hub)
            self._hub = None
            self.preparation.leave(0)
        self._bell.close()

    @property
    def info(self) -> dict[str, Any]:
        return {**super().info, 'threads': sum(thread.is_alive() for thread in self._threads)}
