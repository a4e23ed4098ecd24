"""Joining chords by row locks.

``cl_join`` has a row for each chord, ``cl_join_part`` one for each slot. Whoever counts a part locks the chord's row
*first*, so that the last one to commit sees the parts of all others, in every database and isolation level: PostgreSQL
and MySQL lock the row, SQLite lets one writer in at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from kombu.utils.encoding import ensure_bytes
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
from canvaslite.backends.database.engines import Database
from canvaslite.backends.database.tables import ResultTables
from canvaslite.backends.database.upsert import Upsert

__all__ = ('DatabaseJoin',)

OPEN, HELD, OVER = 'open', 'claimed', 'done'

#: Stands for the place of a part whose message had none.
NO_INDEX = -1


class PreparedPart(NamedTuple):
    """A part as it is written, and the token of the claim that it may get: the same one when it is written again."""

    gid: str
    slot: str
    idx: int
    payload: bytes
    token: str


class DatabaseJoin(ChordJoin):
    """Chords in two tables."""

    def __init__(self, backend: Any, database: Database, tables: ResultTables) -> None:
        self.backend = backend
        self.database = database
        self.chord = tables.join
        self.slot = tables.part
        self._prepare_statements()

    def _prepare_statements(self) -> None:
        chord, slot = self.chord, self.slot
        this = chord.c.gid == sa.bindparam('chord')
        columns = ('gid', 'size', 'extra', 'callback', 'ids', 'state', 'token', 'until_', 'deadline', 'attempts')
        self._write = Upsert(self.database.dialect, chord, 'gid', columns)
        self._lock = sa.select(chord.c.size, chord.c.extra, chord.c.state, chord.c.token,
                               chord.c.until_, chord.c.deadline).where(this).with_for_update()
        given = [sa.bindparam(name, type_=slot.c[name].type) for name in ('gid', 'slot', 'idx', 'payload')]
        same = sa.and_(slot.c.gid == given[0], slot.c.slot == given[1], slot.c.idx == given[2])
        # Not an upsert: the first outcome counts. The lock on the chord makes the look and the insertion one step.
        self._add = sa.insert(slot).from_select(
            ['gid', 'slot', 'idx', 'payload'], sa.select(*given).where(~sa.exists().where(same)))
        self._count = sa.select(sa.func.count()).select_from(slot).where(slot.c.gid == sa.bindparam('chord'))
        self._claim = sa.update(chord).where(this).values(
            state=HELD, token=sa.bindparam('new_token'), until_=sa.bindparam('new_until'),
            attempts=chord.c.attempts + 1)
        self._held = sa.update(chord).where(this, chord.c.token == sa.bindparam('held'), chord.c.state == HELD)
        self._parts = sa.select(slot.c.slot, slot.c.idx, slot.c.payload).where(
            slot.c.gid == sa.bindparam('chord')).order_by(slot.c.idx)
        self._drop_parts = sa.delete(slot).where(slot.c.gid == sa.bindparam('chord'))

    # -- the atomic steps -------------------------------------------------------------------------------------------

    def open(self, group_id: str, size: int | None, callback: Mapping[str, Any], task_ids: Sequence[str]) -> None:
        """A chord begins; what was left under its id is gone."""
        now = _milliseconds()
        kept = self.backend.expires
        row = {'gid': group_id, 'size': size, 'extra': 0, 'callback': self._pack(dict(callback)),
               'ids': self._pack(list(task_ids)), 'state': OPEN, 'token': None, 'until_': now,
               'deadline': now + int(kept * 1000) if kept else None, 'attempts': 0}
        self._transact(self._open, row)

    def _open(self, connection: Any, row: Mapping[str, Any]) -> None:
        self._write.execute(connection, row)
        connection.execute(self._drop_parts, {'chord': row['gid']})

    def set_size(self, group_id: str, size: int) -> None:
        """The chord has `size` parts."""
        self._transact(self._change, group_id, {'size': size})

    def extend(self, group_id: str, count: int = 1) -> None:
        """The chord has `count` parts more."""
        self._transact(self._change, group_id, {'extra': self.chord.c.extra + count})

    def _change(self, connection: Any, group_id: str, values: Mapping[str, Any]) -> None:
        connection.execute(sa.update(self.chord).where(self.chord.c.gid == group_id).values(values))

    def part(self, part: Part) -> Report:
        """A header task ended."""
        return self._transact(self._part, self.prepare(part))

    def _part(self, connection: Any, part: PreparedPart) -> Report:
        return self.count(connection, self.lock(connection, part.gid), part)

    def prepare(self, part: Part) -> PreparedPart:
        """What `count` writes for this part."""
        index = NO_INDEX if part.place is None else part.place
        return PreparedPart(part.group_id, part.task_id, index, self._pack([part.state, part.result]), uuid())

    def lock(self, connection: Any, group_id: str) -> Any:
        """Lock the chord's row until the transaction ends; None if there is none."""
        return connection.execute(self._lock, {'chord': group_id}).first()

    def count(self, connection: Any, chord: Any, part: PreparedPart) -> Report:
        """Record a part of the `chord` that `lock` returned, and claim it if it is complete and nobody holds it."""
        if chord is None:
            # Published by Celery, which joins chords in a database by a task that polls: it needs no part from us.
            return Report(RECORDED)
        if chord.state == OVER:
            return Report(DONE)
        connection.execute(self._add, part._asdict())
        now = _milliseconds()
        self._keep_alive(connection, chord, part.gid, now)
        claimed = Report(CLAIMED, Claim(part.gid, part.token, (chord.size or 0) + chord.extra))
        if chord.state == HELD and chord.until_ > now:
            # The same token: our own claim, whose commit was answered too late for us to hear it.
            return claimed if chord.token == part.token else Report(BUSY)
        if chord.size is None:
            return Report(RECORDED)
        if connection.execute(self._count, {'chord': part.gid}).scalar() < chord.size + chord.extra:
            return Report(RECORDED)
        connection.execute(self._claim, {'chord': part.gid, 'new_token': part.token,
                                         'new_until': now + CLAIM_LEASE * 1000})
        return claimed

    def _keep_alive(self, connection: Any, chord: Any, group_id: str, now: int) -> None:
        kept = int((self.backend.expires or 0) * 1000)
        if chord.deadline is not None and chord.deadline < now + kept // 2:
            self._change(connection, group_id, {'deadline': now + kept})

    def parts(self, claim: Claim) -> Sequence[Part]:
        """The parts in the order of the header."""
        rows = self.backend._ensure_retryable(self.database.fetch, self._parts, {'chord': claim.group_id})
        parts = []
        for row in rows:
            state, result = self.backend.decode(row.payload)
            parts.append(Part(claim.group_id, row.slot, None if row.idx == NO_INDEX else row.idx, state, result))
        if any(part.place is None for part in parts):
            return self._as_published(claim.group_id, parts)
        return parts

    def _as_published(self, group_id: str, parts: list[Part]) -> list[Part]:
        rows = self.database.fetch(sa.select(self.chord.c.ids).where(self.chord.c.gid == group_id))
        ids = self.backend.decode(rows[0].ids) if rows and rows[0].ids else []
        places = {task_id: place for place, task_id in enumerate(ids)}
        return sorted(parts, key=lambda part: places.get(part.task_id, len(places)))

    def renew(self, claim: Claim, seconds: float) -> bool:
        """Hold the claim for `seconds` from now."""
        return self._transact(self._change_held, claim, {'until_': _milliseconds() + int(seconds * 1000)})

    def release(self, claim: Claim) -> None:
        """Give the claim back."""
        self._transact(self._change_held, claim, {'state': OPEN, 'token': None, 'until_': _milliseconds()})

    def finish(self, claim: Claim) -> bool:
        """The body is out: drop the parts, keep that it is done."""
        return self._transact(self._finish, claim)

    def _change_held(self, connection: Any, claim: Claim, values: Mapping[str, Any]) -> bool:
        held = {'chord': claim.group_id, 'held': claim.token}
        return bool(connection.execute(self._held.values(values), held).rowcount)

    def _finish(self, connection: Any, claim: Claim) -> bool:
        kept = max(self.backend.expires or 0, DONE_KEPT)
        over = {'state': OVER, 'callback': None, 'ids': None, 'until_': _milliseconds() + int(kept * 1000)}
        if not self._change_held(connection, claim, over):
            return False
        connection.execute(self._drop_parts, {'chord': claim.group_id})
        return True

    def cleanup(self) -> None:
        """Remove what is kept of finished chords after its time, and chords that were abandoned."""
        self._transact(self._cleanup, _milliseconds())

    def _cleanup(self, connection: Any, now: int) -> None:
        chord = self.chord
        over = sa.and_(chord.c.state == OVER, chord.c.until_ < now)
        abandoned = sa.and_(chord.c.state != OVER, chord.c.deadline < now)
        gone = sa.select(chord.c.gid).where(sa.or_(over, abandoned))
        connection.execute(sa.delete(self.slot).where(self.slot.c.gid.in_(gone)))
        connection.execute(sa.delete(chord).where(sa.or_(over, abandoned)))

    def _transact(self, work: Any, *args: Any) -> Any:
        self.backend._set_up()
        return self.backend._ensure_retryable(self.database.transact, work, *args)

    def _pack(self, value: Any) -> bytes:
        return ensure_bytes(self.backend.encode(value))


def _milliseconds() -> int:
    return int(time.time() * 1000)
