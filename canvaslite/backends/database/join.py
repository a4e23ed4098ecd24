"""Joining chords by row locks.

``cl_join`` has a row for each chord, ``cl_join_part`` one for each slot. Whoever counts a part locks the chord's row
*first*, so that the last one to commit sees the parts of all others, in every database and isolation level: PostgreSQL
and MySQL lock the row, SQLite lets one writer in at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from kombu.utils.encoding import ensure_bytes

from canvaslite.backends.chords import Part
from canvaslite.backends.database.engines import Database
from canvaslite.backends.database.tables import ResultTables
from canvaslite.backends.database.upsert import Upsert
from canvaslite.backends.recordjoin import ChordHead, ChordRecord, RecordJoin

__all__ = ('DatabaseJoin', 'DatabaseRecord')

T = TypeVar('T')

#: Stands for the place of a part whose message had none.
NO_PLACE = -1

#: Columns of a chord that change, in the order of `ChordHead`.
HEAD = ('size', 'extra', 'state', 'token', 'attempts', 'until_', 'deadline')


class Statements:
    """The statements, made once."""

    def __init__(self, dialect: str, chord: sa.Table, slot: sa.Table) -> None:
        this, parts = chord.c.gid == sa.bindparam('chord'), slot.c.gid == sa.bindparam('chord')
        self.lock = sa.select(*(chord.c[name] for name in HEAD)).where(this).with_for_update()
        self.begin = Upsert(dialect, chord, 'gid', ('gid', *HEAD, 'callback', 'ids'))
        self.write = sa.update(chord).where(this).values({name: sa.bindparam(f'new_{name}') for name in HEAD})
        self.ids = sa.select(chord.c.ids).where(this)
        self.forget = sa.update(chord).where(this).values(callback=None, ids=None)
        given = [sa.bindparam(name, type_=slot.c[name].type) for name in ('gid', 'slot', 'idx', 'payload')]
        same = sa.and_(slot.c.gid == given[0], slot.c.slot == given[1], slot.c.idx == given[2])
        # Not an upsert: the first outcome counts. The lock on the chord makes the look and the insertion one step.
        self.add = sa.insert(slot).from_select(
            ['gid', 'slot', 'idx', 'payload'], sa.select(*given).where(~sa.exists().where(same)))
        self.count = sa.select(sa.func.count()).select_from(slot).where(parts)
        self.parts = sa.select(slot.c.slot, slot.c.idx, slot.c.payload).where(parts)
        self.drop_parts = sa.delete(slot).where(parts)


class DatabaseRecord(ChordRecord):
    """A chord, within a transaction."""

    __slots__ = ('_connection', '_group_id', '_head', '_join')

    def __init__(self, join: DatabaseJoin, connection: Any, group_id: str) -> None:
        self._join = join
        self._connection = connection
        self._group_id = group_id
        self._head: ChordHead | None = None

    def _execute(self, statement: Any, **parameters: Any) -> Any:
        return self._connection.execute(statement, {'chord': self._group_id, **parameters})

    def read(self) -> ChordHead | None:
        """The head; the first time from its row, which is locked from then on."""
        if self._head is None:
            row = self._execute(self._join.statements.lock).first()
            if row is not None:
                *others, until, deadline = row
                times = ((until or 0) / 1000, None if deadline is None else deadline / 1000)
                self._head = ChordHead._make((*others, *times))
        return self._head

    def begin(self, head: ChordHead, callback: Mapping[str, Any], ids: list[str]) -> None:
        """Make the row, or make it anew."""
        row = {'gid': self._group_id, **_columns(head), 'callback': self._join.pack(callback),
               'ids': self._join.pack(ids)}
        self._join.statements.begin.execute(self._connection, row)
        self._execute(self._join.statements.drop_parts)

    def write(self, head: ChordHead) -> None:
        """Change the row."""
        self._head = head
        self._execute(self._join.statements.write, **{f'new_{name}': value for name, value in _columns(head).items()})

    def add(self, part: Part) -> None:
        """Insert the part."""
        place = NO_PLACE if part.place is None else part.place
        self._connection.execute(self._join.statements.add, {
            'gid': self._group_id, 'slot': part.task_id, 'idx': place,
            'payload': self._join.pack([part.state, part.result])})

    def count(self) -> int:
        """Number of slots."""
        return int(self._execute(self._join.statements.count).scalar())

    def parts(self) -> list[Part]:
        """All parts."""
        rows, decode = self._execute(self._join.statements.parts), self._join.backend.decode
        return [Part(self._group_id, row.slot, None if row.idx == NO_PLACE else row.idx, *decode(row.payload))
                for row in rows]

    def ids(self) -> list[str]:
        """The header's task ids."""
        payload = self._execute(self._join.statements.ids).scalar()
        return list(self._join.backend.decode(payload)) if payload else []

    def clear(self) -> None:
        """Drop the parts and what the body was to be."""
        self._execute(self._join.statements.drop_parts)
        self._execute(self._join.statements.forget)


class DatabaseJoin(RecordJoin):
    """Chords in two tables."""

    def __init__(self, backend: Any, database: Database, tables: ResultTables) -> None:
        super().__init__(backend.expires)
        self.backend = backend
        self.database = database
        self.tables = tables
        self.statements = Statements(database.dialect, tables.join, tables.part)

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` in a transaction."""
        return self._transact(self._do, group_id, do, args)  # type: ignore[no-any-return]

    def _do(self, connection: Any, group_id: str, do: Callable[..., T], args: tuple[Any, ...]) -> T:
        return do(DatabaseRecord(self, connection, group_id), *args)

    def cleanup(self) -> None:
        """Remove what is kept of finished chords after its time, and chords that were abandoned."""
        self._transact(self._cleanup, int(time.time() * 1000))

    def _cleanup(self, connection: Any, now: int) -> None:
        chord, slot = self.tables.join, self.tables.part
        gone = chord.c.deadline < now
        connection.execute(sa.delete(slot).where(slot.c.gid.in_(sa.select(chord.c.gid).where(gone))))
        connection.execute(sa.delete(chord).where(gone))

    def _transact(self, work: Callable[..., Any], *args: Any) -> Any:
        self.backend._set_up()
        return self.backend._ensure_retryable(self.database.transact, work, *args)

    def pack(self, value: Any) -> bytes:
        """`value` as it is kept."""
        return ensure_bytes(self.backend.encode(value))  # type: ignore[no-any-return]


def _columns(head: ChordHead) -> dict[str, Any]:
    row = dict(zip(HEAD, head, strict=True))
    row['until_'] = int(head.until * 1000)
    row['deadline'] = None if head.deadline is None else int(head.deadline * 1000)
    return row
