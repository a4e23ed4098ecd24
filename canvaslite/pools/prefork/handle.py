"""`ChildHandle`: the parent's view of one child process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from billiard.common import human_status
from billiard.context import BaseContext

from canvaslite.pools.base import Preparation
from canvaslite.pools.prefork import frames
from canvaslite.pools.prefork.child import ChildProgram
from canvaslite.pools.prefork.shared import SharedPage
from canvaslite.pools.prefork.spawning import SpawnedPreparation

#: Bytes that may wait to be written to a child; it is given no further jobs while there are more.
OUT_LIMIT = 1 << 20


class ChildHandle:
    """One child. `inflight` has what it was sent, in order: (request, assumed cost in seconds) by sequence number."""

    def __init__(self, context: BaseContext, index: int) -> None:
        self.index = index
        self.page = SharedPage(context)
        self.process: Any = None
        self.sock: socket.socket
        self.inflight: dict[int, tuple[Any, float]] = {}
        self.seq = 0
        self.load = 0.0
        self.left: float = float('inf')
        self.out: list[bytes] = []
        self.partial = memoryview(b'')
        #: A second descriptor for the loop to wait on for writing: kombu's loop knows one use of each descriptor.
        self.writable: socket.socket | None = None
        self.rest = b''
        #: Its preparation is done; it ignores nothing.
        self.ready = False
        #: It was sent jobs and did not take them up; they went to others.
        self.stalled = False
        #: It is to end when it is idle, and whether another is to take its place.
        self.closing = False
        self.replaced = True
        #: The job that the listener was told has started; that of which there are timers; these.
        self.announced = 0
        self.timed = 0
        self.timers: list[Any] = []
        #: Why we killed it: the hard time limit in seconds.
        self.fate: float | None = None
        #: Why we killed it: what `health.Health` found; and at how many looks on end it was stopped.
        self.ailment = ''
        self.stopped_looks = 0
        self.given_at = 0.0
        self.born = time.monotonic()

    def fork(self, context: Any, preparation: Preparation, release: Callable[[], None], max_tasks: int | None,
             max_memory: int | None, name: str) -> None:
        """Start the process."""
        self.sock, theirs = socket.socketpair()
        inherits = context.get_start_method() == 'fork'
        program = ChildProgram(theirs, self.page, preparation if inherits else SpawnedPreparation(preparation),
                               self.index, release if inherits else None, self.sock if inherits else None, max_tasks,
                               max_memory)
        self.left = max_tasks or float('inf')
        self.process = context.Process(target=program, name=name, daemon=True)
        self.process.index = self.index
        self.process.start()
        theirs.close()
        self.sock.setblocking(False)

    @property
    def pid(self) -> int:
        return self.process.pid  # type: ignore[no-any-return]

    @property
    def is_idle(self) -> bool:
        return not self.inflight and self.has_room

    @property
    def has_room(self) -> bool:
        """Whether it may be sent jobs ahead, as far as its state goes."""
        return (self.ready and not self.stalled and not self.closing and self.left > 0
                and len(self.partial) < OUT_LIMIT)

    def give(self, request: Any, cost: float, now: float) -> None:
        """Put a job in the out-buffer."""
        self.seq = seq = self.seq + 1
        self.inflight[seq] = (request, cost)
        self.load += cost
        self.left -= 1
        self.given_at = now
        self.out.append(frames.encode_job(seq, request.job()))

    def write(self) -> bool:
        """Write as much as the child takes without blocking; False when something is left over."""
        if self.out:
            self.partial = memoryview(b''.join((self.partial, *self.out)) if self.partial else b''.join(self.out))
            self.out.clear()
        if not self.partial:
            return True
        try:
            sent = self.sock.send(self.partial)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            # It died; what it was given is found out when its end of the socket reads as closed.
            self.partial = memoryview(b'')
            return True
        self.partial = self.partial[sent:]
        return not self.partial

    def close(self) -> None:
        """Close our end of its socket."""
        self.sock.close()
        if self.writable is not None:
            self.writable.close()
            self.writable = None

    def unstarted(self) -> Iterator[int]:
        """Sequence numbers of the jobs that it did not start, oldest first."""
        started = self.page.started
        return (seq for seq in self.inflight if seq > started)

    def take_back(self) -> list[Any] | None:
        """Requests that it did not start and now never will; None when that cannot be had now."""
        if not self.page.take_back(self.seq):
            return None
        taken = []
        for seq in list(self.unstarted()):
            request, cost = self.inflight.pop(seq)
            self.load -= cost
            self.left += 1
            taken.append(request)
        return taken

    def cancel_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def send_signal(self, signum: int) -> None:
        if self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended between the two
                os.kill(self.pid, signum)

    def reap(self, patience: float = 0.1) -> int:
        """Wait for the process, whose socket is closed, to end; kill it if it does not within `patience` seconds."""
        deadline = time.monotonic() + patience
        while self.process.exitcode is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
            time.sleep(0.001)
        return self.process.exitcode  # type: ignore[no-any-return]

    def describe_exit(self) -> str:
        """How the process ended, for people: ``signal 9 (SIGKILL)``, ``exitcode 1``."""
        return (self.ailment and f'the process {self.ailment}') or str(human_status(self.process.exitcode))
