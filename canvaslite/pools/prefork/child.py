"""The child's side of the prefork pool: read jobs, run them, report.

Reports of short runs are held back for a moment and written together: nothing depends on them, because
the parent sees on the shared page what was started and ended. They are written at once when there is nothing
more to do, when a run was not short, and when one of them has something to tell.

Signals: INT and TERM come to the whole process group or control group when the worker is asked to stop, which is
the parent's business, so they are ignored; TERM ends the process only when the parent marked the running job for
it, by `SystemExit` in the task's own code, which so lets go of what it holds. USR1 raises `SoftTimeLimitExceeded` in
the job that it was meant for, and only in the task's own code.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from billiard.exceptions import SoftTimeLimitExceeded

from canvaslite.execution.entry import Executor
from canvaslite.execution.outcome import Kind
from canvaslite.execution.tracer import user_code
from canvaslite.pools.base import Preparation
from canvaslite.pools.prefork import frames
from canvaslite.pools.prefork.shared import SharedPage
from canvaslite.protocol.job import Job
from canvaslite.utils.process import die_with_parent, reseed_random

logger = logging.getLogger('celery.pools.prefork')

#: A run is short when it took less than this many seconds.
SHORT = 0.001
#: How many reports, and for how many seconds, are held back at most.
HELD_REPORTS, HELD_SECONDS = 8, 0.004
#: Seconds after which a spawned process is killed whose interpreter does not end, as where a thread does not.
PARTING = 5

_RESET = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGQUIT, signal.SIGUSR2, signal.SIGCHLD)


class ChildProgram(NamedTuple):
    """A child's life: `release` closes what it inherited and does not need, `theirs` is its parent's end of the socket;
    a child that is spawned inherits nothing."""

    sock: socket.socket
    page: SharedPage
    preparation: Preparation
    index_of_child: int
    release: Callable[[], None] | None
    theirs: socket.socket | None
    max_tasks: int | None
    max_memory: int | None

    def __call__(self) -> None:
        """Run until told to end. The exit code is 0, or that of a task that ended the process."""
        if self.release is not None and self.theirs is not None:
            self.release()
            self.theirs.close()
        die_with_parent()
        reseed_random()
        gc.enable()
        loop = JobLoop(self.sock, self.page, self.max_tasks or sys.maxsize, self.max_memory)
        loop.install_signals()
        code = 0
        try:
            loop.run(self.preparation.enter(self.index_of_child))
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            logger.debug('The parent is gone: process %s ends.', os.getpid())
        except BaseException:
            logger.critical('Process %s ends because of an error.', os.getpid(), exc_info=True)
            code = 1
        finally:
            self.preparation.leave(code)
            if self.release is None:
                # The system closes it when the process is gone: what ends with the interpreter (atexit) has its time.
                self.sock.detach()
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(PARTING)
        sys.exit(code)


class JobLoop:
    """Runs the jobs that come over the socket, one after the other."""

    def __init__(self, sock: socket.socket, page: SharedPage, max_tasks: int, max_memory: int | None) -> None:
        self.sock = sock
        self.page = page
        self.left = max_tasks
        self.max_memory = max_memory
        self.running = 0
        #: The job that TERM has ended: its ``finally`` is not interrupted by another.
        self.ending = 0
        self.held: list[bytes] = []
        self.held_since = 0.0
        self.last_was_short = False

    def install_signals(self) -> None:
        for signum in _RESET:
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGUSR1, self._on_usr1)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        if self.running and self.page.terminated == self.running != self.ending:
            self.ending = self.running
            if user_code.running:
                raise SystemExit(128 + signum)
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _on_usr1(self, signum: int, frame: FrameType | None) -> None:
        if user_code.running and self.running and self.page.soft_limited == self.running:
            raise SoftTimeLimitExceeded()

    def run(self, runner: Executor) -> None:
        """Run jobs until the closing frame, the last task or too much memory. Raises `EOFError` without a parent."""
        self.sock.sendall(frames.encode_report(frames.READY, 0))
        read = frames.JobReader(self.sock).read
        try:
            while self.left > 0:
                for seq, job in read():
                    if job is None or self.left <= 0:
                        return
                    self._run_job(runner, seq, job)
                self._flush()
        finally:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent reads the shared page
                self._flush()

    def _run_job(self, runner: Executor, seq: int, job: Job) -> None:
        start = time.monotonic()
        if not self.page.start(seq, start):
            self._hold(frames.encode_report(frames.READY, seq), start)
            return
        self.running = seq
        outcome = runner.run(job, self._on_read)
        self.running = 0
        kind = outcome.kind
        self.page.finish(seq, kind)
        end = time.monotonic()
        elapsed = end - start
        note = outcome.note
        self._hold(frames.encode_report(frames.FINISHED, seq, kind, outcome.runtime, elapsed, note), end)
        self.last_was_short = elapsed < SHORT
        self.left -= kind is not Kind.SWEPT
        if self.max_memory:
            self._check_memory()
        if note or len(self.held) >= HELD_REPORTS or end - self.held_since > HELD_SECONDS:
            self._flush()

    def _on_read(self) -> None:
        self.page.read = self.running
        if not self.last_was_short:
            self._hold(frames.encode_report(frames.STARTED, self.running), time.monotonic())
            self._flush()

    def _check_memory(self) -> None:
        used: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if sys.platform == 'darwin':  # bytes there, KiB elsewhere
            used //= 1024
        if self.max_memory is not None and used > self.max_memory:
            logger.warning('Process %s ends: it uses %s KiB, more than the limit of %s KiB.',
                           os.getpid(), used, self.max_memory)
            self.left = 0

    def _hold(self, report: bytes, now: float) -> None:
        if not self.held:
            self.held_since = now
        self.held.append(report)

    def _flush(self) -> None:
        if self.held:
            data = b''.join(self.held)
            self.held.clear()
            self.sock.sendall(data)
