"""The tables, Celery's two with its columns and the two that a chord is joined in, and the statements on them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from canvaslite import states, wire
from canvaslite.backends.database.engines import Database, logger
from canvaslite.backends.recordjoin import OVER, ChordHead

#: Names of the tables that chords are joined in, unless ``database_table_names`` gives ``join`` and ``join_part``.
JOIN_TABLE, JOIN_PART_TABLE = 'cl_join', 'cl_join_part'
#: Those of the tables of runs and of the ids in them, unless it gives ``canvas`` and ``canvas_task``.
CANVAS_TABLE, CANVAS_TASK_TABLE = 'cl_canvas', 'cl_canvas_task'

#: Columns that have the names of a `ChordHead`'s fields; the last of these is kept with the slots.
HEAD_COLUMNS = ChordHead._fields[:-1]

#: How often making the tables is tried while other processes do the same.
ATTEMPTS = 10

#: MySQL's BLOB ends at 64 kB, and so would results.
Payload = sa.LargeBinary().with_variant(mysql.LONGBLOB(), 'mysql', 'mariadb')
Text = sa.Text().with_variant(mysql.LONGTEXT(), 'mysql', 'mariadb')
Name = sa.String(155)


class ResultTables:
    """The tables of one store.

    `names` and `schemas` are ``database_table_names`` and ``database_table_schemas``: mappings with the keys ``task``,
    ``group``, ``join``, ``join_part``, ``canvas`` and ``canvas_task``. `columns` are the names of the task table's
    columns that are really there: a table made by an older Celery lacks some.
    """

    def __init__(self, names: Mapping[str, str | None] | None, schemas: Mapping[str, str | None] | None) -> None:
        names, schemas = names or {}, schemas or {}
        self.metadata = sa.MetaData()
        self.task = _result_table(
            self.metadata, names.get('task') or wire.TASK_TABLE, schemas.get('task'), 'task_id',
            sa.Column('status', sa.String(50), default=states.PENDING), sa.Column('traceback', Text),
            sa.Column('children', Payload),
            # Filled with result_extended only.
            sa.Column('name', Name), sa.Column('args', Payload), sa.Column('kwargs', Payload),
            sa.Column('worker', Name), sa.Column('retries', sa.Integer), sa.Column('queue', Name),
            sa.Column('stamps', Payload))
        group = names.get('group') or wire.GROUP_TABLE
        self.group = _result_table(self.metadata, group, schemas.get('group'), 'taskset_id')
        # Stores that keep their groups apart keep their joins apart.
        prefix = '' if group == wire.GROUP_TABLE else f'{group}_'
        schema = schemas.get('join', schemas.get('group'))
        join = names.get('join') or prefix + JOIN_TABLE
        # The columns have the names of a `ChordHead`'s fields.
        self.join = sa.Table(
            join, self.metadata,
            sa.Column('gid', Name, primary_key=True), sa.Column('size', sa.Integer),
            sa.Column('extra', sa.Integer, nullable=False), sa.Column('state', sa.String(10), nullable=False),
            sa.Column('token', sa.String(64)), sa.Column('attempts', sa.Integer, nullable=False),
            sa.Column('due', sa.Double, nullable=False), sa.Column('deadline', sa.Double), sa.Column('home', Name),
            # The body's signature, and the header's slots as JSON: for those who have no message of the chord.
            sa.Column('callback', Payload), sa.Column('slots', Payload),
            sa.Index(f'ix_{join}_due', 'state', 'due'), schema=schema)
        self.part = sa.Table(
            names.get('join_part') or prefix + JOIN_PART_TABLE, self.metadata,
            sa.Column('gid', Name, primary_key=True),
            # The header task's id and place.
            sa.Column('slot', Name, primary_key=True),
            sa.Column('idx', sa.Integer, primary_key=True, autoincrement=False),
            # The task's state and result, as the serializer writes them.
            sa.Column('payload', Payload),
            schema=schema)
        self.canvas = sa.Table(
            names.get('canvas') or prefix + CANVAS_TABLE, self.metadata,
            sa.Column('id', sa.Integer, primary_key=True), sa.Column('run', Name, index=True),
            sa.Column('record', Payload), sa.Column('date_done', sa.DateTime, index=True), schema=schema)
        self.canvas_task = sa.Table(
            names.get('canvas_task') or prefix + CANVAS_TASK_TABLE, self.metadata,
            sa.Column('task_id', Name, primary_key=True), sa.Column('run', Name, index=True),
            sa.Column('date_done', sa.DateTime, index=True), schema=schema)
        self.columns = frozenset(self.task.columns.keys())

    def create(self, database: Database) -> None:
        """Make the tables and columns that are missing. Raises SQLAlchemy's errors."""
        with database.gate:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self.metadata.create_all(database.engine)
                    break
                except SQLAlchemyError:
                    # Another process made a table between the look and the statement: the next look sees it.
                    if attempt == ATTEMPTS:
                        raise
                time.sleep(random.uniform(0, 0.02 * attempt))
            self.columns = self._complete(database, self.task)
            self._complete(database, self.join)

    def _complete(self, database: Database, table: sa.Table) -> frozenset[str]:
        """Add the columns that a table lacks, as one that an older version made; the names of those that are there."""
        dialect = database.engine.dialect
        present = _present_columns(database, table)
        for column in table.columns:
            if column.name in present:
                continue
            statement = (f'ALTER TABLE {dialect.identifier_preparer.format_table(table)} '
                         f'ADD COLUMN {CreateColumn(column).compile(dialect=dialect)}')
            try:
                with database.engine.begin() as connection:
                    connection.execute(sa.text(statement))
            except SQLAlchemyError as exc:
                if column.name not in _present_columns(database, table):
                    logger.warning('Database: the column %s is missing and cannot be added (%s); it stays empty until '
                                   'somebody who may runs: %s', column.name, database.explain(exc), statement)
                    continue
            present |= {column.name}
        return present


def _present_columns(database: Database, table: sa.Table) -> frozenset[str]:
    columns = sa.inspect(database.engine).get_columns(table.name, schema=table.schema)
    return frozenset(column['name'] for column in columns)


def _result_table(metadata: sa.MetaData, name: str, schema: str | None, key: str, *columns: Any) -> sa.Table:
    number = sa.Column('id', sa.Integer, sa.Sequence(f'{key}_sequence', schema=schema), primary_key=True)
    return sa.Table(
        name, metadata, number, sa.Column(key, Name, unique=True), sa.Column('result', Payload),
        sa.Column('date_done', sa.DateTime, index=True), *columns, schema=schema, sqlite_autoincrement=True)


class Statements:
    """The statements for tasks (of which `columns` are written and read), groups, and chords with their slots."""

    def __init__(self, dialect: str, tables: ResultTables, columns: tuple[str, ...]) -> None:
        task, group, chord, slot = tables.task, tables.group, tables.join, tables.part
        self.columns = columns

        self.write_task = upsert(dialect, task, columns, final='status')
        found = sa.select(*(task.c[name] for name in columns))
        # One id by far the most often: its statement is compiled once, whatever the number of the others.
        self.read_task = found.where(task.c.task_id == sa.bindparam('id'))
        self.read_tasks = found.where(task.c.task_id.in_(sa.bindparam('ids', expanding=True)))
        self.forget_task = sa.delete(task).where(task.c.task_id == sa.bindparam('id'))

        names = ('taskset_id', 'result', 'date_done')
        self.write_group = upsert(dialect, group, names)
        self.read_group = sa.select(*(group.c[name] for name in names)).where(group.c.taskset_id == sa.bindparam('id'))
        self.forget_group = sa.delete(group).where(group.c.taskset_id == sa.bindparam('id'))

        #: The statements that remove what is older than `oldest`.
        self.expire = [sa.delete(table).where(table.c.date_done < sa.bindparam('oldest'))
                       for table in (task, group, tables.canvas, tables.canvas_task)]

        canvas, named = tables.canvas, tables.canvas_task
        self.write_canvas = sa.insert(canvas).inline()
        self.write_canvas_task = upsert(dialect, named, ('task_id', 'run', 'date_done'))
        self.find_run = sa.select(named.c.run).where(named.c.task_id == sa.bindparam('id'))
        self.read_run = sa.select(canvas.c.record).where(canvas.c.run == sa.bindparam('of')).order_by(canvas.c.id)
        self.drop_run = [sa.delete(table).where(table.c.run == sa.bindparam('of')) for table in (canvas, named)]

        this, its_slots = chord.c.gid == sa.bindparam('chord'), slot.c.gid == sa.bindparam('chord')
        self.lock_chord = sa.select(*(chord.c[name] for name in HEAD_COLUMNS)).where(this).with_for_update()
        outbox = ('callback', 'slots')
        self.reserve_chord = insert_absent(dialect, chord)
        self.begin_chord = upsert(dialect, chord, ('gid', *HEAD_COLUMNS, *outbox))
        self.write_chord = sa.update(chord).where(this).values(
            {name: sa.bindparam(name) for name in HEAD_COLUMNS})
        self.read_outbox = sa.select(*(chord.c[name] for name in outbox)).where(this)
        self.keep_outbox = sa.update(chord).where(this).values({name: sa.bindparam(name) for name in outbox})
        self.drop_chord = sa.delete(chord).where(this)
        is_due = chord.c.due <= sa.bindparam('now'), chord.c.home == sa.bindparam('home')
        self.due_chords = sa.select(chord.c.gid).where(chord.c.state != OVER, *is_due).order_by(
            chord.c.due).limit(sa.bindparam('most'))
        given = [sa.bindparam(column.name, type_=column.type) for column in slot.columns]
        same = sa.and_(*(slot.c[param.key] == param for param in given[:3]))
        # Not an upsert: the first outcome counts. The lock on the chord makes the look and the insertion one step.
        self.add_slot = sa.insert(slot).from_select(
            [column.name for column in slot.columns], sa.select(*given).where(~sa.exists().where(same)))
        self.count_slots = sa.select(sa.func.count()).select_from(slot).where(its_slots)
        self.read_slots = sa.select(slot.c.slot, slot.c.idx, slot.c.payload).where(its_slots)
        self.drop_slots = sa.delete(slot).where(its_slots)
        gone = sa.and_(chord.c.state == OVER, chord.c.due < sa.bindparam('now'))
        #: The statements that remove the chords that nobody misses any more.
        self.expire_chords = [sa.delete(slot).where(slot.c.gid.in_(sa.select(chord.c.gid).where(gone))),
                              sa.delete(chord).where(gone)]


def utc_now() -> datetime:
    """Now, as the tables say it: in UTC, without a time zone."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


def upsert(dialect: str, table: sa.Table, columns: Iterable[str], final: str | None = None) -> Any:
    """Insert a row with `columns`, whose first is a unique key, or update that row, unless its state, in the column
    `final`, is final for the new one (`states.is_final`).
    """
    key, *changed = columns
    # Inline: nobody wants the new row's number, and a row that stays as it is has none to return.
    if dialect in ('mysql', 'mariadb'):
        duplicate = mysql.insert(table).inline()
        may_change = _may_change(table, duplicate.inserted, final)
        # MySQL assigns from left to right, and later assignments see the new values: what is asked about comes last.
        changed.sort(key=lambda name: name == final)
        return duplicate.on_duplicate_key_update([
            (name, sa.case((may_change, duplicate.inserted[name]), else_=table.c[name])) for name in changed])
    insert: Any = (postgresql if dialect == 'postgresql' else sqlite).insert(table).inline()
    return insert.on_conflict_do_update(index_elements=[key], set_={name: insert.excluded[name] for name in changed},
                                        where=_may_change(table, insert.excluded, final))


def insert_absent(dialect: str, table: sa.Table) -> Any:
    """Insert a row unless there is one of its key."""
    if dialect in ('mysql', 'mariadb'):
        return mysql.insert(table).inline().prefix_with('IGNORE')
    insert: Any = (postgresql if dialect == 'postgresql' else sqlite).insert(table).inline()
    return insert.on_conflict_do_nothing()


def _may_change(table: sa.Table, new: Any, final: str | None) -> Any:
    if final is None:
        return sa.true()
    stored, retried = table.c[final], new[final] == states.RETRY
    return sa.or_(stored.is_(None), sa.and_(stored != states.SUCCESS,
                                            sa.or_(~retried, stored.not_in(states.READY_STATES))))
