"""The chord join of `chords`, for stores that can lock a chord's record: memory, files, SQL.

A store gives `RecordJoin` one thing: to do something with a chord's record (`ChordRecord`) as one atomic step. What is
to be done is here, once for all of them.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from kombu.utils.functional import LRUCache
from kombu.utils.uuid import uuid

from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Claim, Opening, Outbox, Part, Report, Slot
from canvaslite.backends.heads import HELD, OPEN, OVER, ChordHead
from canvaslite.exceptions import ImproperlyConfigured

__all__ = ('OVER', 'ChordHead', 'ChordRecord', 'RecordJoin')

#: Seconds by which a lease may be shorter than asked for, so that one that is as good as new needs no writing.
RENEWED_ANYWAY = 1.0

#: Before a task's id, the name of a record that says which copy of it runs: over, as a chord, from the start.
RUN_PREFIX = 'run:'

T = TypeVar('T')


class ChordRecord(Protocol):
    """One chord in a store, within one atomic step."""

    def read(self) -> ChordHead | None:
        """The head; None if the store does not know the chord. Who has read it is alone with the chord."""

    def reserve(self) -> None:
        """Make a record that is over if there is none, where a record that is not there cannot be locked by `read`."""
        return

    def begin(self, head: ChordHead, outbox: Outbox) -> None:
        """Make the record, or make it anew without parts."""

    def write(self, head: ChordHead) -> None:
        """Keep the head of a record that is there."""

    def outbox(self) -> Outbox | None:
        """The outbox."""

    def keep(self, outbox: Outbox) -> None:
        """Keep another outbox."""

    def added(self) -> Sequence[str]:
        """The tasks that were added to the chord, which is there."""
        head = self.read()
        return () if head is None else head.added

    def add(self, part: Part) -> None:
        """Keep the part, unless its slot (its task and place) has one."""

    def count(self) -> int:
        """Number of slots that have a part."""

    def parts(self) -> list[Part]:
        """All parts, in any order."""

    def clear(self) -> None:
        """Drop the parts and the outbox."""

    def remove(self) -> None:
        """Remove the record."""


class RecordJoin(ChordJoin):
    """Chords as records. `conf` are the app's settings, `expires` is in seconds: how long a chord that is over is
    remembered at least."""

    def __init__(self, expires: float | None, conf: Any) -> None:
        self.expires = max(expires or 0, chords.DONE_KEPT)
        #: When the claims of this process end, by their tokens.
        self._leases: Any = LRUCache(limit=1000)
        self._conf = conf

    @property
    def home(self) -> str:
        """Whose chords it is to look after."""
        return chords.home_of(self._conf)

    @abstractmethod
    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` as one atomic step. It may be done twice if the store does not say how it ended."""

    def open(self, chord: Opening) -> None:
        self.step(chord.group_id, self._begin, chord)

    def _begin(self, record: ChordRecord, chord: Opening) -> None:
        if chord.again and record.read() is not None:
            return
        now = time.time()
        head = ChordHead(size=chord.size, due=now + chords.LOOK_INTERVAL, deadline=chord.deadline, home=chord.home)
        record.begin(head, Outbox(chord.packed, chord.slots, now))

    def set_size(self, group_id: str, size: int, slots: Sequence[Slot] = ()) -> None:
        self.step(group_id, self._resize, size, slots)

    def extend(self, group_id: str, task_id: str | None = None) -> None:
        if not self.step(group_id, self._extend, task_id):
            raise ImproperlyConfigured(
                f'result_backend: the store does not join the chord {group_id}, so that nothing can be added to it: it '
                "was sent by Celery, or with result_chord_join = 'compat'")

    def _resize(self, record: ChordRecord, size: int, slots: Sequence[Slot]) -> None:
        head = record.read()
        if head is not None:
            record.write(head._replace(size=size))
            outbox = record.outbox() if slots else None
            if outbox is not None:
                record.keep(outbox._replace(slots=slots))

    def _extend(self, record: ChordRecord, task_id: str | None) -> bool:
        head = record.read()
        if head is None:
            return False
        added = record.added()
        if task_id is None:
            record.write(head._replace(extra=head.extra + 1))
        elif task_id not in added:
            record.write(head._replace(extra=head.extra + 1, added=(*added, task_id)))
        return True

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
        return self._claim(record, part.group_id, head, token)

    def _claim(self, record: ChordRecord, group_id: str, head: ChordHead, token: str,
               reason: str | None = None) -> Report:
        """Claim the chord under `token` if nobody holds it, and it is complete or there is a `reason`."""
        now, size = time.time(), (head.size or 0) + head.extra
        if head.state == HELD and head.due > now:
            # The same token: our own claim, made by a step whose end the store did not get to tell us.
            claim = Claim(group_id, token, size, head.attempts, reason)
            return Report(chords.CLAIMED, claim) if head.token == token else Report(chords.BUSY)
        complete = head.size is not None and record.count() >= size
        if not complete and reason is None:
            return Report(chords.RECORDED)
        attempt = head.attempts + 1
        record.write(head._replace(state=HELD, token=token, due=now + chords.CLAIM_LEASE, attempts=attempt))
        self._leases[token] = now + chords.CLAIM_LEASE
        return Report(chords.CLAIMED, Claim(group_id, token, size, attempt, None if complete else reason))

    def look(self, group_id: str, now: float, reason: str | None = None) -> Report:
        return self.step(group_id, self._look, group_id, now, reason, uuid())

    def _look(self, record: ChordRecord, group_id: str, now: float, reason: str | None, token: str) -> Report:
        head = record.read()
        if head is None or head.state == OVER:
            return Report(chords.DONE)
        if head.due > now and reason is None and head.token != token:
            return Report(chords.BUSY)
        if reason is None and head.deadline is not None and head.deadline <= now:
            reason = chords.OVERDUE
        report = self._claim(record, group_id, head, token, reason)
        if report.status == chords.RECORDED:
            missing = (head.size or 0) + head.extra - record.count()
            record.write(head._replace(state=OPEN, due=now + chords.pause_before_look(missing)))
        return report

    def parts(self, claim: Claim) -> Sequence[Part]:
        # Tasks that joined a running chord have no place: they come last.
        found = self.step(claim.group_id, lambda record: record.parts())
        return sorted(found, key=lambda part: float('inf') if part.place is None else part.place)

    def outbox(self, group_id: str) -> Outbox | None:
        return self.step(group_id, lambda record: record.outbox())

    def missing(self, group_id: str, slots: Sequence[Slot]) -> Sequence[Slot]:
        found = {(part.task_id, part.place) for part in self.step(group_id, lambda record: record.parts())}
        return [(task_id, place) for task_id, place in slots if (task_id, place) not in found]

    def head(self, group_id: str) -> ChordHead | None:
        return self.step(group_id, lambda record: record.read())

    def forget(self, group_id: str) -> None:
        self.step(group_id, lambda record: record.remove())

    def renew(self, claim: Claim, seconds: float) -> bool:
        until = time.time() + seconds
        if abs(until - self._leases.get(claim.token, 0)) < RENEWED_ANYWAY:
            return True  # it was given just now
        self._leases.pop(claim.token, None)
        return self.step(claim.group_id, self._change_held, claim.token, {'due': until})

    def release(self, claim: Claim) -> None:
        self._leases.pop(claim.token, None)
        changes = {'state': OPEN, 'token': None, 'due': time.time() + chords.RELEASED_PAUSE}
        self.step(claim.group_id, self._change_held, claim.token, changes)

    def finish(self, claim: Claim, failed: bool = False) -> bool:
        self._leases.pop(claim.token, None)
        changes = {'state': OVER, 'due': time.time() + self.expires}
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

    def take_run(self, task_id: str, attempt: str, seconds: float) -> str:
        return self.step(RUN_PREFIX + task_id, self._take_run, attempt, time.time() + seconds)

    def _take_run(self, record: ChordRecord, attempt: str, until: float) -> str:
        record.reserve()
        head = record.read()
        if attempt != chords.ENDED and head is not None and head.token is not None and head.due > time.time():
            return head.token
        record.begin(ChordHead(state=OVER, token=attempt, due=until), Outbox(b'', ()))
        return attempt
