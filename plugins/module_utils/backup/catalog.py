# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts from PostgreSQL's catalogue about tables that are backed up or restored."""

from __future__ import annotations

import difflib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .. import postgres, server
from ..errors import InvalidInput

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


def column_list(names: Sequence[str]) -> Composed:
    """The quoted names, with commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def resolve(cursor: Cursor, names: Sequence[str]) -> Dict[str, Tuple[str, str]]:
    """Schema and name of every table named; InvalidInput names those that are no tables.

    A name is a table of schema public, or SCHEMA.TABLE; case and every character count.
    """
    cursor.execute(
        """
        SELECT n.nspname, c.relname, c.relkind
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
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


def describe_all(
    cursor: Cursor, places: Sequence[Tuple[str, str]]
) -> Dict[Tuple[str, str], TableEntry]:
    """Tables' manifest entries, still without rows, fingerprints and objects."""
    found = {oid: (place, kind) for oid, place, kind in oids_of(cursor, places)}
    oids = list(found)
    columns, definitions = _columns(cursor, oids), _definitions(cursor, oids)
    fed = _sequences(cursor, oids)
    return {
        place: {
            "schema": place[0],
            "name": place[1],
            "kind": _KINDS[kind],
            "columns": columns[oid],
            "definition": definitions[oid],
            "rows": 0,
            "fingerprint": "",
            "sequences": fed[oid],
            "objects": [],
        }
        for oid, (place, kind) in found.items()
    }


def oids_of(
    cursor: Cursor, places: Sequence[Tuple[str, str]]
) -> List[Tuple[int, Tuple[str, str], str]]:
    """The oid, place and kind of each table."""
    names = [identifier(*place).as_string(cursor) for place in dict.fromkeys(places)]
    cursor.execute(
        "SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::regclass[])",
        (names,),
    )
    return [(oid, (schema, name), kind) for oid, schema, name, kind in cursor.fetchall()]


def _columns(cursor: Cursor, oids: Sequence[int]) -> Dict[int, List[ColumnEntry]]:
    version = server.version(cursor.connection)
    query = """
        SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               coalesce(pg_get_expr(d.adbin, d.adrelid), ''), {identity}
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped {stored}
        ORDER BY a.attrelid, a.attnum
        """.format(  # noqa: S608 - constants
        identity="a.attidentity::text" if version >= 100000 else "''",
        stored="AND a.attgenerated = ''" if version >= 120000 else "",
    )
    cursor.execute(query, (list(oids),))
    found: Dict[int, List[ColumnEntry]] = {oid: [] for oid in oids}
    for oid, name, kind, not_null, default, identity in cursor.fetchall():
        found[oid].append(
            {
                "name": name,
                "type": kind,
                "not_null": not_null,
                "default": default,
                "identity": {"a": "always", "d": "by default"}.get(identity, ""),
            }
        )
    return found


def _definitions(cursor: Cursor, oids: Sequence[int]) -> Dict[int, List[str]]:
    cursor.execute(
        """
        SELECT conrelid, 'CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid)
               AS line
        FROM pg_constraint WHERE conrelid = ANY (%(oids)s::oid[]) AND contype <> 'n'
        UNION ALL
        SELECT i.indrelid, pg_get_indexdef(i.indexrelid)
        FROM pg_index i WHERE i.indrelid = ANY (%(oids)s::oid[])
        AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid)
        ORDER BY line
        """,
        {"oids": list(oids)},
    )
    found: Dict[int, List[str]] = {oid: [] for oid in oids}
    for oid, line in cursor.fetchall():
        found[oid].append(line)
    return found


def _sequences(cursor: Cursor, oids: Sequence[int]) -> Dict[int, Dict[str, SequenceEntry]]:
    """The sequences that tables own or take defaults from, with their present values."""
    cursor.execute(
        """
        SELECT fed.oid, n.nspname, s.relname, a.attname FROM (
            SELECT d.refobjid AS oid, d.objid AS sequence, d.refobjsubid AS number
            FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (%(oids)s::oid[])
            UNION
            SELECT f.adrelid, d.refobjid, f.adnum
            FROM pg_attrdef f JOIN pg_depend d
                 ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                    AND d.refclassid = 'pg_class'::regclass
            WHERE f.adrelid = ANY (%(oids)s::oid[])
        ) AS fed
        JOIN pg_class s ON s.oid = fed.sequence AND s.relkind = 'S'
        JOIN pg_namespace n ON n.oid = s.relnamespace
        JOIN pg_attribute a ON a.attrelid = fed.oid AND a.attnum = fed.number
        ORDER BY 2, 3, 4
        """,
        {"oids": list(oids)},
    )
    rows = cursor.fetchall()
    values = _values(cursor, [(schema, name) for _, schema, name, _ in rows])
    found: Dict[int, Dict[str, SequenceEntry]] = {oid: {} for oid in oids}
    for oid, schema, name, column in rows:
        last_value, is_called = values[schema, name]
        found[oid][label(schema, name)] = {
            "schema": schema,
            "name": name,
            "column": column,
            "last_value": last_value,
            "is_called": is_called,
        }
    return found


def owned_sequences(cursor: Cursor, schema: str, name: str) -> List[str]:
    """The labels of the sequences that go with a table when it is dropped."""
    cursor.execute(
        """
        SELECT n.nspname, s.relname FROM pg_depend d
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
        JOIN pg_namespace n ON n.oid = s.relnamespace
        WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s::regclass
        """,
        (identifier(schema, name).as_string(cursor),),
    )
    return [label(*place) for place in cursor.fetchall()]


def _values(
    cursor: Cursor, places: Sequence[Tuple[str, str]]
) -> Dict[Tuple[str, str], Tuple[int, bool]]:
    """Of sequences: the last value, and whether it was used."""
    if not places:
        return {}
    each = sql.SQL("SELECT {}, {}, last_value, is_called FROM {}")
    cursor.execute(
        sql.SQL(" UNION ALL ").join(
            each.format(sql.Literal(schema), sql.Literal(name), identifier(schema, name))
            for schema, name in dict.fromkeys(places)
        )
    )
    return {(schema, name): (last, called) for schema, name, last, called in cursor.fetchall()}


def relations(cursor: Cursor, schema: str, name: str) -> List[Relation]:
    """The physical tables that hold a table's rows: itself, or its partitions and children."""
    return relations_all(cursor, [(schema, name)])[schema, name]


def relations_all(
    cursor: Cursor, places: Sequence[Tuple[str, str]]
) -> Dict[Tuple[str, str], List[Relation]]:
    """``relations`` for many tables in one statement."""
    found: Dict[Tuple[str, str], List[Relation]] = {place: [] for place in places}
    known = list(found)
    cursor.execute(
        """
        WITH RECURSIVE tree(root, oid) AS (
            SELECT number, name::regclass::oid
            FROM unnest(%s::text[]) WITH ORDINALITY AS named (name, number)
            UNION
            SELECT tree.root, i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
        )
        SELECT tree.root, c.oid, n.nspname, c.relname, c.relhassubclass, c.relkind,
               pg_relation_size(c.oid) / current_setting('block_size')::int, pg_table_size(c.oid),
               CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages END
        FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        ORDER BY tree.root, n.nspname, c.relname
        """,
        ([identifier(*place).as_string(cursor) for place in known],),
    )
    for root, oid, space, relation, has_children, kind, pages, size, density in cursor.fetchall():
        place = known[root - 1]
        if kind == "p":
            continue
        if kind != "r":
            raise InvalidInput(
                "table {} has the partition {}, a foreign table: its rows are elsewhere and "
                "cannot be backed up here".format(label(*place), label(space, relation))
            )
        rows = None if density is None and pages else int((density or 0) * pages)
        found[place].append(Relation(oid, space, relation, has_children, pages, size, rows))
    return found


class ForeignKey(NamedTuple):
    """A foreign key constraint; ``definition`` as PostgreSQL writes it."""

    schema: str
    table: str
    name: str
    definition: str
    comment: Optional[str]


def foreign_keys(cursor: Cursor, oids: Sequence[int]) -> List[ForeignKey]:
    """The foreign keys of some tables and those that refer to them."""
    own = "AND conparentid = 0" if server.version(cursor.connection) >= 110000 else ""
    query = """
        SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid),
               obj_description(k.oid, 'pg_constraint')
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE k.contype = 'f'
          AND (k.conrelid = ANY(%(oids)s::oid[]) OR k.confrelid = ANY(%(oids)s::oid[]))
        """
    cursor.execute(query + own + " ORDER BY 1, 2, 3", {"oids": list(oids)})
    return [ForeignKey(*row) for row in cursor.fetchall()]


class Reference(NamedTuple):
    """A foreign key: a table's columns, and those of the table that they refer to."""

    name: str
    place: Tuple[str, str]
    columns: List[str]
    to: Tuple[str, str]
    to_columns: List[str]


def references(cursor: Cursor, oids: Sequence[int]) -> List[Reference]:
    """The foreign keys of some tables and those that refer to them, as rows must follow them.

    Without those that are not validated, and those of periods, which are no equalities.
    """
    version = server.version(cursor.connection)
    own = "AND k.conparentid = 0" if version >= 110000 else ""
    own += " AND NOT k.conperiod" if version >= 180000 else ""
    names = """
        ARRAY(SELECT a.attname::text FROM unnest(k.{numbers}) WITH ORDINALITY AS n (number, nth)
              JOIN pg_attribute a ON a.attrelid = k.{table} AND a.attnum = n.number ORDER BY n.nth)
        """
    query = """
        SELECT k.conname, cn.nspname, c.relname, {columns}, pn.nspname, p.relname, {to_columns}
        FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
        JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE k.contype = 'f' AND k.convalidated {own}
          AND (k.conrelid = ANY(%(oids)s::oid[]) OR k.confrelid = ANY(%(oids)s::oid[]))
        ORDER BY 2, 3, 1
        """.format(  # noqa: S608 - constants
        columns=names.format(numbers="conkey", table="conrelid"),
        to_columns=names.format(numbers="confkey", table="confrelid"),
        own=own,
    )
    cursor.execute(query, {"oids": list(oids)})
    return [
        Reference(name, (schema, table), columns, (to_schema, to), to_columns)
        for name, schema, table, columns, to_schema, to, to_columns in cursor.fetchall()
    ]


class Trigger(NamedTuple):
    """A trigger that fires, and the statements that stop it and let it fire as before."""

    disable: Composed
    enable: Composed


def enabled_triggers(cursor: Cursor, oids: Sequence[int]) -> List[Trigger]:
    """The users' triggers of some tables that fire for an ordinary session."""
    cursor.execute(
        """
        SELECT n.nspname, c.relname, t.tgname, t.tgenabled = 'A'
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE t.tgrelid = ANY(%s::oid[]) AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
        ORDER BY 1, 2, 3
        """,
        (list(oids),),
    )
    # ONLY: a partition has a state of its own.
    alter = sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}")
    return [
        Trigger(
            *(
                alter.format(identifier(schema, table), sql.SQL(verb), sql.Identifier(name))
                for verb in ("DISABLE", "ENABLE ALWAYS" if always else "ENABLE")
            )
        )
        for schema, table, name, always in cursor.fetchall()
    ]


def is_part_of(cursor: Cursor, oid: int, places: Sequence[Tuple[str, str]]) -> bool:
    """Whether a table is a partition of one of the partitioned tables named, at any depth."""
    count = postgres.value(
        cursor,
        """
        WITH RECURSIVE above (oid) AS (
            SELECT inhparent FROM pg_inherits WHERE inhrelid = %s
            UNION SELECT i.inhparent FROM pg_inherits i JOIN above ON i.inhrelid = above.oid
        )
        SELECT count(*) FROM above JOIN pg_class c ON c.oid = above.oid
        WHERE c.relkind = 'p' AND c.oid = ANY (%s::regclass[])
        """,
        (oid, [identifier(*place).as_string(cursor) for place in places]),
    )
    return bool(count)


def primary_key(cursor: Cursor, schema: str, name: str) -> List[str]:
    """The names of the primary key's columns; empty when there is none."""
    return postgres.column(
        cursor,
        """
        SELECT a.attname FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
        WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY a.attnum
        """,
        (identifier(schema, name).as_string(cursor),),
    )


class Index(NamedTuple):
    """An index that can be dropped and made again as it was, by these statements."""

    drop: Composed
    create: List[Composable]


def rebuildable_indexes(cursor: Cursor, schema: str, name: str) -> List[Index]:
    """The indexes of a table that nothing hangs on but what the statements make again.

    Not those of partitions, exclusion or deferrable constraints, nor those with a comment, a
    tablespace or statistics of their own, or on which a view or replication depends, nor where
    this role could not make them again.
    """
    part = "AND NOT c.relispartition" if server.version(cursor.connection) >= 100000 else ""
    query = """
        SELECT n.nspname, c.relname, pg_get_indexdef(c.oid), k.contype, i.indisclustered
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class t ON t.oid = i.indrelid
        LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = t.oid
             AND k.contype IN ('p', 'u')
        WHERE t.oid = %s::regclass AND pg_has_role(t.relowner, 'USAGE')
          AND has_schema_privilege(n.oid, 'CREATE')
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
