"""`Health`: notices the processes of a prefork pool that have died, hang before they are ready, do not answer, or were
stopped, and has them replaced. What hangs inside a task is a matter of the task's hard time limit."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from canvaslite.pools.prefork.child import logger
from canvaslite.pools.prefork.handle import ChildHandle

if TYPE_CHECKING:
    from canvaslite.pools.prefork.pool import PreforkPool

#: Seconds between two looks. A dead process is mostly known before by its socket, unless a grandchild holds that.
INTERVAL = 1.0
#: At so many looks one after the other a process is stopped (SIGSTOP): who stops us as well stops these looks.
STOPPED_LOOKS = 5
#: Seconds that a process has more to be ready if it is spawned, and imports what a forked one has.
IMPORTING = 30.0


class Health:
    """Looks at the processes of `pool`; `timeout` is how many seconds one may take to be ready, or to answer."""

    def __init__(self, pool: PreforkPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._timer: Any = None

    def start(self, hub: Any) -> None:
        self._timer = hub.call_repeatedly(INTERVAL, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        for child in list(self._pool.children):
            if child.process.exitcode is not None:
                self._pool.read_reports(child)
                if child in self._pool.children:
                    self._pool.bury(child)
            elif not child.ailment:
                child.ailment = self._examine(child)
                if child.ailment:
                    logger.error('Process %r pid:%s %s: it is replaced.', child.process.name, child.pid, child.ailment)
                    child.send_signal(signal.SIGKILL)

    def _examine(self, child: ChildHandle) -> str:
        """What is wrong with it, if anything is."""
        child.stopped_looks = child.stopped_looks + 1 if is_stopped(child.pid) else 0
        if child.stopped_looks >= STOPPED_LOOKS:
            return f'has been stopped (SIGSTOP) for {STOPPED_LOOKS * INTERVAL:.0f} seconds'
        now, timeout = time.monotonic(), self._timeout
        more = 0.0 if self._pool.context.get_start_method() == 'fork' else IMPORTING
        if timeout and not child.ready and now - child.born > timeout + more:
            return f'was not ready within {timeout + more} seconds (worker_proc_alive_timeout)'
        if timeout and child.stalled and not child.page.running() and now - child.given_at > timeout:
            return f'has not taken up its tasks for {timeout} seconds (worker_proc_alive_timeout)'
        return ''


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal, not by a debugger; False where the system does not tell."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as stat:
            return stat.read().rpartition(b')')[2].split()[0] == b'T'
    except OSError:
        return False
