"""The chord join of `chords`, for stores that can lock a chord's record: memory, files, SQL.

A store gives `RecordJoin` one thing: to do something with a chord's record (`ChordRecord`) as one atomic step. What is
to be done is here, once for all of them.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

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

T = TypeVar('T')


class ChordHead(NamedTuple):
    """What is known of a chord besides its parts. Times are seconds since 1970."""

    #: Number of parts, None until it is known, and how many were added since.
    size: int | None = None
    extra: int = 0
    #: OPEN, HELD or OVER.
    state: str = OPEN
    #: Who holds the claim, and how often it was given.
    token: str | None = None
    attempts: int = 0
    #: When somebody must look again, and when nobody will miss the record any more (None is never).
    until: float = 0.0
    deadline: float | None = None


class ChordRecord(Protocol):
    """One chord in a store, within one atomic step."""

    def read(self) -> ChordHead | None:
        """The head; None if the store does not know the chord. Who has read it is alone with the chord."""

    def begin(self, head: ChordHead, callback: Mapping[str, Any], ids: list[str]) -> None:
        """Make the record, or make it anew without parts. `callback` is the body's signature, `ids` the header's."""

    def write(self, head: ChordHead) -> None:
        """Keep the head of a record that is there."""

    def add(self, part: Part) -> None:
        """Keep the part, unless its slot (its task and place) has one."""

    def count(self) -> int:
        """Number of slots that have a part."""

    def parts(self) -> list[Part]:
        """All parts, in any order."""

    def ids(self) -> list[str]:
        """What `begin` was given."""

    def clear(self) -> None:
        """Drop all but the head."""


class RecordJoin(ChordJoin):
    """Chords as records. `expires` is in seconds: how long an abandoned chord is kept (None and 0 are for ever)."""

    def __init__(self, expires: float | None) -> None:
        self.expires = expires or 0

    @abstractmethod
    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` as one atomic step. It may be done twice if the store does not say how it ended."""

    def open(self, group_id: str, size: int | None, callback: Mapping[str, Any], task_ids: Sequence[str]) -> None:
        """A chord begins; what was left under its id is gone."""
        now = time.time()
        head = ChordHead(size=size, until=now, deadline=now + self.expires if self.expires else None)
        self.step(group_id, self._begin, head, dict(callback), list(task_ids))

    def _begin(self, record: ChordRecord, head: ChordHead, callback: Mapping[str, Any], ids: list[str]) -> None:
        record.begin(head, callback, ids)

    def set_size(self, group_id: str, size: int) -> None:
        """The chord has `size` parts."""
        self.step(group_id, self._set_size, size)

    def _set_size(self, record: ChordRecord, size: int) -> None:
        head = record.read()
        if head is not None:
            record.write(head._replace(size=size))

    def extend(self, group_id: str, count: int = 1) -> None:
        """The chord has `count` parts more."""
        self.step(group_id, self._extend, count)

    def _extend(self, record: ChordRecord, count: int) -> None:
        head = record.read()
        if head is not None:
            record.write(head._replace(extra=head.extra + count))

    def part(self, part: Part) -> Report:
        """A header task ended."""
        return self.step(part.group_id, self.count, part, uuid())

    def count(self, record: ChordRecord, part: Part, token: str) -> Report:
        """Record the part; claim the chord under `token` if it is complete and nobody holds it."""
        head = record.read()
        if head is None:
            # Published by Celery, which joins chords in this store by a task that polls: it needs no part from us.
            return Report(RECORDED)
        if head.state == OVER:
            return Report(DONE)
        record.add(part)
        now, size = time.time(), (head.size or 0) + head.extra
        claimed = Report(CLAIMED, Claim(part.group_id, token, size))
        if head.state == HELD and head.until > now:
            # The same token: our own claim, made by a step whose end the store did not get to tell us.
            return claimed if head.token == token else Report(BUSY)
        if head.size is not None and record.count() >= size:
            record.write(head._replace(state=HELD, token=token, until=now + CLAIM_LEASE, attempts=head.attempts + 1))
            return claimed
        if head.deadline is not None and head.deadline < now + self.expires / 2:
            # Not abandoned: a part has come.
            record.write(head._replace(deadline=now + self.expires))
        return Report(RECORDED)

    def parts(self, claim: Claim) -> Sequence[Part]:
        """The parts in the order of the header."""
        return self.step(claim.group_id, self._parts)

    def _parts(self, record: ChordRecord) -> list[Part]:
        parts = record.parts()
        if all(part.place is not None for part in parts):
            return sorted(parts, key=lambda part: part.place or 0)
        places = {task_id: place for place, task_id in enumerate(record.ids())}
        return sorted(parts, key=lambda part: places.get(part.task_id, len(places)))

    def renew(self, claim: Claim, seconds: float) -> bool:
        """Hold the claim for `seconds` from now."""
        return self.step(claim.group_id, self._change_held, claim.token, {'until': time.time() + seconds})

    def release(self, claim: Claim) -> None:
        """Give the claim back."""
        changes = {'state': OPEN, 'token': None, 'until': time.time()}
        self.step(claim.group_id, self._change_held, claim.token, changes)

    def finish(self, claim: Claim) -> bool:
        """The body is out: drop the parts, keep that it is done."""
        kept = time.time() + max(self.expires, DONE_KEPT)
        changes = {'state': OVER, 'until': kept, 'deadline': kept}
        return self.step(claim.group_id, self._change_held, claim.token, changes)

    def _change_held(self, record: ChordRecord, token: str, changes: Mapping[str, Any]) -> bool:
        head = record.read()
        if head is None or head.state != HELD or head.token != token:
            # Finished by ourselves, but by a step whose end the store did not get to tell us?
            return head is not None and head.state == OVER == changes.get('state') and head.token == token
        record.write(head._replace(**changes))
        if changes.get('state') == OVER:
            record.clear()
        return True
