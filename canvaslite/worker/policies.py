"""`Policies`: what the worker's parent has to know of each task, looked up once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from kombu.utils.limits import TokenBucket

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.pools.base import Pace
from canvaslite.utils.functional import either

_SECONDS = {'s': 1, 'm': 60, 'h': 3600}


def parse_rate(rate: Any) -> float:
    """Tasks per second of a limit like ``10``, ``'10/s'``, ``'100/m'``, ``'1/h'``; 0 for none. Raises `ValueError`."""
    if not rate:
        return 0.0
    count, _, unit = str(rate).partition('/')
    if (unit or 's') not in _SECONDS:
        raise ValueError(f'invalid rate limit {rate!r}: the unit is one of s, m, h')
    if not 0 <= float(count) < float('inf'):
        raise ValueError(f'invalid rate limit {rate!r}: it is a number from 0 on')
    return float(count) / _SECONDS[unit or 's']


def parse_limit(seconds: Any) -> float | None:
    """A time limit in seconds, which may be given as text; None for none. Raises `ValueError`."""
    if isinstance(seconds, str):
        seconds = float(seconds)
    if seconds is not None and (not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not seconds >= 0):
        raise ValueError(f'invalid time limit {seconds!r:.100}: it is a number of seconds from 0 on')
    return seconds


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

    def withdraw(self, unwanted: Callable[[Any], bool]) -> list[Any]:
        """Take out what waits and is `unwanted`."""
        taken = [request for request in self.waiting if unwanted(request)]
        self.waiting = deque(request for request in self.waiting if not unwanted(request))
        return taken


class Policy(Pace):
    """What one task wishes: when to acknowledge, its limits, and its pace."""

    __slots__ = ('acks_late', 'acks_on_failure', 'acks_on_timeout', 'bucket', 'count', 'limits', 'name',
                 'reject_on_worker_lost', 'task')

    def __init__(self, task: Any, name: str, hard: float | None, soft: float | None, rate_limited: bool) -> None:
        super().__init__()
        self.task = task
        self.name = name
        #: How many of them ended here.
        self.count = 0
        self.read(hard, soft, rate_limited)

    def read(self, hard: float | None, soft: float | None, rate_limited: bool) -> None:
        """Take over the task's options as they are now; `hard` and `soft` are the worker's own time limits."""
        task = self.task
        acks = either(getattr(task, 'acks_on_failure_or_timeout', None), True)
        self.acks_late = bool(getattr(task, 'acks_late', False))
        self.acks_on_failure = bool(either(getattr(task, 'acks_on_failure', None), acks))
        self.acks_on_timeout = bool(either(getattr(task, 'acks_on_timeout', None), acks))
        self.reject_on_worker_lost = bool(getattr(task, 'reject_on_worker_lost', False)
                                          and not getattr(task, 'retry_on_worker_lost', False))
        try:
            hard = parse_limit(getattr(task, 'time_limit', None)) or hard
            soft = parse_limit(getattr(task, 'soft_time_limit', None)) or soft
            rate = parse_rate(getattr(task, 'rate_limit', None)) if rate_limited else 0.0
        except ValueError as exc:
            raise ImproperlyConfigured(f'Task {self.name}: {exc}') from None
        self.limits = (hard, soft) if hard or soft else None
        self.bucket = Bucket(rate) if rate else None

    def limits_of(self, timelimit: Any) -> tuple[float | None, float | None] | None:
        """The limits of a message with this ``timelimit`` header. Raises `ValueError` when it is no pair of numbers."""
        if timelimit is None or timelimit in _NO_LIMITS:
            return self.limits
        if not isinstance(timelimit, (list, tuple)) or len(timelimit) != 2:
            raise ValueError(f'timelimit is {timelimit!r:.100}, not a pair of numbers, or None, from 0 on')
        own_hard, own_soft = self.limits or (None, None)
        hard, soft = parse_limit(timelimit[0]) or own_hard, parse_limit(timelimit[1]) or own_soft
        return (hard, soft) if hard or soft else None


_NO_LIMITS: tuple[Any, ...] = ([None, None], (None, None))


class Policies:
    """The policies by task name, made from a registry of tasks when they are first asked for."""

    def __init__(self, tasks: Mapping[str, Any], hard: float | None = None, soft: float | None = None,
                 rate_limited: bool = True) -> None:
        self.tasks = tasks
        self.hard = hard
        self.soft = soft
        self.rate_limited = rate_limited
        self.known: dict[str, Policy] = {}

    def find(self, name: str) -> Policy | None:
        """The policy of the task called `name`; None when there is no such task."""
        policy = self.known.get(name)
        if policy is None:
            task = self.tasks.get(name)
            if task is not None:
                policy = self.known[name] = Policy(task, name, self.hard, self.soft, self.rate_limited)
        return policy

    def unknown(self, name: str) -> Policy:
        """A policy for a task that is not known here: nothing is acknowledged before it is refused."""
        policy = Policy(None, name, None, None, False)
        policy.acks_late = True
        return policy

    def refresh(self) -> None:
        """Read the tasks' options again: remote control has changed one, or a task was made anew."""
        for policy in self.known.values():
            policy.task = self.tasks.get(policy.name, policy.task)
            policy.read(self.hard, self.soft, self.rate_limited)

    def empty_buckets(self, unwanted: Callable[[Any], bool] = lambda request: True) -> list[Any]:
        """Take out the requests that wait for a rate limit, or those of them that are `unwanted`."""
        return [request for policy in self.known.values() if policy.bucket is not None
                for request in policy.bucket.withdraw(unwanted)]

    def counts(self) -> dict[str, int]:
        """How many tasks ended here, by name."""
        return {name: policy.count for name, policy in self.known.items() if policy.count}
