"""`State`: what a worker remembers while it runs: its requests, its counts, what is revoked."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from canvaslite.utils.functional import maybe_list
from canvaslite.worker.request import Request, Stage

#: Most ids remembered, and for how many seconds; Celery's variables.
REVOKES_MAX = int(os.environ.get('CELERY_WORKER_REVOKES_MAX') or 50000)
REVOKE_EXPIRES = float(os.environ.get('CELERY_WORKER_REVOKE_EXPIRES') or 10800)
SUCCESSFUL_MAX = int(os.environ.get('CELERY_WORKER_SUCCESSFUL_MAX') or 1000)


class LimitedSet:
    """A set that forgets its oldest members when there are more than `maxlen`, and each after `expires` seconds."""

    def __init__(self, maxlen: int = REVOKES_MAX, expires: float = REVOKE_EXPIRES) -> None:
        self.maxlen = maxlen
        self.expires = expires
        self._added: dict[Any, float] = {}
        #: Called when something was added.
        self.on_change: Callable[[], object] = bool

    def add(self, item: Any) -> None:
        """Add `item`, or make it the youngest."""
        self._added.pop(item, None)
        self._added[item] = time.monotonic()
        while len(self._added) > self.maxlen:
            del self._added[next(iter(self._added))]
        self.on_change()

    def update(self, items: Iterable[Any]) -> None:
        for item in items:
            self.add(item)

    def purge(self) -> None:
        """Forget what has expired."""
        oldest = time.monotonic() - self.expires
        while self._added:
            item = next(iter(self._added))
            if self._added[item] >= oldest:
                return
            del self._added[item]

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


class State:
    """The requests of one worker, in the order in which they came in, and what is revoked."""

    def __init__(self) -> None:
        global revoked, revoked_stamps, successful_requests
        self._held: dict[Request, None] = {}
        self.revoked = revoked = Revoked()
        revoked_stamps = revoked.stamps
        #: The ids of the last that succeeded.
        self.successful = successful_requests = deque(maxlen=SUCCESSFUL_MAX)

    def hold(self, request: Request) -> None:
        """A request came in."""
        self._held[request] = None

    def let_go(self, request: Request) -> None:
        """The request is done with, here."""
        request.stage = Stage.READY
        self._held.pop(request, None)
        if request.timer is not None:
            request.timer.cancel()
            request.timer = None

    def requests(self, stage: Stage | None = None) -> list[Request]:
        """The requests at `stage`, or all."""
        return [request for request in self._held if stage is None or request.stage is stage]

    def find(self, ids: Iterable[str]) -> Iterator[Request]:
        """The requests with these ids."""
        wanted = set(ids)
        return (request for request in list(self._held) if request.id in wanted)

    def is_revoked(self, request: Request) -> bool:
        """Whether `request` was revoked, by its id, that of the first task of its run, or one of its stamps."""
        if request.id in self.revoked or (self.revoked.roots and request.root_id in self.revoked.roots):
            return True
        return bool(self.revoked.stamps) and is_stamp_revoked(request.stamps, self.revoked.stamps)

    def __len__(self) -> int:
        return len(self._held)


class Revoked(LimitedSet):
    """The ids of revoked tasks, of first tasks of revoked runs, and revoked values of stamped headers; true if any."""

    def __init__(self) -> None:
        super().__init__()
        self.roots = LimitedSet()
        self.stamps: dict[str, list[Any]] = {}

    def revoke_stamps(self, headers: dict[str, Any]) -> None:
        """Revoke all tasks with one of these values in one of these stamped headers."""
        for name, values in headers.items():
            self.stamps.setdefault(name, []).extend(values if isinstance(values, (list, tuple, set)) else [values])
        self.on_change()

    def __bool__(self) -> bool:
        return bool(self._added or self.stamps or self.roots)


#: What the worker that was made last in this process remembers, by Celery's names.
revoked = Revoked()
revoked_stamps = revoked.stamps
successful_requests: deque[str] = deque(maxlen=SUCCESSFUL_MAX)
