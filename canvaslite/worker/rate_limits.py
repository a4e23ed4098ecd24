"""Rate limits: a token bucket for each task that has one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from kombu.utils.limits import TokenBucket

__all__ = ('Bucket', 'parse_rate')

_SECONDS = {'s': 1, 'm': 60, 'h': 3600}


def parse_rate(rate: Any) -> float:
    """Tasks per second of a limit like ``10``, ``'10/s'``, ``'100/m'``, ``'1/h'``; 0 for none.

    Raises `ValueError` when it is none of these.
    """
    if not rate:
        return 0.0
    if not isinstance(rate, str):
        return float(rate)
    count, _, unit = rate.partition('/')
    if (unit or 's') not in _SECONDS:
        raise ValueError(f'invalid rate limit {rate!r}: the unit is one of s, m, h')
    return float(count) / _SECONDS[unit or 's']


class Bucket:
    """Holds back the requests of one task so that no more than `rate` of them go on per second."""

    def __init__(self, rate: float) -> None:
        self.tokens = TokenBucket(rate, capacity=1)
        self.waiting: deque[Any] = deque()
        self._timer: Any = None

    def add(self, request: Any, release: Callable[[Any], None], hub: Any) -> None:
        """Call `release(request)` when the limit allows."""
        self.waiting.append(request)
        if self._timer is None:
            self._let_go(release, hub)

    def _let_go(self, release: Callable[[Any], None], hub: Any) -> None:
        self._timer = None
        while self.waiting:
            if not self.tokens.can_consume(1):
                self._timer = hub.call_later(self.tokens.expected_time(1), self._let_go, release, hub)
                return
            release(self.waiting.popleft())

    def clear(self) -> None:
        """Forget the waiting requests."""
        self.waiting.clear()

    def pour_into(self, other: Bucket, release: Callable[[Any], None], hub: Any) -> None:
        """Have what waits here wait in `other`: the limit has changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self.waiting:
            other.add(self.waiting.popleft(), release, hub)
