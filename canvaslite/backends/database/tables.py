"""The tables: Celery's two, with its columns, and the two that a chord is joined in."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from canvaslite import states, wire
from canvaslite.backends.database.engines import Database, use_write_ahead_log

__all__ = ('ResultTables',)

logger = logging.getLogger('canvaslite.backends.database')

#: Names of the tables that chords are joined in, unless ``database_table_names`` gives ``join`` and ``join_part``.
JOIN_TABLE, JOIN_PART_TABLE = 'cl_join', 'cl_join_part'

#: How often making the tables is tried while other processes do the same.
ATTEMPTS = 10

#: MySQL's BLOB ends at 64 kB, and so would results.
Payload = sa.LargeBinary().with_variant(mysql.LONGBLOB(), 'mysql', 'mariadb')
Text = sa.Text().with_variant(mysql.LONGTEXT(), 'mysql', 'mariadb')
Number = sa.Integer().with_variant(sa.BigInteger, 'mssql')


class ResultTables:
    """The tables of one store.

    `names` and `schemas` are ``database_table_names`` and ``database_table_schemas``: mappings with the keys ``task``,
    ``group``, ``join`` and ``join_part``. `columns` are the names of the task table's columns that are really there:
    a table made by an older Celery lacks some.
    """

    def __init__(self, names: Mapping[str, str | None] | None, schemas: Mapping[str, str | None] | None) -> None:
        names, schemas = names or {}, schemas or {}
        self.metadata = sa.MetaData()
        self.task = _task_table(self.metadata, names.get('task') or wire.TASK_TABLE, schemas.get('task'))
        group = names.get('group') or wire.GROUP_TABLE
        self.group = _group_table(self.metadata, group, schemas.get('group'))
        # Stores that keep their groups apart keep their joins apart.
        prefix = '' if group == wire.GROUP_TABLE else f'{group}_'
        schema = schemas.get('join', schemas.get('group'))
        self.join = _join_table(self.metadata, names.get('join') or prefix + JOIN_TABLE, schema)
        self.part = _part_table(self.metadata, names.get('join_part') or prefix + JOIN_PART_TABLE, schema)
        self.columns = frozenset(column.name for column in self.task.columns)

    def create(self, database: Database) -> None:
        """Make the tables and columns that are missing. Raises SQLAlchemy's errors."""
        with database.gate:
            use_write_ahead_log(database)
            self._create_tables(database)
            self.columns = self._complete_task_table(database)

    def _create_tables(self, database: Database) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.metadata.create_all(database.engine)
                return
            except SQLAlchemyError:
                # Another process made a table between the look and the statement: the next look sees it.
                if attempt == ATTEMPTS:
                    raise
            time.sleep(random.uniform(0, 0.02 * attempt))

    def _complete_task_table(self, database: Database) -> frozenset[str]:
        present = _present_columns(database, self.task)
        for column in self.task.columns:
            if column.name in present:
                continue
            definition = CreateColumn(column).compile(dialect=database.engine.dialect)
            table = database.engine.dialect.identifier_preparer.format_table(self.task)
            statement = f'ALTER TABLE {table} ADD COLUMN {definition}'
            try:
                with database.engine.begin() as connection:
                    connection.execute(sa.text(statement))
            except SQLAlchemyError as exc:
                if column.name not in _present_columns(database, self.task):
                    logger.warning('Database: the column %s is missing and cannot be added (%s); it stays empty until '
                                   'somebody who may runs: %s', column.name, database.explain(exc), statement)
        return _present_columns(database, self.task)


def _present_columns(database: Database, table: sa.Table) -> frozenset[str]:
    columns = sa.inspect(database.engine).get_columns(table.name, schema=table.schema)
    return frozenset(column['name'] for column in columns)


def _task_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    return sa.Table(
        name, metadata,
        sa.Column('id', Number, sa.Sequence('task_id_sequence', schema=schema), primary_key=True, autoincrement=True),
        sa.Column('task_id', sa.String(155), unique=True),
        sa.Column('status', sa.String(50), default=states.PENDING),
        sa.Column('result', Payload, nullable=True),
        sa.Column('date_done', sa.DateTime, nullable=True, index=True),
        sa.Column('traceback', Text, nullable=True),
        sa.Column('children', Payload, nullable=True),
        # Filled with result_extended only.
        sa.Column('name', sa.String(155), nullable=True),
        sa.Column('args', Payload, nullable=True),
        sa.Column('kwargs', Payload, nullable=True),
        sa.Column('worker', sa.String(155), nullable=True),
        sa.Column('retries', sa.Integer, nullable=True),
        sa.Column('queue', sa.String(155), nullable=True),
        sa.Column('stamps', Payload, nullable=True),
        schema=schema, sqlite_autoincrement=True)


def _group_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    return sa.Table(
        name, metadata,
        sa.Column('id', Number, sa.Sequence('taskset_id_sequence', schema=schema),
                  primary_key=True, autoincrement=True),
        sa.Column('taskset_id', sa.String(155), unique=True),
        sa.Column('result', Payload, nullable=True),
        sa.Column('date_done', sa.DateTime, nullable=True, index=True),
        schema=schema, sqlite_autoincrement=True)


def _join_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    return sa.Table(
        name, metadata,
        sa.Column('gid', sa.String(155), primary_key=True),
        #: Number of header tasks; NULL until it is known.
        sa.Column('size', sa.Integer, nullable=True),
        #: Slots added by tasks that were replaced by groups.
        sa.Column('extra', sa.Integer, nullable=False, server_default='0'),
        #: The body's signature and the header's task ids, as the serializer writes them.
        sa.Column('callback', Payload, nullable=True),
        sa.Column('ids', Payload, nullable=True),
        #: ``open``, ``claimed`` or ``done``.
        sa.Column('state', sa.String(10), nullable=False, server_default='open'),
        sa.Column('token', sa.String(64), nullable=True),
        #: When somebody must look again, and when the chord is given up: milliseconds since 1970.
        sa.Column('until_', sa.BigInteger, nullable=True),
        sa.Column('deadline', sa.BigInteger, nullable=True),
        sa.Column('attempts', sa.Integer, nullable=False, server_default='0'),
        sa.Index(f'ix_{name}_due', 'state', 'until_'),
        schema=schema)


def _part_table(metadata: sa.MetaData, name: str, schema: str | None) -> sa.Table:
    return sa.Table(
        name, metadata,
        sa.Column('gid', sa.String(155), primary_key=True),
        #: The header task's id.
        sa.Column('slot', sa.String(155), primary_key=True),
        sa.Column('idx', sa.Integer, primary_key=True, autoincrement=False),
        #: The task's state and result, as the serializer writes them.
        sa.Column('payload', Payload, nullable=True),
        schema=schema)
