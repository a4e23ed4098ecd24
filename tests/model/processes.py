"""The processes of the model, and the clock they all look at.

A process is a Python generator that yields between its atomic steps. What it calls of canvaslite is the real code,
which is no generator: it runs in a thread of the process's own (a `Node`), and that thread stands still before each
atomic step (`pause`), until the model lets it go on, or kills it. Only one of all these threads ever runs: a schedule
is all that decides, and the same one is the same run.

A killed process does nothing more: whatever it would still do, in its ``except`` and ``finally`` too, raises `Killed`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

#: What the model may tell a process that stands before a step.
GO, FAIL, LOSE = 'go', 'fail', 'lose'


class Killed(BaseException):
    """The process that runs into this is dead."""


class Died(Exception):
    """What the process's parent sees of that."""


class _Here(threading.local):
    node: Node | None = None


_here = _Here()


def here() -> Node | None:
    """The node whose thread this is; None outside the model, as for whoever checks what came of it."""
    return _here.node


def pause(step: str) -> str:
    """Stand still before a step. What the model says about it: GO, or FAIL (nothing happens but an error), or LOSE (it
    happens, but the answer does not come)."""
    return GO if _here.node is None else _here.node.pause(step)


def atomic(step: str, error: Callable[[], BaseException] | None, operation: Callable[..., Any], *args: Any,
           **kwargs: Any) -> Any:
    """Do one atomic step of a process; `error` makes what is raised when the model wants it to fail."""
    order = pause(step)
    if order == FAIL and error is not None:
        raise error()
    done = operation(*args, **kwargs)
    if order == LOSE and error is not None:
        raise error()
    return done


class Node:
    """One operating-system process: an app with caches and connections of its own, and a thread."""

    def __init__(self, name: str, app: Any, begin: Callable[[], Any]) -> None:
        self.name, self.app = name, app
        #: What `begin` made in the node's thread: what runs its jobs.
        self.executor: Any = None
        self.killed = False
        #: Whether it does several steps at a stretch; after how many changes it dies then, if it is to.
        self.stretched = False
        self.fuse: int | None = None
        #: Whether its thread stands before a step.
        self.busy = False
        #: The run of a task whose outcome it is recording.
        self.run_now: Any = None
        #: Messages that it has written and that are not known to be at the broker.
        self.unconfirmed: list[Any] = []
        self._order = GO
        self._work: Callable[[], Any] | None = begin
        self._said: tuple[str, Any] = ('', None)
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._switch()
        assert self._said[0] == 'returned', self._said
        self.executor = self._said[1]

    def _serve(self) -> None:
        while True:
            self._go.acquire()
            work, self._work = self._work, None
            if work is None:
                return
            try:
                self._said = 'returned', work()
            except Killed:
                self._said = 'killed', None
            except BaseException as exc:
                self._said = 'raised', exc
            del work
            _here.node = self  # (from now on: how it begins is no part of a schedule)
            self._back.release()

    def _switch(self) -> None:
        """Let the thread go on up to its next step, or the end of its work."""
        self._go.release()
        self._back.acquire()

    def pause(self, step: str) -> str:
        """See `pause`. In the node's own thread."""
        if self.killed:
            raise Killed
        if self.stretched:
            return GO
        self._said = 'paused', step
        self._back.release()
        self._go.acquire()
        if self.killed:
            raise Killed
        order, self._order = self._order, GO
        return order

    @contextmanager
    def at_a_stretch(self) -> Iterator[None]:
        """Nobody else comes between what is done within ``with``. In the node's own thread."""
        before, self.stretched = self.stretched, True
        try:
            yield
        finally:
            self.stretched = before

    def burn(self) -> None:
        """Here the process may die at a stretch: see `fuse`. In the node's own thread."""
        if self.killed:
            raise Killed
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.killed = True
                raise Killed

    def run(self, work: Callable[[], Any]) -> Generator[str, str | None, Any]:
        """Do `work` in this process, as a generator of its steps; what is sent to it is the order for the step."""
        self._work, self.busy = work, True
        self._switch()
        while self._said[0] == 'paused':
            self._order = (yield self._said[1]) or GO
            self._switch()
        self.busy, self.fuse = False, None
        how, value = self._said
        if how == 'killed':
            self.killed = False
            raise Died
        if how == 'raised':
            raise value
        return value

    def kill(self) -> None:
        """Kill the process; another one, with the same app, may begin in its place."""
        if self.busy:
            self.killed = True
            self._switch()
            assert self._said[0] != 'paused'
            self.killed = self.busy = False
        self.run_now, self.fuse = None, None

    def close(self) -> None:
        """End the thread."""
        self.kill()
        self._work = None
        self._go.release()


class Clock:
    """Stands where canvaslite's modules have the module `time`. It moves when the model says so."""

    def __init__(self, passes: Callable[[float], None]) -> None:
        self._passes = passes
        self.now = time.time()
        self.passed = 0.0

    def begin(self) -> None:
        """Begin a schedule: now it is what the servers think it is."""
        self.now, self.passed = time.time(), 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass, at the servers too."""
        self.now += seconds
        self.passed += seconds
        self._passes(seconds)

    def time(self) -> float:
        """As `time.time`."""
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        """Nobody waits for real."""
        pause('sleep')
        self.advance(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
