"""Records of canvases in two tables: ``cl_canvas`` has a row for each record, ``cl_canvas_task`` one for each id, which
names the run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from canvaslite.backends.canvases import CanvasStore, Found
from canvaslite.backends.database.tables import utc_now
from canvaslite.result.nodes import CanvasRecord


class DatabaseCanvases(CanvasStore):
    """The records of a `DatabaseBackend`."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._waiting = threading.local()

    def keep(self, record: CanvasRecord) -> None:
        """Keep it, in one transaction, or in that in which a chord is opened next."""
        self._backend.prepare()
        if record.opens and self._backend.join_of_new is not None:
            self._waiting.record = record
        else:
            self._backend.database.transact(self._keep, record)

    def keep_waiting(self, connection: Any) -> None:
        """Keep what waits for the transaction of a chord, which goes on if that fails, and may be begun again."""
        record = getattr(self._waiting, 'record', None)
        if record is not None:
            try:
                with connection.begin_nested():
                    self._keep(connection, record)
            except SQLAlchemyError as exc:
                self._backend.warn_of_no_record(record, exc)

    def end_waiting(self) -> None:
        """The transaction has ended."""
        self._waiting.record = None

    def _keep(self, connection: Any, record: CanvasRecord) -> None:
        statements = self._backend.prepare()
        known = (connection.execute(statements.find_run, {'id': task_id}).scalar() for task_id in record.within)
        run = next(filter(None, known), None)
        ids = record.ids if run is not None else dict.fromkeys((*record.ids, *record.within))
        row = {'run': run or record.run, 'date_done': utc_now()}
        connection.execute(statements.write_canvas, {**row, 'record': record.data})
        connection.execute(statements.write_canvas_task, [{**row, 'task_id': task_id} for task_id in ids])

    def find(self, task_id: str) -> Found | None:
        database, statements = self._backend.database, self._backend.prepare()
        found = database.fetch(statements.find_run, id=task_id)
        records = [bytes(row.record) for row in database.fetch(statements.read_run, of=found[0].run)] if found else []
        return (found[0].run, records) if records else None

    def drop(self, run: str, ids: Sequence[str]) -> None:
        self._backend.database.execute(*self._backend.prepare().drop_run, of=run)
