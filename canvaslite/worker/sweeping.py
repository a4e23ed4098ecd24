"""Looking after chords: every few seconds a process of the pool looks at those that are due.

The parent never touches the result store; such an `errand` goes to the pool as what else there is to run, ahead of it.
"""

from __future__ import annotations

import random
from typing import Any

from canvaslite.protocol.job import AMQP_PROPERTIES, Job, Verdict
from canvaslite.worker.messages import Received
from canvaslite.worker.policies import Policy
from canvaslite.worker.receipts import NoReceipts
from canvaslite.worker.request import Request, Stage

#: Seconds between two sweeps of a worker; each worker's own are a little more or less, so that a fleet spreads them.
INTERVAL, JITTER = 2.0, 0.5
#: Seconds that one is thought to take before it was measured: it may be sent ahead to a busy process.
ASSUMED = 0.001


class NoMessage(Received):
    """Stands where a message would be."""

    __slots__ = ()

    def __init__(self) -> None:
        """It has no receipt either."""
        self.message, self.receipts, self.reader = None, NoReceipts(), None  # type: ignore[assignment]

    def job(self, verdict: Verdict | None) -> Job:
        return Job(AMQP_PROPERTIES, b'', b'', verdict=verdict)

    def shown(self) -> dict[str, str]:
        return {}

    def key(self) -> int:
        return 0


_policy = Policy(None, 'canvaslite.errand', None, None, False)
_policy.mean, _policy.measured = ASSUMED, True


def errand(verdict: Verdict) -> Request:
    """What a pool is to do where there is no message."""
    request = Request(NoMessage(), verdict.kind, _policy, None)
    request.verdict = verdict
    return request


class Sweeper:
    """Has the pool sweep, one sweep at a time."""

    def __init__(self, hub: Any, pool: Any) -> None:
        self._hub = hub
        self._pool = pool
        self._last: Request | None = None
        self._timer: Any = None
        self._wait(JITTER)  # a worker that is killed again and again may never come to a second one

    def _wait(self, seconds: float) -> None:
        self._timer = self._hub.call_later(random.uniform(seconds - JITTER, seconds + JITTER), self._sweep)

    def _sweep(self) -> None:
        self._wait(INTERVAL)
        if self._last is None or self._last.stage is Stage.READY:
            self._last = errand(Verdict('sweep'))
            self._pool.submit_first(self._last)

    def stop(self) -> None:
        """No more sweeps."""
        self._timer.cancel()
