"""`State`: what a worker remembers while it runs: its requests, its counts, what is revoked."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from typing import Any

from canvaslite.version import __version__
from canvaslite.worker.request import Request, Stage
from canvaslite.worker.revocation import LimitedSet, is_stamp_revoked

__all__ = ('SOFTWARE_INFO', 'State')

#: What a worker says of itself in events and to its neighbours.
SOFTWARE_INFO = {'sw_ident': 'canvaslite', 'sw_ver': __version__, 'sw_sys': platform.system()}


class State:
    """The requests of one worker, in the order in which they came in, and what is revoked."""

    def __init__(self) -> None:
        self._held: dict[Request, None] = {}
        self.revoked = Revoked()

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
        """Whether `request` was revoked, by its id or one of its stamps."""
        if request.id in self.revoked:
            return True
        return bool(self.revoked.stamps) and is_stamp_revoked(request.stamps, self.revoked.stamps)

    def __len__(self) -> int:
        return len(self._held)


class Revoked(LimitedSet):
    """The ids of revoked tasks, and revoked values of stamped headers. True when there is anything in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps: dict[str, list[Any]] = {}

    def revoke_stamps(self, headers: dict[str, Any]) -> None:
        """Revoke all tasks with one of these values in one of these stamped headers."""
        for name, values in headers.items():
            self.stamps.setdefault(name, []).extend(values if isinstance(values, (list, tuple, set)) else [values])

    def __bool__(self) -> bool:
        return bool(self._added) or bool(self.stamps)
