"""Where the records of canvases are kept, so that a run is found by the id of any task of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from canvaslite.result.nodes import CanvasRecord

__all__ = ('CanvasStore', 'Found', 'Spans')

#: A run's id, and its records in the order in which they were kept.
Found = tuple[str, Sequence[bytes]]

#: What is kept for long is kept in so many spans of time, each of which expires as one.
SPANS = 8


class CanvasStore(ABC):
    """The records of one store. Each method is one conversation with it, whatever the number of ids."""

    @abstractmethod
    def keep(self, record: CanvasRecord) -> None:
        """Keep a record with those of its run, which is begun by the first."""

    @abstractmethod
    def find(self, task_id: str) -> Found | None:
        """The run that has a record with this id."""

    @abstractmethod
    def drop(self, run: str, ids: Sequence[str]) -> None:
        """Remove the run, whose records have these ids."""


class Spans:
    """Spans of time, for what is kept for `expires` seconds (None or 0: for ever, in one span)."""

    def __init__(self, expires: float | None) -> None:
        self.expires = expires or 0
        self._length = max(self.expires / SPANS, 1.0)

    def now(self) -> int:
        """The number of the present one."""
        return int(time.time() / self._length) if self.expires else 0

    def known(self) -> list[int]:
        """The numbers of those that may have something in them, the present one first."""
        now = self.now()
        return list(range(now, now - SPANS - 2, -1)) if self.expires else [now]

    @property
    def kept(self) -> int:
        """Seconds after which what is put into the present one has expired; 0 is never."""
        return int(self.expires + self._length + 1) if self.expires else 0
