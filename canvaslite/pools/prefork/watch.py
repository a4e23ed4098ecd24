"""`Watch`: looks at the children's shared pages for what they did not report, and keeps the time limits."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from canvaslite.pools.prefork.handle import ChildHandle

if TYPE_CHECKING:
    from canvaslite.pools.prefork.pool import PreforkPool

#: Seconds between two looks, while there is something to look for.
INTERVAL = 0.01
#: Seconds after which what was sent ahead of a running task goes to others.
STALL = 0.01
#: Seconds after which a child that did not take up its jobs is taken for stopped.
UNRESPONSIVE = 0.1
#: Seconds of work that a busy child is sent at most.
AHEAD_SECONDS = 0.004
#: Seconds between two checks for children that ended without their socket being closed (a grandchild may hold it).
REAP_INTERVAL = 1.0


class Watch:
    """Runs on a timer only while a child has jobs that it is not known to have started or that it was sent ahead."""

    def __init__(self, pool: PreforkPool) -> None:
        self.pool = pool
        self._timer: Any = None
        self._reaper: Any = None

    def start(self, hub: Any) -> None:
        self._reaper = hub.call_repeatedly(REAP_INTERVAL, self._bury_dead)

    def stop(self) -> None:
        for timer in (self._timer, self._reaper):
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Jobs were sent: look soon."""
        if self._timer is None:
            self._timer = self.pool.hub.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = None
        if [child for child in self.pool.children if child.inflight and self._inspect(child)]:
            self.wake()

    def _inspect(self, child: ChildHandle) -> bool:
        """Catch up with what `child` did; whether there is more to watch for."""
        page = child.page
        running = page.running()
        if running:
            # Reports with something to tell were written before this job started: read them first.
            self.pool.read_reports(child)
            if child not in self.pool.children:
                return False
            for seq in [seq for seq in child.inflight if seq < running]:
                self.pool.settle(child, seq, page.kind(seq))
            self.announce(child, running)
        if not any(child.unstarted()):
            return not running and bool(child.inflight)
        if running:
            if page.running_for() > STALL:
                child.load = max(child.load, AHEAD_SECONDS)
                self.take_back(child)
        elif time.monotonic() - child.given_at > UNRESPONSIVE:
            child.stalled = self.take_back(child)
        return bool(child.inflight)

    def take_back(self, child: ChildHandle, patience: float = 0.0) -> bool:
        """Put what `child` did not start before all that waits; False when it cannot be had within `patience`."""
        deadline = time.monotonic() + patience
        taken = child.take_back()
        while taken is None and time.monotonic() < deadline:
            time.sleep(0.0005)
            taken = child.take_back()
        if not taken:
            return taken is not None
        self.pool.waiting.extendleft(reversed(taken))
        if not child.inflight:
            child.load = 0.0
        return True

    def announce(self, child: ChildHandle, seq: int) -> None:
        """Tell the listener, once, that job `seq` runs, and start the clocks of its limits."""
        known = child.inflight.get(seq)
        if known is None or child.announced == seq:
            return
        child.announced = seq
        request = known[0]
        started_at = child.page.started_at
        if request.limits is not None:
            self._set_timers(child, seq, request, started_at)
        self.pool.listener.on_started(request, child.pid, started_at)

    def _set_timers(self, child: ChildHandle, seq: int, request: Any, started_at: float) -> None:
        hard, soft = request.limits
        hub = self.pool.hub
        if soft:
            child.timers.append(hub.call_at(started_at + soft, self._on_soft_limit, child, seq, request, soft))
        if hard:
            child.timers.append(hub.call_at(started_at + hard, self._on_hard_limit, child, seq, hard))

    def _on_soft_limit(self, child: ChildHandle, seq: int, request: Any, limit: float) -> None:
        if child.page.running() == seq:
            child.page.mark_soft_limit(seq)
            child.send_signal(signal.SIGUSR1)
            self.pool.listener.on_timeout(request, True, limit)

    def _on_hard_limit(self, child: ChildHandle, seq: int, limit: float) -> None:
        if child.page.running() == seq:
            child.fate = limit
            child.send_signal(signal.SIGKILL)

    def _bury_dead(self) -> None:
        for child in [child for child in self.pool.children if child.process.exitcode is not None]:
            self.pool.read_reports(child)
            if child in self.pool.children:
                self.pool.bury(child)
