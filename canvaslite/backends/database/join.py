"""Joining chords by row locks.

``cl_join`` has a row for each chord, ``cl_join_part`` one for each slot. Whoever counts a part locks the chord's row
*first*, so that the last one to commit sees the parts of all others, in every database and isolation level: PostgreSQL
and MySQL lock the row, SQLite lets one writer in at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from canvaslite.backends.chords import Opening, Outbox, Part
from canvaslite.backends.database.tables import HEAD_COLUMNS
from canvaslite.backends.heads import OVER, ChordHead
from canvaslite.backends.recordjoin import ChordRecord, RecordJoin

T = TypeVar('T')

#: Stands for the place of a part whose message had none.
NO_PLACE = -1


class DatabaseRecord(ChordRecord):
    """A chord, within a transaction."""

    def __init__(self, backend: Any, connection: Any, group_id: str) -> None:
        self._backend = backend
        self._statements = backend.prepare()
        self.connection = connection
        self._group_id = group_id
        self._head: ChordHead | None = None

    def _execute(self, statement: Any) -> Any:
        return self.connection.execute(statement, {'chord': self._group_id})

    def read(self) -> ChordHead | None:
        """The head; the first time from its row, which is locked from then on."""
        if self._head is None:
            row = self._execute(self._statements.lock_chord).first()
            self._head = None if row is None else ChordHead(*row)
        return self._head

    def reserve(self) -> None:
        head = ChordHead(state=OVER, due=0.0)
        self.connection.execute(self._statements.reserve_chord, {'gid': self._group_id, **_columns(head)})

    def begin(self, head: ChordHead, outbox: Outbox) -> None:
        self._head = head
        # The row first, which is locked by that.
        self.connection.execute(self._statements.begin_chord, {
            'gid': self._group_id, **_columns(head), **self._packed(outbox)})
        self._execute(self._statements.drop_slots)

    def write(self, head: ChordHead) -> None:
        self._head = head._replace(added=())
        self.connection.execute(self._statements.write_chord, {'chord': self._group_id, **_columns(head)})
        outbox = self.outbox() if head.added else None
        if outbox is not None:
            self.keep(outbox._replace(added=head.added))

    def added(self) -> Sequence[str]:
        outbox = self.outbox()
        return () if outbox is None else outbox.added

    def outbox(self) -> Outbox | None:
        row = self._execute(self._statements.read_outbox).first()
        if row is None or row.callback is None:
            return None
        slots, *more = json.loads(bytes(row.slots))
        return Outbox(bytes(row.callback), [*map(tuple, slots)], *more)

    def keep(self, outbox: Outbox) -> None:
        self.connection.execute(self._statements.keep_outbox, {'chord': self._group_id, **self._packed(outbox)})

    def _packed(self, outbox: Outbox) -> dict[str, Any]:
        return {'callback': outbox.callback, 'slots': json.dumps(outbox[1:]).encode()}

    def add(self, part: Part) -> None:
        self.connection.execute(self._statements.add_slot, {
            'gid': self._group_id, 'slot': part.task_id, 'idx': NO_PLACE if part.place is None else part.place,
            'payload': self._backend._pack([part.state, part.result])})

    def count(self) -> int:
        return int(self._execute(self._statements.count_slots).scalar())

    def parts(self) -> list[Part]:
        return [Part(self._group_id, task_id, None if place == NO_PLACE else place, *self._backend.decode(payload))
                for task_id, place, payload in self._execute(self._statements.read_slots)]

    def clear(self) -> None:
        self._execute(self._statements.drop_slots)
        self.connection.execute(self._statements.keep_outbox, {
            'chord': self._group_id, 'callback': None, 'slots': None})

    def remove(self) -> None:
        self._execute(self._statements.drop_slots)
        self._execute(self._statements.drop_chord)


def _columns(head: ChordHead) -> dict[str, Any]:
    return dict(zip(HEAD_COLUMNS, head, strict=False))


class DatabaseJoin(RecordJoin):
    """Chords in two tables."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend.expires, backend.app.conf)
        self.backend = backend

    def open(self, chord: Opening) -> None:
        try:
            super().open(chord)
        finally:
            self.backend.canvases.end_waiting()

    def _begin(self, record: Any, chord: Opening) -> None:
        super()._begin(record, chord)
        self.backend.canvases.keep_waiting(record.connection)

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` in a transaction."""
        backend = self.backend
        backend.prepare()
        return backend._ensure_retryable(  # type: ignore[no-any-return]
            backend.database.transact, lambda connection: do(DatabaseRecord(backend, connection, group_id), *args))

    def due(self, now: float, limit: int) -> Sequence[str]:
        backend = self.backend
        # No lock: whoever then looks at the chord has it.
        rows = backend._ensure_retryable(backend.database.fetch, backend.prepare().due_chords, now=now, most=limit,
                                         home=self.home)
        return [row.gid for row in rows]
