"""Joining chords by row locks.

``cl_join`` has a row for each chord, ``cl_join_part`` one for each slot. Whoever counts a part locks the chord's row
*first*, so that the last one to commit sees the parts of all others, in every database and isolation level: PostgreSQL
and MySQL lock the row, SQLite lets one writer in at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from canvaslite.backends.chords import Part
from canvaslite.backends.recordjoin import ChordHead, ChordRecord, RecordJoin

T = TypeVar('T')

#: Stands for the place of a part whose message had none.
NO_PLACE = -1


class DatabaseRecord(ChordRecord):
    """A chord, within a transaction."""

    def __init__(self, backend: Any, connection: Any, group_id: str) -> None:
        self._backend = backend
        self._statements = backend.prepare()
        self._connection = connection
        self._group_id = group_id
        self._head: ChordHead | None = None

    def _execute(self, statement: Any) -> Any:
        return self._connection.execute(statement, {'chord': self._group_id})

    def read(self) -> ChordHead | None:
        """The head; the first time from its row, which is locked from then on."""
        if self._head is None:
            row = self._execute(self._statements.lock_chord).first()
            self._head = None if row is None else ChordHead._make(row)
        return self._head

    def begin(self, head: ChordHead) -> None:
        self.write(head)
        self.clear()

    def write(self, head: ChordHead) -> None:
        self._head = head
        self._connection.execute(self._statements.write_chord, {'gid': self._group_id, **head._asdict()})

    def add(self, part: Part) -> None:
        self._connection.execute(self._statements.add_slot, {
            'gid': self._group_id, 'slot': part.task_id, 'idx': NO_PLACE if part.place is None else part.place,
            'payload': self._backend._pack([part.state, part.result])})

    def count(self) -> int:
        return int(self._execute(self._statements.count_slots).scalar())

    def parts(self) -> list[Part]:
        return [Part(self._group_id, task_id, None if place == NO_PLACE else place, *self._backend.decode(payload))
                for task_id, place, payload in self._execute(self._statements.read_slots)]

    def clear(self) -> None:
        self._execute(self._statements.drop_slots)


class DatabaseJoin(RecordJoin):
    """Chords in two tables."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend.expires)
        self.backend = backend

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` in a transaction."""
        backend = self.backend
        backend.prepare()
        return backend._ensure_retryable(  # type: ignore[no-any-return]
            backend.database.transact, lambda connection: do(DatabaseRecord(backend, connection, group_id), *args))
