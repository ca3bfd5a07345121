# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The privileges that a step needs and its database role lacks.

Each one is a text such as ``INSERT on public.kml_data (owner bob)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping, Sequence, Tuple

from . import postgres
from .errors import refuse

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def require(cursor: Cursor, where: str, lacks: Sequence[str]) -> None:
    """Refuse with what the role lacks."""
    user = postgres.value(cursor, "SELECT current_user")
    refuse(
        where,
        ["role {} lacks {}".format(user, ", ".join(dict.fromkeys(lacks)))] if lacks else [],
        "Log in (db_user) as the owner of labeller's tables, or grant what is missing",
    )


def temporary(cursor: Cursor) -> List[str]:
    """The right to make temporary tables, if the role lacks it."""
    query = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
    return [] if postgres.value(cursor, query) else ["TEMPORARY on the database"]


def require_schema(cursor: Cursor, where: str) -> None:
    """Refuse when this role may not create a table in the schema runbook, nor a new schema."""
    lack = postgres.value(
        cursor,
        """
        SELECT CASE
            WHEN has_schema_privilege(oid, 'CREATE') THEN NULL
            WHEN oid IS NOT NULL THEN 'CREATE on the schema'
            WHEN NOT has_database_privilege(current_database(), 'CREATE')
            THEN 'CREATE on the database, to make the schema'
        END FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = 'runbook') AS oid) AS found
        """,
    )
    refuse(
        where,
        ["this role lacks {} runbook".format(lack)] if lack else [],
        "Grant it once: the run marker is a table there",
    )


def require_marker(cursor: Cursor, where: str, *, upgraded: bool) -> None:
    """Refuse when this role may not add a row to the run marker; ``upgraded``: nor a column."""
    oid = postgres.value(cursor, "SELECT to_regclass('runbook.run_marker')::oid")
    if oid is None:
        require_schema(cursor, where)
        return
    problems = [*of_tables(cursor, [oid], ["INSERT"]), *of_sequences(cursor, [oid], {})]
    if upgraded:
        problems += ownership(cursor, [(oid, "a column is added")])
    require(cursor, where, problems)


def of_tables(cursor: Cursor, oids: Sequence[int], needed: Sequence[str]) -> List[str]:
    """``INSERT on public.kml_data (owner bob)`` for each privilege that the role lacks."""
    return postgres.column(
        cursor,
        """
        SELECT format('%%s on %%I.%%I (owner %%s)', replace(privilege, ', ', ' or '), n.nspname,
                      c.relname, pg_get_userbyid(c.relowner))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
             unnest(%s::text[]) WITH ORDINALITY AS needed (privilege, nth)
        WHERE c.oid = ANY (%s::oid[]) AND NOT has_table_privilege(c.oid, privilege)
        ORDER BY n.nspname, c.relname, nth
        """,
        (list(needed), list(oids)),
    )


def of_sequences(cursor: Cursor, oids: Sequence[int], restarted: Mapping[str, str]) -> List[str]:
    """The privileges that the role lacks on the sequences that number the rows of the tables."""
    return postgres.column(
        cursor,
        """
        SELECT DISTINCT format('%%s on sequence %%s (owner %%s)', lack, s.oid::regclass,
                               pg_get_userbyid(s.relowner))
        FROM (
            SELECT f.adrelid AS oid, f.adnum AS number, d.refobjid AS sequence
            FROM pg_attrdef f JOIN pg_depend d
                 ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                    AND d.refclassid = 'pg_class'::regclass
            UNION
            SELECT d.refobjid, d.refobjsubid, d.objid FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
            AND d.deptype IN ('a', 'i')
        ) AS fed
        JOIN pg_class s ON s.oid = fed.sequence AND s.relkind = 'S'
        JOIN pg_class c ON c.oid = fed.oid
        JOIN pg_attribute a ON a.attrelid = fed.oid AND a.attnum = fed.number
        LEFT JOIN unnest(%(tables)s::text[], %(columns)s::text[]) AS restarted (name, col)
             ON restarted.name = c.relname AND pg_table_is_visible(c.oid)
             AND restarted.col = a.attname
        CROSS JOIN LATERAL (
            SELECT 'SELECT' AS lack WHERE NOT has_sequence_privilege(s.oid, 'SELECT')
            UNION ALL SELECT 'USAGE' WHERE NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE')
            UNION ALL SELECT 'ownership'
            WHERE restarted.name IS NOT NULL AND NOT pg_has_role(s.relowner, 'USAGE')
        ) AS lacking
        WHERE c.oid = ANY (%(oids)s::oid[]) ORDER BY 1
        """,
        {"oids": list(oids), "tables": list(restarted), "columns": list(restarted.values())},
    )


def renewal(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The schemas of these tables or sequences in which the role may not make a table."""
    return postgres.column(
        cursor,
        """
        SELECT DISTINCT format('CREATE on the schema %%I', n.nspname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%s::oid[]) AND NOT has_schema_privilege(n.oid, 'CREATE')
        """,
        (list(oids),),
    )


def of_restore(cursor: Cursor, oids: Sequence[int], sequences: Sequence[int]) -> List[str]:
    """The objects that a restore of the tables must own and this role does not."""
    cursor.execute(
        """
        SELECT tgrelid, format('its trigger %%I is stopped meanwhile', tgname) FROM pg_trigger
        WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgrelid = ANY (%(oids)s::oid[])
        UNION ALL
        SELECT conrelid, format('its foreign key %%I is dropped and made again', conname)
        FROM pg_constraint
        WHERE contype = 'f' AND %(oids)s::oid[] && ARRAY[conrelid, confrelid]
        """,
        {"oids": list(oids)},
    )
    needed = cursor.fetchall()
    return [
        *ownership(cursor, needed),
        *ownership(cursor, [(oid, "its value is set") for oid in sequences]),
    ]


def ownership(cursor: Cursor, needed: Sequence[Tuple[int, str]]) -> List[str]:
    """``ownership of public.hit_data (owner bob; its trigger t is stopped meanwhile)``."""
    return postgres.column(
        cursor,
        """
        SELECT format('ownership of %%s%%I.%%I (owner %%s; %%s)',
                      CASE c.relkind WHEN 'S' THEN 'sequence ' ELSE '' END, n.nspname, c.relname,
                      pg_get_userbyid(c.relowner), min(needed.why))
        FROM unnest(%s::oid[], %s::text[]) AS needed (oid, why)
        JOIN pg_class c ON c.oid = needed.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT pg_has_role(c.relowner, 'USAGE')
        GROUP BY c.relkind, n.nspname, c.relname, c.relowner ORDER BY 1
        """,
        ([oid for oid, _ in needed], [why for _, why in needed]),
    )
