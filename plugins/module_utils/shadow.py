# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Temporary copies of tables that stand before the real ones on the search path.

A shadow has the table's columns, defaults, constraints, indexes and rows (or none, when it will be
emptied anyway), the foreign keys to other shadowed tables, and sequences of its own at the real
ones' values. Making one takes an ACCESS SHARE lock on the real table, as any reader does. Triggers
of the user are not copied.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, List, Optional, Sequence, Set, Tuple

from . import fingerprint
from .errors import InvalidInput

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable


#: Where real tables are.
SCHEMAS = ("public", "runbook")


def create(
    cursor: Cursor, empty: Sequence[str], copied: Sequence[str], search_path: str
) -> Set[str]:
    """Shadow tables: ``empty`` without rows, ``copied`` with them; gives those without rows.

    The tables are looked up on ``search_path``, which is the present one; after it, ``pg_temp`` is
    its first part. A table that an input has made temporary already is left alone. Tables that
    copied ones refer to by foreign key are copied too, so that their checks hold. Raises
    InvalidInput when a table is not there.
    """
    temporary = {name for name in (*empty, *copied) if _is_temporary(cursor, name)}
    require(cursor, sorted({*empty, *copied} - temporary))
    bare = [name for name in empty if name not in temporary]
    full = _with_referenced(cursor, [name for name in copied if name not in temporary], bare)
    names = [*bare, *full]
    # Read before the first shadow is there: then these texts name tables and sequences without a
    # schema, and executed behind the shadows they mean the temporary ones.
    finishing = [
        *_sequences(cursor, names),
        *_sequence_defaults(cursor, names),
        *_foreign_keys(cursor, names),
    ]
    identities = _identities(cursor, names)
    for name in names:
        _create_table(cursor, name, with_rows=name in full)
    cursor.execute("SET LOCAL search_path = pg_temp, {}".format(search_path))
    for statement in finishing:
        cursor.execute(statement)
    for table, column, last_value, is_called in identities:
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence(quote_ident(%s), %s), %s, %s)",
            (table, column, last_value, is_called),
        )
    for name in full:
        cursor.execute(_sql.SQL("ANALYZE pg_temp.{}").format(_sql.Identifier(name)))
    return set(bare)


def require(cursor: Cursor, tables: Sequence[str]) -> None:
    """Raise InvalidInput when one of the tables is not on the search path."""
    cursor.execute(
        "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NULL",
        (list(tables),),
    )
    missing = [name for (name,) in cursor.fetchall()]
    if missing:
        raise InvalidInput(
            "the database {} has no table {}; is it a labeller database (db_name)? Tables that "
            "this labeller does not have are left out by the option tables".format(
                cursor.connection.info.dbname, ", ".join(missing)
            )
        )


def exists(cursor: Cursor, table: str) -> bool:
    """Whether a table is on the search path."""
    cursor.execute("SELECT to_regclass(quote_ident(%s)) IS NOT NULL", (table,))
    row = cursor.fetchone()
    return bool(row and row[0])


def real(cursor: Cursor, table: str) -> Composable:
    """The real table's qualified name, whatever stands before it on the search path."""
    cursor.execute(
        """
        SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = %s AND n.nspname = ANY (%s) AND c.relkind IN ('r', 'p')
        ORDER BY n.nspname LIMIT 1
        """,
        (table, list(SCHEMAS)),
    )
    row = cursor.fetchone()
    assert row is not None
    return _sql.Identifier(row[0], table)


def sequence(cursor: Cursor, table: str, column: str) -> Optional[str]:
    """The sequence behind a column (its default calls nextval, or it is an identity).

    As a text that casts to regclass; of the shadow when there is one. None without a sequence.
    """
    cursor.execute(
        """
        SELECT d.refobjid::regclass::text
        FROM pg_attrdef f
        JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
        JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
        WHERE d.refclassid = 'pg_class'::regclass AND f.adrelid = quote_ident(%s)::regclass
        AND a.attname = %s
        """,
        (table, column),
    )
    row = cursor.fetchone()
    if row is None:
        cursor.execute("SELECT pg_get_serial_sequence(quote_ident(%s), %s)", (table, column))
        row = cursor.fetchone()
    return row[0] if row else None


def _is_temporary(cursor: Cursor, table: str) -> bool:
    cursor.execute(
        "SELECT relpersistence = 't' FROM pg_class WHERE oid = to_regclass(quote_ident(%s))",
        (table,),
    )
    row = cursor.fetchone()
    return bool(row and row[0])


def _with_referenced(cursor: Cursor, copied: Sequence[str], bare: Sequence[str]) -> List[str]:
    """The copied tables and, transitively, those that their foreign keys refer to."""
    names = list(copied)
    for name in names:
        cursor.execute(
            """
            SELECT DISTINCT p.relname FROM pg_constraint f JOIN pg_class p ON p.oid = f.confrelid
            WHERE f.contype = 'f' AND f.conrelid = quote_ident(%s)::regclass ORDER BY 1
            """,
            (name,),
        )
        names += [parent for (parent,) in cursor.fetchall() if parent not in (*names, *bare)]
    return names


_DEFAULTS = """
    FROM pg_attrdef f
    JOIN pg_class c ON c.oid = f.adrelid
    JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
    JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
    JOIN pg_namespace n ON n.oid = s.relnamespace
    WHERE d.refclassid = 'pg_class'::regclass
    AND f.adrelid IN (SELECT quote_ident(name)::regclass FROM unnest(%s::text[]) AS name)
"""


def _sequence_defaults(cursor: Cursor, tables: Sequence[str]) -> List[Composable]:
    """Statements that give the shadows the defaults that use sequences."""
    cursor.execute(
        "SELECT DISTINCT c.relname, a.attname, pg_get_expr(f.adbin, f.adrelid)" + _DEFAULTS,
        (list(tables),),
    )
    return [
        _sql.SQL("ALTER TABLE pg_temp.{} ALTER COLUMN {} SET DEFAULT {}").format(
            _sql.Identifier(table), _sql.Identifier(column), _sql.SQL(expression)
        )
        for table, column, expression in cursor.fetchall()
    ]


def _sequences(cursor: Cursor, tables: Sequence[str]) -> List[Composable]:
    """Statements that make the sequences of these defaults, at the real ones' state."""
    cursor.execute(
        "SELECT DISTINCT n.nspname, s.relname, i.increment"
        + _DEFAULTS.replace(
            "WHERE",
            "JOIN information_schema.sequences i ON i.sequence_schema = n.nspname"
            " AND i.sequence_name = s.relname WHERE",
        ),
        (list(tables),),
    )
    statements: List[Composable] = []
    for schema, name, increment in cursor.fetchall():
        last_value, is_called = _state(cursor, _sql.Identifier(schema, name))
        statements += [
            _sql.SQL("CREATE TEMPORARY SEQUENCE {} INCREMENT {}").format(
                _sql.Identifier(name), _sql.SQL(str(int(increment)))
            ),
            _sql.SQL("SELECT setval(quote_ident({})::regclass, {}, {})").format(
                *map(_sql.Literal, (name, last_value, is_called))
            ),
        ]
    return statements


def _state(cursor: Cursor, sequence_name: Composable) -> Tuple[int, bool]:
    cursor.execute(_sql.SQL("SELECT last_value, is_called FROM {}").format(sequence_name))
    row = cursor.fetchone()
    assert row is not None
    return int(row[0]), bool(row[1])


def _identities(cursor: Cursor, tables: Sequence[str]) -> List[Tuple[str, str, int, bool]]:
    """(table, column, last_value, is_called) of identity columns; PostgreSQL 10 brought them."""
    if cursor.connection.server_version < 100000:
        return []
    cursor.execute(
        """
        SELECT c.relname, a.attname, n.nspname, s.relname
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_depend d ON d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        JOIN pg_namespace n ON n.oid = s.relnamespace
        WHERE a.attidentity <> '' AND d.classid = 'pg_class'::regclass
        AND d.refclassid = 'pg_class'::regclass
        AND a.attrelid IN (SELECT quote_ident(name)::regclass FROM unnest(%s::text[]) AS name)
        """,
        (list(tables),),
    )
    return [
        (table, column, *_state(cursor, _sql.Identifier(schema, name)))
        for table, column, schema, name in cursor.fetchall()
    ]


def _create_table(cursor: Cursor, table: str, *, with_rows: bool) -> None:
    """The shadow; indexes and keys come after the rows, which is much faster."""
    source, target = real(cursor, table), _sql.Identifier(table)
    cursor.execute(
        _sql.SQL(
            "CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES) ON COMMIT DROP"
        ).format(target, source)
    )
    if with_rows:
        schema = str(source.strings[0])  # type: ignore[attr-defined]
        names = [column.name for column in fingerprint.columns(cursor, schema, table)]
        overriding = "OVERRIDING SYSTEM VALUE" if cursor.connection.server_version >= 100000 else ""
        columns = _sql.SQL(", ").join(map(_sql.Identifier, names))
        cursor.execute(
            _sql.SQL("INSERT INTO pg_temp.{} ({}) {} SELECT {} FROM {}").format(
                target, columns, _sql.SQL(overriding), columns, source
            )
        )
    for statement in _indexes(cursor, source, target):
        cursor.execute(statement)


def _indexes(cursor: Cursor, source: Composable, target: Composable) -> List[Composable]:
    """Statements that give the shadow the real table's keys and indexes, under their names."""
    cursor.execute(
        """
        SELECT coalesce(k.conname, i.relname), pg_get_constraintdef(k.oid),
               CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END, pg_get_indexdef(i.oid),
               format('CREATE %%sINDEX %%I ON %%I.%%I ',
                      CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END,
                      i.relname, n.nspname, t.relname)
        FROM pg_index x
        JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_class t ON t.oid = x.indrelid
        JOIN pg_namespace n ON n.oid = t.relnamespace
        LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.contype IN ('p', 'u', 'x')
        WHERE x.indrelid = %s::regclass AND x.indisvalid ORDER BY i.relname
        """,
        (source.as_string(cursor),),
    )
    statements: List[Composable] = []
    for name, constraint, unique, definition, prefix in cursor.fetchall():
        if constraint:
            text = _sql.SQL("ALTER TABLE pg_temp.{} ADD CONSTRAINT {} {}").format(
                target, _sql.Identifier(name), _sql.SQL(constraint)
            )
        else:
            text = _sql.SQL("CREATE {}INDEX {} ON pg_temp.{} {}").format(
                _sql.SQL(unique), _sql.Identifier(name), target,
                _sql.SQL(definition[len(prefix) :]),
            )  # fmt: skip
        statements.append(text)
    return statements


def _foreign_keys(cursor: Cursor, tables: Sequence[str]) -> List[Composable]:
    """Statements that add the foreign keys among the shadowed tables."""
    cursor.execute(
        """
        SELECT c.relname, f.conname, pg_get_constraintdef(f.oid)
        FROM pg_constraint f
        JOIN pg_class c ON c.oid = f.conrelid
        JOIN pg_class p ON p.oid = f.confrelid
        WHERE f.contype = 'f'
        AND f.conrelid IN (SELECT quote_ident(name)::regclass FROM unnest(%s::text[]) AS name)
        AND f.confrelid IN (SELECT quote_ident(name)::regclass FROM unnest(%s::text[]) AS name)
        ORDER BY 1, 2
        """,
        (list(tables), list(tables)),
    )
    return [
        _sql.SQL("ALTER TABLE pg_temp.{} ADD CONSTRAINT {} {}").format(
            _sql.Identifier(table), _sql.Identifier(name), _sql.SQL(definition)
        )
        for table, name, definition in cursor.fetchall()
    ]
