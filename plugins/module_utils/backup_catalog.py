# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What PostgreSQL's catalogue says about tables that are backed up or restored."""

from __future__ import annotations

import difflib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import fingerprint
from .errors import InvalidInput

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable, Composed

    from .manifest import ColumnEntry, SequenceEntry, TableEntry

DEFAULT_SCHEMA = "public"
_KINDS = {"r": "table", "p": "partitioned table"}
_OTHER_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
}


class Relation(NamedTuple):
    """A physical table: the table itself, a partition or a child, with its size in bytes."""

    oid: int
    schema: str
    name: str
    has_children: bool
    pages: int
    bytes: int
    #: The planner's estimate; None before the first ANALYZE.
    rows: Optional[int] = None

    @property
    def label(self) -> str:
        """How the manifest names it."""
        return label(self.schema, self.name)


def label(schema: str, name: str) -> str:
    """``name``, or ``schema.name`` outside the default schema."""
    return name if schema == DEFAULT_SCHEMA else "{}.{}".format(schema, name)


def identifier(schema: str, name: str) -> Composed:
    """The quoted, qualified name."""
    return sql.SQL("{}.{}").format(sql.Identifier(schema), sql.Identifier(name))


def resolve(cursor: Cursor, names: Sequence[str]) -> Dict[str, Tuple[str, str]]:
    """Schema and name of every table named; InvalidInput names those that are no tables.

    A name is a table of schema public, or SCHEMA.TABLE; case and every character count.
    """
    cursor.execute(
        """
        SELECT n.nspname, c.relname, c.relkind
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
          AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
        """
    )
    kinds = {(schema, name): kind for schema, name, kind in cursor.fetchall()}
    found, problems = {}, []
    for name in names:
        place = _place(name, kinds)
        kind = kinds.get(place, "")
        if kind in _KINDS:
            found[name] = place
        elif kind:
            problems.append("{} is {}, not a table".format(name, _OTHER_KINDS[kind]))
        else:
            tables = [label(*place) for place, kind in kinds.items() if kind in _KINDS]
            close = difflib.get_close_matches(name, tables, n=1)
            hint = " (did you mean {}?)".format(close[0]) if close else ""
            problems.append("there is no table {}{}".format(name, hint))
    if problems:
        raise InvalidInput("; ".join(problems))
    return found


def _place(name: str, known: Any) -> Tuple[str, str]:
    schema, dot, rest = name.partition(".")
    if (DEFAULT_SCHEMA, name) in known or not dot:
        return (DEFAULT_SCHEMA, name)
    return (schema, rest)


def describe(cursor: Cursor, schema: str, name: str) -> TableEntry:
    """A table's manifest entry, still without rows, fingerprint and objects."""
    cursor.execute(
        "SELECT %s::regclass::oid, relkind FROM pg_class WHERE oid = %s::regclass",
        [identifier(schema, name).as_string(cursor)] * 2,
    )
    row = cursor.fetchone()
    assert row is not None
    oid, kind = row
    return {
        "schema": schema,
        "name": name,
        "kind": _KINDS[kind],
        "columns": _columns(cursor, schema, name, oid),
        "definition": _definition(cursor, oid),
        "rows": 0,
        "fingerprint": "",
        "sequences": sequences(cursor, oid),
        "objects": [],
    }


def _columns(cursor: Cursor, schema: str, name: str, oid: int) -> List[ColumnEntry]:
    identity = "a.attidentity::text" if cursor.connection.server_version >= 100000 else "''"
    cursor.execute(
        """
        SELECT a.attname, a.attnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), ''), {}
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = %s AND a.attnum > 0
        """.format(identity),  # noqa: S608 - one of two constants
        (oid,),
    )
    more = {row[0]: row[1:] for row in cursor.fetchall()}
    return [
        {
            "name": column.name,
            "type": column.type,
            "not_null": more[column.name][0],
            "default": more[column.name][1],
            "identity": {"a": "always", "d": "by default"}.get(more[column.name][2], ""),
        }
        for column in fingerprint.columns(cursor, schema, name)
    ]


def _definition(cursor: Cursor, oid: int) -> List[str]:
    cursor.execute(
        """
        SELECT 'CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid) AS line
        FROM pg_constraint WHERE conrelid = %s AND contype <> 'n'
        UNION ALL
        SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = %s
        AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid)
        ORDER BY line
        """,
        (oid, oid),
    )
    return [line for (line,) in cursor.fetchall()]


def sequences(cursor: Cursor, oid: int) -> Dict[str, SequenceEntry]:
    """The sequences that a table owns or takes defaults from, with their present values."""
    cursor.execute(
        """
        SELECT DISTINCT n.nspname, s.relname, a.attname
        FROM pg_depend d JOIN pg_class s ON s.relkind = 'S'
        JOIN pg_namespace n ON n.oid = s.relnamespace
        LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
        JOIN pg_attribute a ON a.attrelid = %(oid)s
             AND a.attnum = CASE WHEN f.oid IS NULL THEN d.refobjsubid ELSE f.adnum END
        WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
           OR f.adrelid = %(oid)s AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
        ORDER BY 1, 2
        """,
        {"oid": oid},
    )
    found: Dict[str, SequenceEntry] = {}
    for schema, name, column in cursor.fetchall():
        cursor.execute(
            sql.SQL("SELECT last_value, is_called FROM {}").format(identifier(schema, name))
        )
        value = cursor.fetchone()
        assert value is not None
        found[label(schema, name)] = {
            "schema": schema,
            "name": name,
            "column": column,
            "last_value": value[0],
            "is_called": value[1],
        }
    return found


def relations(cursor: Cursor, schema: str, name: str) -> List[Relation]:
    """The physical tables that hold a table's rows: itself, or its partitions and children."""
    cursor.execute(
        """
        WITH RECURSIVE tree(oid) AS (
            SELECT %s::regclass::oid
            UNION
            SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
        )
        SELECT c.oid, n.nspname, c.relname, c.relhassubclass, c.relkind,
               pg_relation_size(c.oid) / current_setting('block_size')::int, pg_table_size(c.oid),
               CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages END
        FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        ORDER BY n.nspname, c.relname
        """,
        (identifier(schema, name).as_string(cursor),),
    )
    found = []
    for oid, space, relation, has_children, kind, pages, size, density in cursor.fetchall():
        if kind == "p":
            continue
        if kind != "r":
            raise InvalidInput(
                "table {} has the partition {}, a foreign table: its rows are elsewhere and "
                "cannot be backed up here".format(label(schema, name), label(space, relation))
            )
        rows = None if density is None and pages else int((density or 0) * pages)
        found.append(Relation(oid, space, relation, has_children, pages, size, rows))
    return found


class ForeignKey(NamedTuple):
    """A foreign key constraint; ``definition`` as PostgreSQL writes it."""

    schema: str
    table: str
    name: str
    definition: str


def foreign_keys(cursor: Cursor, oids: Sequence[int]) -> List[ForeignKey]:
    """The foreign keys of some tables and those that refer to them."""
    own = "AND conparentid = 0" if cursor.connection.server_version >= 110000 else ""
    query = """
        SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE k.contype = 'f'
          AND (k.conrelid = ANY(%(oids)s::oid[]) OR k.confrelid = ANY(%(oids)s::oid[]))
        """
    cursor.execute(query + own + " ORDER BY 1, 2, 3", {"oids": list(oids)})
    return [ForeignKey(*row) for row in cursor.fetchall()]


def enabled_triggers(cursor: Cursor, oids: Sequence[int]) -> List[Tuple[Tuple[str, str], str]]:
    """The users' triggers of some tables that fire, as ((schema, table), trigger)."""
    cursor.execute(
        """
        SELECT n.nspname, c.relname, t.tgname
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE t.tgrelid = ANY(%s::oid[]) AND NOT t.tgisinternal AND t.tgenabled = 'O'
        ORDER BY 1, 2, 3
        """,
        (list(oids),),
    )
    return [((schema, table), trigger) for schema, table, trigger in cursor.fetchall()]


def has_rules(cursor: Cursor, schema: str, name: str) -> bool:
    """Whether rules may turn what is written to a table into something else."""
    cursor.execute(
        "SELECT relhasrules FROM pg_class WHERE oid = %s::regclass",
        (identifier(schema, name).as_string(cursor),),
    )
    row = cursor.fetchone()
    return bool(row and row[0])


def primary_key(cursor: Cursor, schema: str, name: str) -> List[str]:
    """The names of the primary key's columns; empty when there is none."""
    cursor.execute(
        """
        SELECT a.attname FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
        WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY a.attnum
        """,
        (identifier(schema, name).as_string(cursor),),
    )
    return [column for (column,) in cursor.fetchall()]


class Index(NamedTuple):
    """An index that can be dropped and made again as it was, by these statements."""

    drop: Composed
    create: List[Composable]


def rebuildable_indexes(cursor: Cursor, schema: str, name: str) -> List[Index]:
    """The indexes of a table that nothing hangs on but what the statements make again.

    Not those of partitions, exclusion or deferrable constraints, nor those with a comment, a
    tablespace or statistics of their own, or on which a view or replication depends.
    """
    part = "AND NOT c.relispartition" if cursor.connection.server_version >= 100000 else ""
    query = """
        SELECT n.nspname, c.relname, pg_get_indexdef(c.oid), k.contype, i.indisclustered
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class t ON t.oid = i.indrelid
        LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = t.oid
             AND k.contype IN ('p', 'u')
        WHERE t.oid = %s::regclass AND pg_has_role(t.relowner, 'USAGE')
          AND i.indisvalid AND i.indisready AND NOT i.indisexclusion AND NOT i.indisreplident
          AND c.reltablespace = 0 AND NOT coalesce(k.condeferrable, false) {}
          AND NOT EXISTS (
              SELECT 1 FROM pg_attribute a
              WHERE a.attrelid = c.oid AND coalesce(a.attstattarget, -1) <> -1)
          AND NOT EXISTS (
              SELECT 1 FROM pg_depend d
              WHERE d.deptype <> 'i' AND d.refobjid IN (c.oid, k.oid)
                 OR d.deptype IN ('e', 'x') AND d.objid = c.oid)
          AND NOT EXISTS (SELECT 1 FROM pg_description WHERE objoid IN (c.oid, k.oid))
        ORDER BY 4 NULLS LAST, 2
        """
    table = identifier(schema, name)
    cursor.execute(query.format(part), (table.as_string(cursor),))
    found = []
    for space, index, definition, constraint, clustered in cursor.fetchall():
        names = {"table": table, "index": sql.Identifier(index)}
        create: List[Composable] = [sql.SQL(definition)]
        if constraint:
            drop = sql.SQL("ALTER TABLE {table} DROP CONSTRAINT {index}").format(**names)
            kind = sql.SQL("PRIMARY KEY" if constraint == "p" else "UNIQUE")
            statement = "ALTER TABLE {table} ADD CONSTRAINT {index} {kind} USING INDEX {index}"
            create.append(sql.SQL(statement).format(**names, kind=kind))
        else:
            drop = sql.SQL("DROP INDEX {}").format(identifier(space, index))
        if clustered:
            create.append(sql.SQL("ALTER TABLE {table} CLUSTER ON {index}").format(**names))
        found.append(Index(drop, create))
    return found
