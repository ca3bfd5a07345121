# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Temporary shadows of tables that stand before the real ones on the search path.

A shadow is a copy: it has the table's columns, defaults, constraints, indexes and rows (or none,
when it will be emptied anyway), the foreign keys to other shadowed tables, and sequences of its own
at the real ones' values. For a large table of which only some columns are updated it is a view
(``overlay``). Making one takes an ACCESS SHARE lock on the real table, as any reader does. Triggers
of the user are not copied.
"""

from __future__ import annotations

from contextlib import suppress
from typing import (
    TYPE_CHECKING,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from . import fingerprint, overlay, postgres, server
from .errors import InvalidInput

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable


#: Schemas of the real tables, in the order of look-up: labeller's, then runbook's.
SCHEMAS = ("public", "runbook")
SEARCH_PATH = ", ".join(SCHEMAS)


def create(
    cursor: Cursor,
    empty: Sequence[str],
    copied: Sequence[str],
    updated: Mapping[str, Sequence[str]],
) -> Set[str]:
    """Shadow tables: ``empty`` without rows, ``copied`` with them.

    ``updated`` has those of the copied tables of which only these columns are changed; where
    that is possible and worth it, they become views. Gives the tables whose rows are for now to be
    found in the real ones only or as well: those without rows, and the views.

    The search path is ``SEARCH_PATH``; afterwards ``pg_temp`` is its first part. A table that an
    input has made temporary already is left alone. Tables that copied ones refer to by foreign key
    are copied too, so that their checks hold. Raises InvalidInput when a table is not there.
    """
    temporary = _temporary(cursor, [*empty, *copied])
    require(cursor, sorted({*empty, *copied} - temporary))
    bare = [name for name in empty if name not in temporary]
    keys = _foreign_keys(cursor)
    full = _with_referenced([name for name in copied if name not in temporary], bare, keys)
    unvalidated = _unvalidated(cursor)
    names = [*bare, *full]
    # Read before the first shadow is there: then these texts name tables and sequences without a
    # schema, and executed behind the shadows they mean the temporary ones.
    every = _tables(cursor, names)
    views = _views(cursor, every, keys, updated)
    tables = [table for table in every if table.name not in views]
    oids = [table.oid for table in tables]
    indexes = _indexes(cursor, oids)
    finishing = [
        *_sequences(cursor, oids),
        *(
            _constraint(key.table, key.name, key.definition)
            for key in keys
            if key.table in names and key.parent in names
        ),
    ]
    statements: List[Composable] = [overlay.prepare()] if views else []
    for made in views.values():
        statements += made
    for table in tables:
        rows = [_rows(cursor, table)] if table.name in full else []
        statements += _copy(table, rows, unvalidated.get(table.oid, ()))
        # after the rows, which is much faster
        statements += indexes.get(table.name, [])
    statements.append(_sql.SQL("SET LOCAL search_path = pg_temp, " + SEARCH_PATH))
    statements += finishing
    statements += [
        _sql.SQL("ANALYZE pg_temp.{}").format(_sql.Identifier(name))
        for name in full
        if name not in views
    ]
    cursor.execute(_sql.SQL(";\n").join(statements))
    return {*bare, *views}


def _copy(
    table: _Table, rows: Sequence[Composable], checks: Sequence[Tuple[str, str]]
) -> Iterator[Composable]:
    """Statements that make a shadow; rows may break a constraint that was not validated."""
    yield _table(table)
    yield from (_dropped(table.name, name) for name, _ in checks)
    yield from rows
    yield from (_constraint(table.name, *check) for check in checks)


def require(cursor: Cursor, tables: Sequence[str]) -> None:
    """Raise InvalidInput when one of the tables is not on the search path."""
    missing = postgres.column(
        cursor,
        "SELECT name FROM unnest(%s::text[]) WITH ORDINALITY AS given (name, place)"
        " WHERE NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.relname = name"
        " AND pg_table_is_visible(c.oid)) ORDER BY place",
        (list(tables),),
    )
    if missing:
        raise InvalidInput(
            "the database {} has no table {}; is it a labeller database (db_name)? Tables that "
            "this labeller does not have are left out by the option tables".format(
                cursor.connection.info.dbname, ", ".join(missing)
            )
        )


def exists(cursor: Cursor, table: str) -> bool:
    """Whether a table is on the search path."""
    query = "SELECT 1 FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)"
    return postgres.value(cursor, query, (table,)) is not None


def real(cursor: Cursor, table: str) -> Composable:
    """The real table's qualified name, whatever stands before it on the search path."""
    schema = postgres.value(
        cursor,
        """
        SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = %s AND n.nspname = ANY (%s) AND c.relkind IN ('r', 'p')
        ORDER BY n.nspname LIMIT 1
        """,
        (table, list(SCHEMAS)),
    )
    return _sql.Identifier(schema, table)


def sequence(cursor: Cursor, table: str, column: str) -> Optional[str]:
    """The sequence behind a column (its default calls nextval, or it is an identity).

    As a text that casts to regclass; of the shadow when there is one. None without a sequence.
    """
    found = postgres.value(
        cursor,
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
    if found is None:
        query = "SELECT pg_get_serial_sequence(quote_ident(%s), %s)"
        found = postgres.value(cursor, query, (table, column))
    return None if found is None else str(found)


def _temporary(cursor: Cursor, tables: Sequence[str]) -> Set[str]:
    """Those of the tables that are temporary already."""
    return set(
        postgres.column(
            cursor,
            "SELECT relname FROM pg_class WHERE relname = ANY (%s) AND pg_table_is_visible(oid)"
            " AND relpersistence = 't'",
            (list(tables),),
        )
    )


class _Table(NamedTuple):
    """A real table."""

    oid: int
    schema: str
    name: str


def _tables(cursor: Cursor, names: Sequence[str]) -> List[_Table]:
    """The tables of these names."""
    cursor.execute(
        """
        SELECT c.oid, n.nspname, c.relname
        FROM unnest(%s::text[]) WITH ORDINALITY AS given (name, place)
        JOIN pg_class c ON c.oid = quote_ident(name)::regclass
        JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY place
        """,
        (list(names),),
    )
    return [_Table(*row) for row in cursor.fetchall()]


def _views(
    cursor: Cursor,
    tables: Sequence[_Table],
    keys: Sequence[_Key],
    updated: Mapping[str, Sequence[str]],
) -> Dict[str, List[Composable]]:
    """The statements that make a table's shadow a view, for the tables where it can be one.

    A table that another shadow refers to is copied: the foreign key needs a table.
    """
    names = {table.name for table in tables}
    parents = {key.parent for key in keys if key.table in names}
    return {
        table.name: overlay.statements(
            cursor, table.oid, table.schema, table.name, updated[table.name]
        )
        for table in tables
        if table.name in updated
        and table.name not in parents
        and overlay.possible(cursor, table.oid, updated[table.name])
    }


class _Key(NamedTuple):
    """A foreign key of ``table`` to ``parent``."""

    table: str
    name: str
    parent: str
    definition: str


def _foreign_keys(cursor: Cursor) -> List[_Key]:
    """The foreign keys of all tables on the search path."""
    cursor.execute(
        """
        SELECT c.relname, f.conname, p.relname, pg_get_constraintdef(f.oid)
        FROM pg_constraint f
        JOIN pg_class c ON c.oid = f.conrelid
        JOIN pg_class p ON p.oid = f.confrelid
        WHERE f.contype = 'f' AND pg_table_is_visible(c.oid) ORDER BY 1, 2
        """
    )
    return [_Key(*row) for row in cursor.fetchall()]


def _with_referenced(copied: Sequence[str], bare: Sequence[str], keys: Sequence[_Key]) -> List[str]:
    """The copied tables and, transitively, those that foreign keys of any of them refer to."""
    names = [*bare, *copied]
    for name in names:
        parents = sorted({key.parent for key in keys if key.table == name})
        names += [parent for parent in parents if parent not in names]
    return names[len(bare) :]


def _unvalidated(cursor: Cursor) -> Dict[int, List[Tuple[str, str]]]:
    """By table, name and definition of the CHECK constraints that are NOT VALID."""
    cursor.execute(
        "SELECT conrelid, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'c' AND NOT convalidated AND conrelid <> 0 ORDER BY conname"
    )
    found: Dict[int, List[Tuple[str, str]]] = {}
    for oid, name, definition in cursor.fetchall():
        found.setdefault(oid, []).append((name, definition))
    return found


def _sequences(cursor: Cursor, oids: List[int]) -> List[Composable]:
    """Statements that make the tables' sequences, at the real ones' state, and what uses them."""
    cursor.execute(
        """
        SELECT c.relname, a.attname, pg_get_expr(f.adbin, f.adrelid), n.nspname, s.relname
        FROM pg_attrdef f
        JOIN pg_class c ON c.oid = f.adrelid
        JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
        JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
        JOIN pg_namespace n ON n.oid = s.relnamespace
        WHERE d.refclassid = 'pg_class'::regclass AND f.adrelid = ANY (%s::oid[])
        """,
        (oids,),
    )
    defaults = list(dict.fromkeys(cursor.fetchall()))
    identities = _identities(cursor, oids)
    owned = [(schema, name) for *_, schema, name in (*defaults, *identities)]
    states = _states(cursor, list(dict.fromkeys(owned)))
    made = []
    for schema, name in dict.fromkeys((schema, name) for *_, schema, name in defaults):
        last_value, is_called, increment = states[schema, name]
        made += [
            _sql.SQL("CREATE TEMPORARY SEQUENCE {} INCREMENT {}").format(
                _sql.Identifier(name), _sql.Literal(increment)
            ),
            _sql.SQL("SELECT setval(quote_ident({})::regclass, {}, {})").format(
                *map(_sql.Literal, (name, last_value, is_called))
            ),
        ]
    uses = [
        _sql.SQL("ALTER TABLE pg_temp.{} ALTER COLUMN {} SET DEFAULT {}").format(
            _sql.Identifier(table), _sql.Identifier(column), _sql.SQL(expression)
        )
        for table, column, expression, _, _ in defaults
    ]
    numbered = [
        _sql.SQL("SELECT setval(pg_get_serial_sequence(quote_ident({}), {}), {}, {})").format(
            *map(_sql.Literal, (table, column, *states[schema, name][:2]))
        )
        for table, column, schema, name in identities
    ]
    return [*made, *uses, *numbered]


def _identities(cursor: Cursor, oids: List[int]) -> List[Tuple[str, str, str, str]]:
    """(table, column, schema, sequence) of identity columns; PostgreSQL 10 brought them."""
    if server.version(cursor.connection) < 100000:
        return []
    cursor.execute(
        """
        SELECT c.relname, a.attname, n.nspname, s.relname
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_depend d ON d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        JOIN pg_namespace n ON n.oid = s.relnamespace
        WHERE a.attidentity <> '' AND d.classid = 'pg_class'::regclass
        AND d.refclassid = 'pg_class'::regclass AND a.attrelid = ANY (%s::oid[])
        """,
        (oids,),
    )
    return cursor.fetchall()


def _states(
    cursor: Cursor, sequences: Sequence[Tuple[str, str]]
) -> Dict[Tuple[str, str], Tuple[int, bool, int]]:
    """Of sequences by schema and name: last_value, is_called and increment."""
    if not sequences:
        return {}
    query = """SELECT {}, {}, last_value, is_called,
        (SELECT increment FROM pg_sequence_parameters(s.tableoid)) FROM {} AS s"""
    parts = [
        _sql.SQL(query).format(
            _sql.Literal(schema), _sql.Literal(name), _sql.Identifier(schema, name)
        )
        for schema, name in sequences
    ]
    cursor.execute(_sql.SQL(" UNION ALL ").join(parts))
    return {(schema, name): (*state,) for schema, name, *state in cursor.fetchall()}


def _table(table: _Table) -> Composable:
    """The statement that makes the shadow, without its indexes."""
    return _sql.SQL(
        "CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES) ON COMMIT DROP"
    ).format(_sql.Identifier(table.name), _sql.Identifier(table.schema, table.name))


def _rows(cursor: Cursor, table: _Table) -> Composable:
    """The statement that copies the rows."""
    names = [column.name for column in fingerprint.columns(cursor, table.schema, table.name)]
    overriding = "OVERRIDING SYSTEM VALUE" if server.version(cursor.connection) >= 100000 else ""
    return _sql.SQL("INSERT INTO pg_temp.{} ({columns}) {} SELECT {columns} FROM {}").format(
        _sql.Identifier(table.name),
        _sql.SQL(overriding),
        _sql.Identifier(table.schema, table.name),
        columns=_sql.SQL(", ").join(map(_sql.Identifier, names)),
    )


def _indexes(cursor: Cursor, oids: List[int]) -> Dict[str, List[Composable]]:
    """By table, statements that give the shadow the keys and indexes, under their names."""
    cursor.execute(
        """
        SELECT t.relname, coalesce(k.conname, i.relname), pg_get_constraintdef(k.oid),
               CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END, pg_get_indexdef(i.oid),
               format('CREATE %%sINDEX %%I ON %%I.%%I ',
                      CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END,
                      i.relname, n.nspname, t.relname)
        FROM pg_index x
        JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_class t ON t.oid = x.indrelid
        JOIN pg_namespace n ON n.oid = t.relnamespace
        LEFT JOIN pg_constraint k ON k.conindid = i.oid AND k.contype IN ('p', 'u', 'x')
        WHERE x.indisvalid AND x.indrelid = ANY (%s::oid[]) ORDER BY i.relname
        """,
        (oids,),
    )
    statements: Dict[str, List[Composable]] = {}
    for table, name, constraint, unique, definition, prefix in cursor.fetchall():
        if constraint:
            statement = _constraint(table, name, constraint)
        else:
            statement = _sql.SQL("CREATE {}INDEX {} ON pg_temp.{} {}").format(
                _sql.SQL(unique), _sql.Identifier(name), _sql.Identifier(table),
                _sql.SQL(definition[len(prefix) :]),
            )  # fmt: skip
        statements.setdefault(table, []).append(statement)
    return statements


def _dropped(table: str, name: str) -> Composable:
    """The statement that drops a constraint."""
    return _sql.SQL("ALTER TABLE pg_temp.{} DROP CONSTRAINT {}").format(
        _sql.Identifier(table), _sql.Identifier(name)
    )


def _constraint(table: str, name: str, definition: str) -> Composable:
    """The statement that adds a constraint."""
    return _sql.SQL("ALTER TABLE pg_temp.{} ADD CONSTRAINT {} {}").format(
        _sql.Identifier(table), _sql.Identifier(name), _sql.SQL(definition)
    )
