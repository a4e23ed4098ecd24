"""Writing a row that may or may not be there, in one statement where the database has one for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

__all__ = ('Upsert',)

#: Databases whose ``INSERT`` says itself what to do about a row that exists.
NATIVE_DIALECTS = frozenset({'postgresql', 'sqlite', 'mysql', 'mariadb'})


class Upsert:
    """Insert a row of `columns` into `table`, or update the one that has the same `key` (a unique column).

    A row whose `column` has one of the `values` of ``final=(column, values)`` stays as it is. The statements are
    made once, when the store is.
    """

    __slots__ = ('_exists', '_insert', '_key', '_update')

    def __init__(self, dialect: str, table: sa.Table, key: str, columns: Collection[str],
                 final: tuple[str, Collection[str]] | None = None) -> None:
        changed = [name for name in columns if name != key]
        self._key = key
        self._update: Any = None
        self._exists: Any = None
        if dialect in ('postgresql', 'sqlite'):
            self._insert = _insert_on_conflict(dialect, table, key, changed, final)
        elif dialect in ('mysql', 'mariadb'):
            self._insert = _insert_on_duplicate(table, changed, final)
        else:
            same = table.c[key] == sa.bindparam('same_key')
            self._insert = sa.insert(table)
            self._exists = sa.select(table.c[key]).where(same)
            self._update = sa.update(table).where(same, _may_change(table, final)).values(
                {name: sa.bindparam(f'new_{name}') for name in changed})

    def execute(self, connection: Any, row: Mapping[str, Any]) -> None:
        """Write `row`, which has all the columns.

        On a database that has no statement for it, two that insert the same row at once get an `IntegrityError`.
        """
        if self._update is not None:
            same = {'same_key': row[self._key]}
            changes = {f'new_{name}': value for name, value in row.items() if name != self._key}
            if connection.execute(self._update, {**same, **changes}).rowcount:
                return
            if connection.execute(self._exists, same).first() is not None:
                return
        connection.execute(self._insert, row)


def _may_change(table: sa.Table, final: tuple[str, Collection[str]] | None) -> Any:
    if final is None:
        return sa.true()
    column = table.c[final[0]]
    return sa.or_(column.is_(None), column.not_in(list(final[1])))


def _insert_on_conflict(dialect: str, table: sa.Table, key: str, changed: list[str],
                        final: tuple[str, Collection[str]] | None) -> Any:
    insert = postgresql.insert(table) if dialect == 'postgresql' else sqlite.insert(table)
    # Inline: nobody wants the new row's number, and a row that stays as it is has none to return.
    insert = insert.inline()
    return insert.on_conflict_do_update(
        index_elements=[table.c[key]], set_={name: insert.excluded[name] for name in changed},
        where=None if final is None else _may_change(table, final))


def _insert_on_duplicate(table: sa.Table, changed: list[str], final: tuple[str, Collection[str]] | None) -> Any:
    insert = mysql.insert(table).inline()
    if final is None:
        return insert.on_duplicate_key_update([(name, insert.inserted[name]) for name in changed])
    # MySQL assigns from left to right, and later assignments see the new values: what is asked about comes last.
    ordered = sorted(changed, key=lambda name: name == final[0])
    return insert.on_duplicate_key_update([
        (name, sa.case((_may_change(table, final), insert.inserted[name]), else_=table.c[name])) for name in ordered])
