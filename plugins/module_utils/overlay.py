# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shadow of a large table of which steps only update some columns: a view, not a copy.

The view reads the real table and, for the rows that were updated, the new values from a temporary
table, the delta. An INSTEAD OF UPDATE trigger in ``pg_temp`` writes the delta; INSERT and DELETE
are refused by the server, since the view has no trigger for them. So a check costs what it touches.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, List, Sequence

from . import postgres

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable

#: Bytes from which on a table is large; a copy of a smaller one is made in less than a second.
LARGE = 16 * 1024 * 1024

#: Numbers the statements that update a view: a row that a statement matches twice counts once.
_STATEMENTS = "pg_temp.runbook_statements"

#: Whether a view can stand for a table, given the columns that are updated. It needs a primary key
#: that stays. Refused: child tables; foreign keys of its own, which would need its rows in their
#: table; unique, exclusion and expression indexes, keys and generated columns that depend on the
#: updated columns. NOT NULL and CHECK constraints are the delta's own.
_POSSIBLE = """
    SELECT c.relkind = 'r' AND NOT c.relhassubclass AND pg_relation_size(c.oid) >= %(large)s
    AND coalesce(has_language_privilege((SELECT oid FROM pg_language WHERE lanname = 'plpgsql'),
                                        'USAGE'), false)
    AND EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary)
    AND NOT EXISTS (SELECT 1 FROM unnest(%(columns)s::text[]) AS name WHERE NOT EXISTS
        (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = name
         AND a.attnum > 0 AND NOT a.attisdropped))
    AND NOT EXISTS (SELECT 1 FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f')
    AND NOT EXISTS (
        SELECT 1 FROM pg_depend d
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
        LEFT JOIN pg_index x ON d.classid = 'pg_class'::regclass AND x.indexrelid = d.objid
        LEFT JOIN pg_attrdef e ON d.classid = 'pg_attrdef'::regclass AND e.oid = d.objid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
        AND a.attname = ANY (%(columns)s::text[])
        AND (k.contype NOT IN ('c', 'n') OR x.indisunique OR x.indisexclusion
             OR x.indexprs IS NOT NULL OR x.indpred IS NOT NULL
             OR (d.classid = 'pg_class'::regclass AND d.objid = c.oid)
             OR e.adnum <> a.attnum))
    FROM pg_class c WHERE c.oid = %(oid)s
"""

_TRIGGER = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    this CONSTANT bigint := CASE TG_LEVEL WHEN 'STATEMENT' THEN nextval('{statements}')
                                          ELSE currval('{statements}') END;
    last bigint;
BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN
        RETURN NULL;
    END IF;
    SELECT d.runbook_statement INTO last FROM {delta} d WHERE {same};
    IF last = this THEN
        RETURN NULL;
    ELSIF last IS NULL THEN
        INSERT INTO {delta} ({columns}, runbook_statement) VALUES ({new}, this);
    ELSE
        UPDATE {delta} d SET {set}, runbook_statement = this WHERE {same};
    END IF;
    {taken};
    IF NEW *<> OLD THEN
        RAISE EXCEPTION '% of %: a step updates a column that it does not declare',
            TG_OP, TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$body$
"""


def possible(cursor: Cursor, oid: int, columns: Sequence[str]) -> bool:
    """Whether the table is large and a view can stand for it while ``columns`` are updated."""
    params = {"oid": oid, "columns": list(columns), "large": LARGE}
    return bool(postgres.value(cursor, _POSSIBLE, params))


def statements(
    cursor: Cursor, oid: int, schema: str, table: str, updated: Sequence[str]
) -> List[Composable]:
    """The statements that make the view ``table``; ``prepare`` comes before the first one."""
    columns, key = _columns(cursor, oid), _key(cursor, oid)
    real = _sql.Identifier(schema, table)
    delta = _sql.SQL("pg_temp.{}").format(_sql.Identifier("runbook_delta_{}".format(oid)))
    function = _sql.SQL("pg_temp.{}").format(_sql.Identifier("runbook_update_{}".format(oid)))
    view = _sql.SQL("pg_temp.{}").format(_sql.Identifier(table))

    def each(template: str, names: Sequence[str], separator: str = ", ") -> Composable:
        return _sql.SQL(separator).join(
            _sql.SQL(template).format(_sql.Identifier(name)) for name in names
        )

    first = _sql.Identifier(key[0])
    shown = _sql.SQL(", ").join(
        _sql.SQL(
            "CASE WHEN d.{0} IS NULL THEN g.{1} ELSE d.{1} END AS {1}"
            if name in updated
            else "g.{1}"
        ).format(first, _sql.Identifier(name))
        for name in columns
    )
    return [
        _sql.SQL(
            "CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING CONSTRAINTS,"
            " runbook_statement bigint NOT NULL, PRIMARY KEY ({})) ON COMMIT DROP"
        ).format(_sql.Identifier("runbook_delta_{}".format(oid)), real, each("{}", key)),
        _sql.SQL("CREATE TEMPORARY VIEW {} AS SELECT {} FROM {} g LEFT JOIN {} d ON {}").format(
            _sql.Identifier(table), shown, real, delta, each("d.{0} = g.{0}", key, " AND ")
        ),
        _sql.SQL(_TRIGGER).format(
            function=function,
            delta=delta,
            statements=_sql.SQL(_STATEMENTS),
            same=each("d.{0} = OLD.{0}", key, " AND "),
            columns=each("{}", columns),
            new=each("NEW.{}", columns),
            set=each("{0} = NEW.{0}", updated),
            taken=each("OLD.{0} := NEW.{0}", updated, "; "),
        ),
        _sql.SQL(
            "CREATE TRIGGER runbook_statement BEFORE UPDATE ON {} EXECUTE PROCEDURE {}()"
        ).format(view, function),
        _sql.SQL(
            "CREATE TRIGGER runbook_row INSTEAD OF UPDATE ON {} FOR EACH ROW EXECUTE PROCEDURE {}()"
        ).format(view, function),
    ]


def prepare() -> Composable:
    """The statement that comes before all views."""
    return _sql.SQL("CREATE TEMPORARY SEQUENCE {}").format(_sql.SQL(_STATEMENTS))


def _columns(cursor: Cursor, oid: int) -> List[str]:
    return postgres.column(
        cursor,
        "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        (oid,),
    )


def _key(cursor: Cursor, oid: int) -> List[str]:
    """The columns of the primary key."""
    return postgres.column(
        cursor,
        "SELECT a.attname FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid"
        " AND a.attnum = ANY (x.indkey) WHERE x.indrelid = %s AND x.indisprimary ORDER BY a.attnum",
        (oid,),
    )
