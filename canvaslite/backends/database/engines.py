"""Connections to the database: one engine per process, and transactions that are tried again when they collide.

SQLite is opened for several processes at once: write-ahead logging, ``BEGIN IMMEDIATE`` for what writes, and a long
busy timeout, so that writers queue up and none of them fails with ``database is locked``.

A fork must not share a connection. Idle connections are closed *before* a fork, not after it in the child: closing a
SQLite file in a child would delete its parent's log, and closing a server's connection would end its parent's session.
Nor may a fork come in the middle of another thread's SQLite transaction: SQLite notes the locks of a process in memory,
and the child would wait for ever for the copy of one that nobody gives back.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.redact import redact

logger = logging.getLogger('celery.backends.database')

T = TypeVar('T')

#: The databases, and which drivers to try where the URL names none and SQLAlchemy's own choice is not installed.
DRIVERS = {'sqlite': (), 'postgresql': ('psycopg2', 'psycopg'), 'mysql': ('pymysql',), 'mariadb': ('pymysql',)}

#: Seconds a SQLite writer waits for its turn; for how long it looks often first, and how often. SQLite itself looks
#: after one, two, five, ten milliseconds, and a chord's part takes less than one.
SQLITE_TIMEOUT = 60.0
SQLITE_ALERT, SQLITE_PAUSE = 0.02, 0.0003

#: Seconds that a fork waits for another thread's SQLite transaction.
FORK_PATIENCE = 10.0

#: How often a transaction that collided is tried again before the error is the caller's.
ATTEMPTS = 30

#: SQLSTATEs and MySQL error numbers of a transaction that lost against another one and may be repeated.
COLLISION_STATES = frozenset({'40001', '40P01', '55P03'})
COLLISION_NUMBERS = frozenset({1020, 1205, 1213})


class Database:
    """One database. `url` is SQLAlchemy's, `options` are those of `create_engine`.

    `engine_callback` is called with each engine that is made; `short_lived` closes each connection after its use.
    Raises `ImproperlyConfigured` for a URL, a driver or an option that cannot be.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None,
                 engine_callback: Callable[[Any], Any] | None = None, short_lived: bool = False) -> None:
        parsed = _parse_url(url)
        backend = parsed.get_backend_name()
        self.in_memory = backend == 'sqlite' and (
            parsed.database in (None, '', ':memory:') or 'mode=memory' in parsed.render_as_string())
        self.engine = _make_engine(parsed, _options(backend, dict(options or {}), self.in_memory, short_lived))
        self.url = self.engine.url
        self.dialect: str = self.engine.dialect.name
        if engine_callback is not None:
            engine_callback(self.engine)
        #: Held while SQLite is used, and during a fork.
        self.gate = self._make_gate()
        self._writer = self.engine.execution_options(canvaslite_writes=True)
        # psycopg2 would open a transaction, and roll it back, around each SELECT: two trips more.
        autocommits = self.dialect == 'postgresql'
        self._reader = self.engine.execution_options(isolation_level='AUTOCOMMIT') if autocommits else self.engine
        _databases.add(self)

    def transact(self, work: Callable[..., T], *args: Any) -> T:
        """``work(connection, *args)`` in one transaction; done again, without harm, if it collides or its connection is
        lost."""
        return self._repeat(self._transact_once, work, args)

    def execute(self, *statements: Any, **parameters: Any) -> None:
        """Execute the statements, which take the same parameters, in one transaction."""
        self.transact(lambda connection: [connection.execute(statement, parameters) for statement in statements])

    def fetch(self, statement: Any, **parameters: Any) -> list[Any]:
        """All rows that a query finds."""
        return self._repeat(self._fetch_once, statement, parameters)

    def _transact_once(self, work: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self.gate, self._writer.begin() as connection:
            return work(connection, *args)

    def _fetch_once(self, statement: Any, parameters: Any) -> list[Any]:
        with self.gate, self._reader.connect() as connection:
            return list(connection.execute(statement, parameters))

    def _repeat(self, operation: Callable[..., T], *args: Any) -> T:
        attempt = 0
        while True:
            try:
                return operation(*args)
            except DBAPIError as exc:
                attempt += 1
                lost = exc.connection_invalidated
                # A lost connection was idle too long, or the server is away: the first is over after one repetition.
                if attempt >= (2 if lost else ATTEMPTS) or not (lost or _is_collision(exc)):
                    raise
                logger.debug('Database: %s, trying again', _reason(exc))
            time.sleep(random.uniform(0, min(0.2, 0.002 * 2 ** attempt)))

    def close(self) -> None:
        """Close the idle connections. The next use opens new ones."""
        if not self.in_memory:
            self.engine.dispose()

    def leave_to_parent(self) -> None:
        """Forget the connections, which belong to the parent process, without closing them."""
        if not self.in_memory:
            # The reference keeps Python from closing a connection that another thread returned during the fork.
            _inherited.append(self.engine.pool)
            self.engine.dispose(close=False)
        self.gate = self._make_gate()

    def _make_gate(self) -> Any:
        return threading.RLock() if self.dialect == 'sqlite' else nullcontext()

    def as_uri(self, include_password: bool = False) -> str:
        """The URL, its passwords masked unless `include_password`."""
        text: str = self.url.render_as_string(hide_password=not include_password)
        return text if include_password else redact(text)

    def explain(self, exc: BaseException) -> str:
        """`exc` in one line, for people."""
        return f'{self.as_uri()}: {_reason(exc)}'


def _is_collision(exc: DBAPIError) -> bool:
    """Whether a transaction failed only because another one was there, so that it may be repeated."""
    reason = (exc.orig.args if exc.orig is not None else ()) or ('',)
    state = getattr(exc.orig, 'sqlstate', None) or getattr(exc.orig, 'pgcode', None)
    return state in COLLISION_STATES or reason[0] in COLLISION_NUMBERS or 'is locked' in str(reason[0])


def _reason(exc: BaseException) -> str:
    original = getattr(exc, 'orig', None) or exc
    return redact(' '.join(str(original).split()))


def _parse_url(url: str) -> Any:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The text is not shown: what cannot be parsed cannot be masked.
        raise ImproperlyConfigured('result_backend: the database URL cannot be read; write it like '
                                   'db+sqlite:///results.sqlite or db+postgresql://user:password@host/name') from None


def _options(backend: str, options: dict[str, Any], in_memory: bool, short_lived: bool) -> dict[str, Any]:
    # A connection that went stale is found by `_repeat`; a ping at each use would double the trips to the server.
    options.pop('pool_pre_ping', None)
    if backend == 'sqlite':
        options['connect_args'] = {'timeout': SQLITE_TIMEOUT, **(options.get('connect_args') or {})}
    if in_memory:
        # One connection is the whole database: keep it, lend it to one thread at a time.
        options['connect_args']['check_same_thread'] = False
        options.update(poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=SQLITE_TIMEOUT, pool_recycle=-1)
    elif short_lived:
        options = {name: value for name, value in options.items() if not name.startswith(('pool', 'max_overflow'))}
        options['poolclass'] = NullPool
    return options


def _make_engine(url: Any, options: dict[str, Any]) -> Any:
    backend = url.get_backend_name()
    if backend not in DRIVERS:
        raise ImproperlyConfigured(f'result_backend: no database is called {backend!r}; '
                                   'use db+sqlite, db+postgresql or db+mysql')
    drivers = () if '+' in url.drivername else DRIVERS[backend]
    for candidate in (url, *(url.set(drivername=f'{backend}+{driver}') for driver in drivers)):
        try:
            engine = create_engine(candidate, **options)
            break
        except NoSuchModuleError:
            raise ImproperlyConfigured(f'result_backend: SQLAlchemy knows no driver {url.drivername!r}; '
                                       f'write db+{backend}://…') from None
        except TypeError as exc:
            raise ImproperlyConfigured(f'database_engine_options: {_reason(exc)}') from None
        except ImportError as exc:
            missing = exc
    else:
        raise ImproperlyConfigured(f'result_backend: no driver for {url.drivername} ({missing}); '
                                   f'pip install {(*DRIVERS[backend], url.get_driver_name())[0]}')
    if backend == 'sqlite':
        event.listen(engine, 'connect', _on_sqlite_connect)
        event.listen(engine, 'begin', _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, record: Any) -> None:
    # Python's own handling of transactions would begin them late, as readers, and fail when they turn to writing.
    connection.isolation_level = None
    for attempt in range(ATTEMPTS):
        try:
            # With a log, readers and the writer do not stop each other. It lasts in the file.
            connection.execute('PRAGMA journal_mode=WAL')
            break
        except sqlite3.OperationalError as exc:
            if 'is locked' not in str(exc):
                break  # a file that may only be read
            # It wants the file for itself and does not wait for it: another process may be doing the same just now.
            time.sleep(random.uniform(0, 0.01 * (attempt + 1)))
    # With a log this loses nothing when processes die, and the last transactions when the machine loses its power.
    connection.execute('PRAGMA synchronous=NORMAL')
    record.info['patience'] = connection.execute('PRAGMA busy_timeout').fetchone()[0]


def _on_sqlite_begin(connection: Any) -> None:
    if not connection.get_execution_options().get('canvaslite_writes'):
        connection.exec_driver_sql('BEGIN')
    elif not _begins_at_once(connection):
        connection.exec_driver_sql('BEGIN IMMEDIATE')


def _begins_at_once(connection: Any) -> bool:
    """Begin as the writer, if there is no other one by and by."""
    raw, until = connection.connection.dbapi_connection, time.monotonic() + SQLITE_ALERT
    raw.execute('PRAGMA busy_timeout=0')
    try:
        while time.monotonic() < until:
            try:
                raw.execute('BEGIN IMMEDIATE')
                return True
            except sqlite3.OperationalError as exc:
                if 'is locked' not in str(exc):
                    raise
            time.sleep(SQLITE_PAUSE)
    finally:
        raw.execute(f'PRAGMA busy_timeout={connection.info["patience"]}')
    return False


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[Any] = []
_shut_gates: list[Any] = []


def _prepare_fork() -> None:
    for database in list(_databases):
        # A writer may have to wait for its turn longer than a fork should.
        if database.dialect == 'sqlite' and database.gate.acquire(timeout=FORK_PATIENCE):
            _shut_gates.append(database.gate)
        database.close()


def _go_on_in_parent() -> None:
    while _shut_gates:
        _shut_gates.pop().release()


def _begin_in_child() -> None:
    _shut_gates.clear()
    for database in list(_databases):
        database.leave_to_parent()


os.register_at_fork(before=_prepare_fork, after_in_parent=_go_on_in_parent, after_in_child=_begin_in_child)
