# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rows elsewhere in the database that a deletion would take along, by foreign keys."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import postgres, server
from .errors import refuse

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: What ON DELETE does to the rows that refer to a deleted one, by pg_constraint.confdeltype.
_ON_DELETE = {
    "c": "would be deleted (ON DELETE CASCADE)",
    "n": "would lose what they refer to (ON DELETE SET NULL)",
    "d": "would refer to something else (ON DELETE SET DEFAULT)",
    "r": "would refer to nothing, which PostgreSQL refuses",
    "a": "would refer to nothing, which PostgreSQL refuses",
}


class _Key(NamedTuple):
    """A foreign key between two different tables; names are quoted, with their schema."""

    name: str
    child: int
    child_name: str
    parent: int
    parent_name: str
    action: str
    columns: List[str]
    parent_columns: List[str]
    readable: bool


def require_none(cursor: Cursor, where: str, deleted: Sequence[Tuple[str, Optional[str]]]) -> None:
    """Refuse deletions that reach rows of tables that no step deletes from.

    ``deleted`` are the tables on the search path that lose rows, in this order, each with the
    condition of these rows, or None for all. Rows that refer to them are fine in tables that stand
    earlier in the list, since their own step has proved and deleted them. Elsewhere, in whatever
    schema, they are named, with what ON DELETE would do to them, and so are the rows that a cascade
    would reach from there.
    """
    keys = _foreign_keys(cursor)
    known = postgres.oids(cursor, [table for table, _ in deleted])
    gone: Set[int] = set()
    problems: List[str] = []
    for table, condition in deleted:
        if table in known:
            problems += _reached(cursor, keys, known[table], condition, gone)
            gone.add(known[table])
    refuse(
        where,
        list(dict.fromkeys(problems)),
        "No step deletes these rows and no backup proves them: add tables of labeller's own to the "
        "tables of pg_clear and of the backup; else back the rows up and delete them, or drop the "
        "foreign key",
    )


def _reached(
    cursor: Cursor, keys: Sequence[_Key], parent: int, condition: Optional[str], gone: Set[int]
) -> List[str]:
    """The problems of rows that refer to a table from which rows are deleted, transitively."""
    problems = []
    seen = {parent, *gone}
    parents = [parent]
    for table in parents:
        for key in keys:
            if key.parent != table or key.child in seen:
                continue
            rows = _referring(cursor, key, condition if table == parent else None)
            if not rows:
                continue
            problems.append(
                "{} that refer to {}, from which rows are deleted, {} [{}]".format(
                    rows, key.parent_name, _ON_DELETE[key.action], key.name
                )
            )
            if key.action == "c":
                seen.add(key.child)
                parents.append(key.child)
    return problems


def _referring(cursor: Cursor, key: _Key, condition: Optional[str]) -> str:
    """``12 rows of public.hit_data`` that refer to deleted ones; empty when none does."""
    if not key.readable:
        return "the rows of {}, which this role may not read, and".format(key.child_name)
    tests = [_sql.SQL("c.{} IS NOT NULL").format(_sql.Identifier(column)) for column in key.columns]
    if condition:
        pairs = zip(key.columns, key.parent_columns)
        tests.append(
            _sql.SQL("EXISTS (SELECT 1 FROM {} p WHERE {} AND ({}))").format(
                _sql.SQL(key.parent_name),
                _sql.SQL(" AND ").join(
                    _sql.SQL("c.{} = p.{}").format(*map(_sql.Identifier, pair)) for pair in pairs
                ),
                _sql.SQL(condition),
            )
        )
    query = _sql.SQL("SELECT count(*) FROM {} c WHERE {}").format(
        _sql.SQL(key.child_name), _sql.SQL(" AND ").join(tests)
    )
    count = postgres.value(cursor, query)
    return "{:,} rows of {}".format(count, key.child_name) if count else ""


def _foreign_keys(cursor: Cursor) -> List[_Key]:
    """All foreign keys of the database but those of tables to themselves."""
    version = server.version(cursor.connection)
    names = """
        ARRAY(SELECT a.attname::text FROM unnest(k.{numbers}) WITH ORDINALITY AS n (number, nth)
              JOIN pg_attribute a ON a.attrelid = k.{table} AND a.attnum = n.number ORDER BY n.nth)
        """
    query = """
        SELECT k.conname, c.oid, format('%I.%I', cn.nspname, c.relname),
               p.oid, format('%I.%I', pn.nspname, p.relname), k.confdeltype::text,
               {columns}, {parent_columns},
               has_schema_privilege(cn.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') {seen}
        FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
        JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE k.contype = 'f' AND c.oid <> p.oid {own} ORDER BY 5, 3, 1
        """
    cursor.execute(
        query.format(  # constants
            columns=names.format(numbers="conkey", table="conrelid"),
            parent_columns=names.format(numbers="confkey", table="confrelid"),
            seen="AND NOT row_security_active(c.oid)" if version >= 90500 else "",
            own="AND k.conparentid = 0" if version >= 110000 else "",
        )
    )
    return [_Key(*row) for row in cursor.fetchall()]
