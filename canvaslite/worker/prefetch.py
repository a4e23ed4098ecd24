"""`Prefetch`: how many messages the broker may have out to this worker."""

from __future__ import annotations

from typing import Any

__all__ = ('Prefetch',)

#: The largest count that AMQP can say; 0 says that there is no limit.
_LARGEST = 65535


class Prefetch:
    """A count that is told to the broker at most once per turn of the loop.

    Messages that wait for their ETA do not count: each makes room for another. 0 means no limit, and stays so.
    `limit` bounds what is added for them (`worker_eta_task_limit`).
    """

    def __init__(self, initial: int, limit: int | None = None) -> None:
        self.base = initial
        self.extra = 0
        self.limit = limit
        self.told: int | None = None

    @property
    def value(self) -> int:
        """The count as it should be."""
        if not self.base:
            return 0
        value = self.base + self.extra
        if self.limit is not None:
            value = max(min(value, self.limit), self.base)
        return value if value <= _LARGEST else 0

    def increment(self, n: int = 1) -> None:
        self.extra += n

    def decrement(self, n: int = 1) -> None:
        self.extra = max(self.extra - n, 0)

    def forget(self) -> None:
        """The messages are gone with the connection, and the broker knows nothing of the count any more."""
        self.extra = 0
        self.told = None

    def update(self, tell: Any) -> None:
        """Call `tell(count)` when the broker was told another one."""
        value = self.value
        if value != self.told:
            self.told = value
            tell(value)
