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

from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Claim, Part, Report

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
    due: float = 0.0
    deadline: float | None = None


class ChordRecord(Protocol):
    """One chord in a store, within one atomic step."""

    def read(self) -> ChordHead | None:
        """The head; None if the store does not know the chord. Who has read it is alone with the chord."""

    def begin(self, head: ChordHead) -> None:
        """Make the record, or make it anew without parts."""

    def write(self, head: ChordHead) -> None:
        """Keep the head of a record that is there."""

    def add(self, part: Part) -> None:
        """Keep the part, unless its slot (its task and place) has one."""

    def count(self) -> int:
        """Number of slots that have a part."""

    def parts(self) -> list[Part]:
        """All parts, in any order."""

    def clear(self) -> None:
        """Drop the parts."""


class RecordJoin(ChordJoin):
    """Chords as records. `expires` is in seconds: how long an abandoned chord is kept (None and 0 are for ever)."""

    def __init__(self, expires: float | None) -> None:
        self.expires = expires or 0

    @abstractmethod
    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` as one atomic step. It may be done twice if the store does not say how it ended."""

    def open(self, group_id: str, size: int | None, callback: Mapping[str, Any], task_ids: Sequence[str]) -> None:
        now = time.time()
        head = ChordHead(size=size, due=now, deadline=now + self.expires if self.expires else None)
        self.step(group_id, lambda record: record.begin(head))

    def set_size(self, group_id: str, size: int) -> None:
        self.step(group_id, self._resize, size, 0)

    def extend(self, group_id: str, count: int = 1) -> None:
        self.step(group_id, self._resize, None, count)

    def _resize(self, record: ChordRecord, size: int | None, more: int) -> None:
        head = record.read()
        if head is not None:
            record.write(head._replace(size=head.size if size is None else size, extra=head.extra + more))

    def part(self, part: Part) -> Report:
        return self.step(part.group_id, self.count, part, uuid())

    def count(self, record: ChordRecord, part: Part, token: str) -> Report:
        """Record the part; claim the chord under `token` if it is complete and nobody holds it."""
        head = record.read()
        if head is None:
            # Published by Celery, which joins chords in this store by a task that polls: it needs no part from us.
            return Report(chords.RECORDED)
        if head.state == OVER:
            return Report(chords.DONE)
        record.add(part)
        now, size = time.time(), (head.size or 0) + head.extra
        claimed = Report(chords.CLAIMED, Claim(part.group_id, token, size))
        if head.state == HELD and head.due > now:
            # The same token: our own claim, made by a step whose end the store did not get to tell us.
            return claimed if head.token == token else Report(chords.BUSY)
        if head.size is not None and record.count() >= size:
            due = now + chords.CLAIM_LEASE
            record.write(head._replace(state=HELD, token=token, due=due, attempts=head.attempts + 1))
            return claimed
        if head.deadline is not None and head.deadline < now + self.expires / 2:
            # Not abandoned: a part has come.
            record.write(head._replace(deadline=now + self.expires))
        return Report(chords.RECORDED)

    def parts(self, claim: Claim) -> Sequence[Part]:
        # Tasks that joined a running chord have no place: they come last.
        found = self.step(claim.group_id, lambda record: record.parts())
        return sorted(found, key=lambda part: float('inf') if part.place is None else part.place)

    def renew(self, claim: Claim, seconds: float) -> bool:
        return self.step(claim.group_id, self._change_held, claim.token, {'due': time.time() + seconds})

    def release(self, claim: Claim) -> None:
        changes = {'state': OPEN, 'token': None, 'due': time.time()}
        self.step(claim.group_id, self._change_held, claim.token, changes)

    def finish(self, claim: Claim, failed: bool = False) -> bool:
        kept = time.time() + max(self.expires, chords.DONE_KEPT)
        changes = {'state': OVER, 'due': kept, 'deadline': kept}
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
