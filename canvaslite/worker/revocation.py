"""Revoked tasks: their ids, a bounded number of them for a bounded time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from canvaslite.utils.functional import maybe_list

__all__ = ('LimitedSet', 'is_stamp_revoked')

#: Most ids remembered, and for how many seconds; Celery's variables.
REVOKES_MAX = int(os.environ.get('CELERY_WORKER_REVOKES_MAX') or 50000)
REVOKE_EXPIRES = float(os.environ.get('CELERY_WORKER_REVOKE_EXPIRES') or 10800)


class LimitedSet:
    """A set that forgets its oldest members when there are more than `maxlen`, and each after `expires` seconds."""

    def __init__(self, maxlen: int = REVOKES_MAX, expires: float = REVOKE_EXPIRES) -> None:
        self.maxlen = maxlen
        self.expires = expires
        self._added: dict[Any, float] = {}

    def add(self, item: Any) -> None:
        """Add `item`, or make it the youngest."""
        self._added.pop(item, None)
        self._added[item] = time.monotonic()
        while len(self._added) > self.maxlen:
            del self._added[next(iter(self._added))]

    def update(self, items: Iterable[Any]) -> None:
        for item in items:
            self.add(item)

    def discard(self, item: Any) -> None:
        self._added.pop(item, None)

    def purge(self) -> None:
        """Forget what has expired."""
        oldest = time.monotonic() - self.expires
        while self._added:
            item = next(iter(self._added))
            if self._added[item] >= oldest:
                return
            del self._added[item]

    def clear(self) -> None:
        self._added.clear()

    def __contains__(self, item: object) -> bool:
        added = self._added.get(item)
        return added is not None and added >= time.monotonic() - self.expires

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._added))

    def __len__(self) -> int:
        return len(self._added)


def is_stamp_revoked(stamps: dict[str, Any], revoked: dict[str, list[Any]]) -> bool:
    """Whether one of a task's `stamps` has a value that is revoked for its header."""
    return any(value in revoked[name] for name, values in stamps.items() if name in revoked
               for value in maybe_list(values) or ())
