"""Joining chords on a record that the store locks: for stores in memory and in files.

A store gives `RecordJoin` two things: a lock on one chord's record (`locked`), and the record (`ChordRecord`).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from kombu.utils.uuid import uuid

from canvaslite.backends.chords import (
    BUSY,
    CLAIM_LEASE,
    CLAIMED,
    DONE,
    DONE_KEPT,
    RECORDED,
    ChordJoin,
    Claim,
    Part,
    Report,
)

__all__ = ('ChordHead', 'ChordRecord', 'RecordJoin')

OPEN, HELD, OVER = 'open', 'claimed', 'done'


class ChordHead(NamedTuple):
    """What is known of a chord besides its parts. Times are seconds since 1970."""

    #: Number of parts, None until it is known, and how many were added since.
    size: int | None = None
    extra: int = 0
    #: The body's signature and the header's task ids.
    callback: Any = None
    ids: Any = ()
    #: OPEN, HELD or OVER.
    state: str = OPEN
    #: Who holds the claim, and how often it was given.
    token: str | None = None
    attempts: int = 0
    #: When somebody must look again, and when nobody will miss the record any more (None is never).
    until: float = 0.0
    deadline: float | None = None


class ChordRecord(Protocol):
    """One chord in a store, while its lock is held."""

    def read(self) -> ChordHead | None:
        """The head; None if the store does not know the chord."""

    def write(self, head: ChordHead) -> None:
        """Keep the head."""

    def add(self, slot: str, part: Part) -> None:
        """Keep the part, unless the slot has one."""

    def count(self) -> int:
        """Number of slots."""

    def parts(self) -> list[Part]:
        """All parts, in any order."""

    def clear(self) -> None:
        """Drop the parts."""


class RecordJoin(ChordJoin):
    """Chords as records under a lock. `expires` is in seconds: how long an abandoned chord is kept (0 is for ever)."""

    def __init__(self, expires: float | None) -> None:
        self.expires = expires or 0

    @abstractmethod
    def locked(self, group_id: str, create: bool = False) -> AbstractContextManager[ChordRecord]:
        """The chord's record, and its lock. With `create` a place for it is made."""

    def open(self, group_id: str, size: int | None, callback: Mapping[str, Any], task_ids: Sequence[str]) -> None:
        """A chord begins; what was left under its id is gone."""
        now = time.time()
        with self.locked(group_id, create=True) as record:
            record.clear()
            record.write(ChordHead(size=size, callback=dict(callback), ids=list(task_ids), until=now,
                                   deadline=now + self.expires if self.expires else None))

    def set_size(self, group_id: str, size: int) -> None:
        """The chord has `size` parts."""
        with self.locked(group_id) as record:
            head = record.read()
            if head is not None:
                record.write(head._replace(size=size))

    def extend(self, group_id: str, count: int = 1) -> None:
        """The chord has `count` parts more."""
        with self.locked(group_id) as record:
            head = record.read()
            if head is not None:
                record.write(head._replace(extra=head.extra + count))

    def part(self, part: Part) -> Report:
        """A header task ended."""
        with self.locked(part.group_id) as record:
            head = record.read()
            if head is None:
                # Published by Celery, which joins chords in this store by a task that polls.
                return Report(RECORDED)
            if head.state == OVER:
                return Report(DONE)
            record.add(slot_of(part), part)
            return self._claim(record, self._keep_alive(record, head), part.group_id)

    def _keep_alive(self, record: ChordRecord, head: ChordHead) -> ChordHead:
        now = time.time()
        if head.deadline is None or head.deadline > now + self.expires / 2:
            return head
        head = head._replace(deadline=now + self.expires)
        record.write(head)
        return head

    def _claim(self, record: ChordRecord, head: ChordHead, group_id: str) -> Report:
        now = time.time()
        if head.state == HELD and head.until > now:
            return Report(BUSY)
        if head.size is None or record.count() < head.size + head.extra:
            return Report(RECORDED)
        claim = Claim(group_id, uuid(), head.size + head.extra)
        record.write(head._replace(state=HELD, token=claim.token, until=now + CLAIM_LEASE, attempts=head.attempts + 1))
        return Report(CLAIMED, claim)

    def parts(self, claim: Claim) -> Sequence[Part]:
        """The parts in the order of the header."""
        with self.locked(claim.group_id) as record:
            head, parts = record.read(), record.parts()
        if all(part.place is not None for part in parts):
            return sorted(parts, key=lambda part: part.place or 0)
        places = {task_id: place for place, task_id in enumerate(head.ids if head is not None else ())}
        return sorted(parts, key=lambda part: places.get(part.task_id, len(places)))

    def renew(self, claim: Claim, seconds: float) -> bool:
        """Hold the claim for `seconds` from now."""
        return self._change_held(claim, until=time.time() + seconds)

    def release(self, claim: Claim) -> None:
        """Give the claim back."""
        self._change_held(claim, state=OPEN, token=None, until=time.time())

    def finish(self, claim: Claim) -> bool:
        """The body is out: drop the parts, keep that it is done."""
        kept = time.time() + max(self.expires, DONE_KEPT)
        return self._change_held(claim, clear=True, state=OVER, callback=None, ids=(), until=kept, deadline=kept)

    def _change_held(self, claim: Claim, clear: bool = False, **changes: Any) -> bool:
        with self.locked(claim.group_id) as record:
            head = record.read()
            if head is None or head.state != HELD or head.token != claim.token:
                return False
            record.write(head._replace(**changes))
            if clear:
                record.clear()
            return True


def slot_of(part: Part) -> str:
    """What identifies the part: a header task in its place."""
    return f'{part.task_id}:{"" if part.place is None else part.place}'
