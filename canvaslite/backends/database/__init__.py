"""Results in a SQL database, through SQLAlchemy: ``db+sqlite:///file``, ``db+postgresql://…``, ``db+mysql://…``.

The tables are Celery's, ``celery_taskmeta`` and ``celery_tasksetmeta``, so that either side reads what the other one
stored. Chords are joined in two tables of our own, by row locks: the result, the part and the claim to send the body
are one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from kombu.exceptions import ContentDisallowed
from kombu.utils.encoding import ensure_bytes
from kombu.utils.imports import symbol_by_name
from kombu.utils.uuid import uuid

from canvaslite import states
from canvaslite.backends import chords
from canvaslite.backends.base import BaseBackend
from canvaslite.backends.codec import Meta, unreadable
from canvaslite.exceptions import BackendStoreError, ImproperlyConfigured
from canvaslite.result import result_from_tuple

try:
    from sqlalchemy import exc as errors
except ImportError as missing:
    raise ImproperlyConfigured('result_backend: a database needs SQLAlchemy; '
                               "pip install 'canvaslite[sql]'") from missing

from canvaslite.backends.database.canvases import DatabaseCanvases
from canvaslite.backends.database.engines import Database
from canvaslite.backends.database.join import DatabaseJoin, DatabaseRecord
from canvaslite.backends.database.legacy import unpickle_plain
from canvaslite.backends.database.tables import ResultTables, Statements, utc_now

__all__ = ('DatabaseBackend',)

#: Columns that are written and read always, and with ``result_extended``.
COLUMNS = ('task_id', 'status', 'result', 'date_done', 'traceback', 'children')
EXTENDED_COLUMNS = ('name', 'args', 'kwargs', 'worker', 'retries', 'queue', 'stamps')

#: Errors after which the database may answer again.
AWAY = (errors.OperationalError, errors.InterfaceError, errors.InternalError, errors.TimeoutError)

#: Ids in one query.
IDS_AT_ONCE = 500

#: What every pickle that Celery wrote begins with.
PICKLE_MARK = b'\x80'
PICKLE_TYPE = 'application/x-python-serialize'


class DatabaseBackend(BaseBackend):
    """Results in a SQL database.

    `url` (or `dburi`, or else the setting ``database_url``) is SQLAlchemy's; `engine_options` are added to the setting
    ``database_engine_options``. Raises `ImproperlyConfigured` for a URL, driver or option that cannot be, and for a
    database that cannot be reached when the tables are made at setup.
    """

    thread_safe = True
    supports_native_join = True
    celery_polls = True
    longest_pause = 0.2

    join: DatabaseJoin

    def __init__(self, dburi: str | None = None, engine_options: Mapping[str, Any] | None = None,
                 url: str | None = None, engine_callback: Any = None, short_lived_sessions: bool | None = None,
                 **kwargs: Any) -> None:
        super().__init__(url=url or dburi, **kwargs)
        conf = self.app.conf
        self.url = self.url or conf.database_url
        if not self.url:
            raise ImproperlyConfigured('database_url: the database result backend needs a URL; '
                                       'set it, or write result_backend = db+sqlite:///results.sqlite')
        self.retry_by_default()
        self.engine_options = {**(conf.database_engine_options or {}), **(engine_options or {})}
        self.database = Database(
            self.url.removeprefix('db+'), self.engine_options,
            _find_callback(engine_callback or conf.database_engine_callback),
            conf.database_short_lived_sessions if short_lived_sessions is None else short_lived_sessions)
        self.tables = ResultTables(conf.database_table_names, conf.database_table_schemas)
        self.join = DatabaseJoin(self)
        self.canvases = DatabaseCanvases(self)
        self._statements: Statements | None = None
        if conf.database_create_tables_at_setup:
            self.prepare()

    def prepare(self) -> Statements:
        """The statements; the first time the tables that are missing are made."""
        if self._statements is None:
            try:
                self._ensure_retryable(self.tables.create, self.database)
            except errors.SQLAlchemyError as exc:
                raise ImproperlyConfigured(f'result_backend: the tables cannot be made in {self.database.explain(exc)};'
                                           ' start the database or correct the URL') from exc
            wanted = COLUMNS + (EXTENDED_COLUMNS if self.app.conf.result_extended else ())
            columns = tuple(name for name in wanted if name in self.tables.columns)
            self._statements = Statements(self.database.dialect, self.tables, columns)
        return self._statements

    def as_uri(self, include_password: bool = False) -> str:
        """The database's URL, its password masked unless `include_password`."""
        return self.database.as_uri(include_password)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether the database may answer later."""
        return isinstance(exc, AWAY)

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """Begin anew with new connections."""
        self.database.close()

    # -- writing ---------------------------------------------------------------------------------------------------

    def keep_and_count(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any,
                       store: bool) -> None:
        """Store a final outcome and count it in its chord, in one transaction."""
        part = chords.part_of(self, request, state, result) if chords.is_part(request) else None
        if part is None:
            super().keep_and_count(task_id, result, state, traceback, request, store)
            return
        self.prepare()  # not within the transaction: it has its own
        row = self._row(task_id, part.result, state, traceback, request) if store else None
        report = self._ensure_retryable(self.database.transact, self._keep_and_count, row, part, uuid(),
                                        fallback_exc=partial(BackendStoreError, task_id=task_id, state=state),
                                        fallback_msg='failed to store result on the backend')
        chords.act_on_report(self, self.join, report, request)

    def _keep_and_count(self, connection: Any, row: Mapping[str, Any] | None, part: chords.Part,
                        token: str) -> chords.Report:
        record = DatabaseRecord(self, connection, part.group_id)
        # The chord's row first: whoever has it sees all that was committed before.
        record.read()
        if row is not None:
            connection.execute(self.prepare().write_task, row)
        return self.join.count(record, part, token)

    def _store_result(self, task_id: str, result: Any, state: str, traceback: str | None = None,
                      request: Any = None, **kwargs: Any) -> Any:
        row = self._row(task_id, result, state, traceback, request)
        self.database.execute(self.prepare().write_task, **row)
        return result

    def _row(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any) -> dict[str, Any]:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request,
                                     format_date=False, encode=True)
        meta.update(task_id=task_id, result=self._pack(result), children=self._pack(meta['children'] or None))
        if traceback is not None:  # it quotes the error, and text in a database has neither of these
            meta['traceback'] = str(traceback).replace('\0', '\\x00').encode(errors='backslashreplace').decode()
        if meta['date_done'] is not None:
            # The column has no time zone; cleaning up compares with UTC.
            meta['date_done'] = utc_now()
        names = meta.get('stamped_headers')
        if names:
            stamps = {name: meta[name] for name in names if name in meta}
            meta['stamps'] = self._pack({'stamped_headers': list(names), 'stamps': stamps})
        return {name: meta.get(name) for name in self.prepare().columns}

    def _pack(self, value: Any) -> bytes | None:
        return None if value is None else ensure_bytes(self.encode(value))

    # -- reading ---------------------------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> Meta:
        rows = self.database.fetch(self.prepare().read_task, id=task_id)
        return self._meta(rows[0]) if rows else {'task_id': task_id, 'status': states.PENDING, 'result': None,
                                                 'traceback': None, 'date_done': None, 'children': None}

    def _get_task_metas_for(self, task_ids: Collection[str]) -> dict[str, Meta]:
        ids = list(task_ids)
        return {row.task_id: self._meta(row) for start in range(0, len(ids), IDS_AT_ONCE)
                for row in self.database.fetch(self.prepare().read_tasks, ids=ids[start:start + IDS_AT_ONCE])}

    def _meta(self, row: Any) -> Meta:
        meta: Meta = row._asdict()
        try:
            for name in ('result', 'children', 'args', 'kwargs', 'stamps'):
                if name in meta:
                    meta[name] = self._unpack(meta[name])
            meta.setdefault('children', None)
            stamps = meta.pop('stamps', None)
            if isinstance(stamps, dict):
                meta['stamped_headers'] = stamps.get('stamped_headers')
                meta.update(stamps.get('stamps') or {})
            return self.meta_from_decoded(meta)
        except Exception as exc:
            raise unreadable(row.task_id, exc) from exc

    def _unpack(self, payload: Any) -> Any:
        """The value in a column: written by our serializer, or pickled by an older Celery."""
        if payload is None:
            return None
        payload = ensure_bytes(payload)
        try:
            return self.decode(payload)
        except Exception:
            # Before 5.7 Celery pickled this column, whatever the serializer.
            if not payload.startswith(PICKLE_MARK):
                raise
            if PICKLE_TYPE not in (self.accept or ()):
                raise ContentDisallowed(
                    "This result was pickled, by a Celery before 5.7: if you trust the database, add 'pickle' to "
                    'result_accept_content to have plain data and exceptions of it read') from None
            return unpickle_plain(payload)

    def task_result_exists(self, task_id: str) -> bool:
        """Whether there is a row for the task, be it PENDING."""
        return bool(self.database.fetch(self.prepare().read_task, id=task_id))

    def _forget(self, task_id: str) -> None:
        self.database.execute(self.prepare().forget_task, id=task_id)

    # -- groups ----------------------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: Any) -> Any:
        row = {'taskset_id': group_id, 'result': self._pack(result.as_tuple()), 'date_done': utc_now()}
        self.database.execute(self.prepare().write_group, **row)
        return result

    def _restore_group(self, group_id: str) -> Meta | None:
        rows = self.database.fetch(self.prepare().read_group, id=group_id)
        if not rows:
            return None
        meta: Meta = rows[0]._asdict()
        try:
            meta['result'] = result_from_tuple(self._unpack(meta['result']), self.app)
        except Exception as exc:
            raise unreadable(group_id, exc) from exc
        return meta

    def _delete_group(self, group_id: str) -> None:
        self.database.execute(self.prepare().forget_group, id=group_id)

    # -- housekeeping ------------------------------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Remove the results, groups and chords that have expired."""
        statements = self.prepare()
        self._ensure_retryable(self.database.execute, *statements.expire_chords, now=time.time())
        if self.expires:
            oldest = utc_now() - timedelta(seconds=self.expires)
            for statement in statements.expire:
                self._ensure_retryable(self.database.execute, statement, oldest=oldest)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), 'dburi': self.url, 'expires': self.expires,
                                         'engine_options': self.engine_options})


def _find_callback(callback: Any) -> Any:
    try:
        callback = symbol_by_name(callback) if isinstance(callback, str) else callback
    except (ImportError, AttributeError) as exc:
        raise ImproperlyConfigured(f'database_engine_callback: cannot import {callback!r}: {exc}') from exc
    if callback is not None and not callable(callback):
        raise ImproperlyConfigured(f'database_engine_callback: must be callable, not {callback!r}')
    return callback
