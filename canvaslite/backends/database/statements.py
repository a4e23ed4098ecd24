"""The statements, made once for the database and the columns that are there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from canvaslite import states
from canvaslite.backends.database.tables import ResultTables
from canvaslite.backends.recordjoin import ChordHead


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
        self.expire = [sa.delete(table).where(table.c.date_done < sa.bindparam('oldest')) for table in (task, group)]

        this, its_slots = chord.c.gid == sa.bindparam('chord'), slot.c.gid == sa.bindparam('chord')
        self.lock_chord = sa.select(*(chord.c[name] for name in ChordHead._fields)).where(this).with_for_update()
        self.write_chord = upsert(dialect, chord, ('gid', *ChordHead._fields))
        given = [sa.bindparam(column.name, type_=column.type) for column in slot.columns]
        same = sa.and_(*(slot.c[param.key] == param for param in given[:3]))
        # Not an upsert: the first outcome counts. The lock on the chord makes the look and the insertion one step.
        self.add_slot = sa.insert(slot).from_select(
            [column.name for column in slot.columns], sa.select(*given).where(~sa.exists().where(same)))
        self.count_slots = sa.select(sa.func.count()).select_from(slot).where(its_slots)
        self.read_slots = sa.select(slot.c.slot, slot.c.idx, slot.c.payload).where(its_slots)
        self.drop_slots = sa.delete(slot).where(its_slots)
        gone = chord.c.deadline < sa.bindparam('now')
        #: The statements that remove the chords that nobody misses any more.
        self.expire_chords = [sa.delete(slot).where(slot.c.gid.in_(sa.select(chord.c.gid).where(gone))),
                              sa.delete(chord).where(gone)]


def upsert(dialect: str, table: sa.Table, columns: Iterable[str], final: str | None = None) -> Any:
    """Insert a row with `columns`, whose first is a unique key, or update that row, unless `final` says it succeeded.
    """
    key, *changed = columns
    may_change = sa.true() if final is None else sa.or_(table.c[final].is_(None), table.c[final] != states.SUCCESS)
    # Inline: nobody wants the new row's number, and a row that stays as it is has none to return.
    if dialect in ('mysql', 'mariadb'):
        duplicate = mysql.insert(table).inline()
        # MySQL assigns from left to right, and later assignments see the new values: what is asked about comes last.
        changed.sort(key=lambda name: name == final)
        return duplicate.on_duplicate_key_update([
            (name, sa.case((may_change, duplicate.inserted[name]), else_=table.c[name])) for name in changed])
    insert: Any = (postgresql if dialect == 'postgresql' else sqlite).insert(table).inline()
    return insert.on_conflict_do_update(
        index_elements=[key], set_={name: insert.excluded[name] for name in changed}, where=may_change)
