# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Conditions of the database under which a transaction refuses to run, in a check as in an apply.

A check runs the steps on copies of the tables. What the copies do not have, and what the server
would refuse on the real tables only, must not be there: ``require_access`` looks at privileges and
kinds of tables (before the tables are locked, which needs privileges too), ``require_plain`` at
triggers, rules and the like; ``cascades`` looks at rows elsewhere that a deletion would take along.
A restore fills the real tables and does DDL on them; ``require_comparable`` and
``require_restorable`` are for it. Each raises Refused with everything that it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping, Sequence, Tuple

from . import postgres, privileges, server
from .errors import refuse

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


# Privileges and kinds of tables


def require_access(
    cursor: Cursor,
    where: str,
    written: Sequence[str],
    read: Sequence[str],
    restarted: Mapping[str, str],
) -> None:
    """Refuse tables that are no plain tables, and missing privileges of each kind that is needed.

    ``restarted`` are tables with the column whose sequence starts again, which needs its owner.
    """
    refuse(
        where,
        _hidden(cursor, [*written, *read]),
        "The steps work on schema public, and labeller as this role on the other: let public come "
        "first (ALTER ROLE ... SET search_path), or rename the other table",
    )
    by_name = postgres.oids(cursor, written)
    own = [*by_name.values()]
    others = [oid for name, oid in postgres.oids(cursor, read).items() if name not in by_name]
    refuse(
        where,
        [*_kinds(cursor, own, others), *_foreign_parents(cursor, own)],
        "The steps work on labeller's own tables, which are plain tables of one schema",
    )
    problems = [
        *privileges.of_tables(cursor, own, _WRITING),
        *privileges.of_tables(cursor, [*others, *_parents(cursor, own)], ["SELECT"]),
        *privileges.of_tables(cursor, others, ["UPDATE, DELETE, TRUNCATE"]),
        *privileges.of_sequences(cursor, own, restarted),
    ]
    if restarted and server.version(cursor.connection) < 100000:
        # server.renew_sequence makes a table
        problems += privileges.renewal(cursor, [*postgres.oids(cursor, [*restarted]).values()])
    privileges.require(cursor, where, [*problems, *privileges.temporary(cursor)])


def _hidden(cursor: Cursor, tables: Sequence[str]) -> List[str]:
    """The tables that this role finds in another schema, on the search path that it has by default.

    To be called inside a transaction.
    """
    cursor.execute(
        "SELECT current_setting('search_path'), reset_val,"
        " set_config('search_path', reset_val, true)"
        " FROM pg_settings WHERE name = 'search_path'"
    )
    present, default, _ = cursor.fetchone() or ("", "", "")
    problems = postgres.column(
        cursor,
        """
        SELECT format('%%I.%%I comes before public.%%I on the search_path of role %%s (%%s)',
                      n.nspname, c.relname, c.relname, current_user, %s::text)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = ANY (%s::text[]) AND pg_table_is_visible(c.oid)
        AND n.nspname NOT IN ('public', 'runbook') AND c.relpersistence <> 't' ORDER BY 1
        """,
        (default, list(tables)),
    )
    cursor.execute("SELECT set_config('search_path', %s, true)", (present,))
    return problems


#: What a step does with a table that it writes.
_WRITING = ["SELECT", "INSERT", "UPDATE", "DELETE"]


def _kinds(cursor: Cursor, written: Sequence[int], read: Sequence[int]) -> List[str]:
    """Written tables that are no plain tables or share rows with others; views that are read."""
    part = "c.relispartition" if server.version(cursor.connection) >= 100000 else "false"
    query = """
        SELECT format('%%I.%%I', n.nspname, c.relname), c.relkind::text, {},
               ARRAY(SELECT i.inhrelid::regclass::text FROM pg_inherits i
                     WHERE i.inhparent = c.oid ORDER BY 1)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%(written)s::oid[])
        OR c.oid = ANY (%(read)s::oid[]) AND c.relkind NOT IN ('r', 'p') ORDER BY 1
        """
    cursor.execute(query.format(part), {"written": list(written), "read": list(read)})
    problems = []
    for name, kind, partition, children in cursor.fetchall():
        if kind not in _KINDS:
            problems.append("{} is no table".format(name))
        elif kind != "r":
            problems.append("{} is a {}, not a table".format(name, _KINDS[kind]))
        elif partition:
            problems.append("table {} is a partition of another".format(name))
        elif children:
            problems.append(
                "table {} has rows in others that inherit from it: {}".format(
                    name, ", ".join(children)
                )
            )
    return problems


#: pg_class.relkind in words.
_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
}


def _foreign_parents(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """Foreign keys of the tables to tables that a check cannot copy beside them."""
    return postgres.column(
        cursor,
        """
        SELECT format('%%I.%%I refers to %%I.%%I in another schema [%%s]', n.nspname, c.relname,
                      pn.nspname, p.relname, k.conname)
        FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE k.contype = 'f' AND k.conrelid = ANY (%s::oid[]) AND NOT pg_table_is_visible(p.oid)
        ORDER BY 1
        """,
        (list(oids),),
    )


def _parents(cursor: Cursor, oids: Sequence[int]) -> List[int]:
    """The tables that the tables refer to, transitively: a check reads them."""
    return postgres.column(
        cursor,
        """
        WITH RECURSIVE parent (oid) AS (
            SELECT confrelid FROM pg_constraint
            WHERE contype = 'f' AND conrelid = ANY (%s::oid[])
            UNION
            SELECT confrelid FROM pg_constraint k JOIN parent p ON k.conrelid = p.oid
            WHERE contype = 'f'
        )
        SELECT oid FROM parent
        """,
        (list(oids),),
    )


# Triggers, rules, row security


def require_plain(
    cursor: Cursor,
    where: str,
    written: Sequence[str],
    read: Sequence[str],
    allowed: Sequence[str],
) -> None:
    """Refuse what makes a statement on a real table do something else than on its copy.

    Triggers, rules, foreign keys that are not enforced, row level security, and publications that
    make PostgreSQL refuse changes.

    ``allowed`` are triggers and rules that are known to be harmless, as SCHEMA.TABLE.NAME.
    """
    oids = [*postgres.oids(cursor, written).values()]
    _require_harmless(cursor, where, oids, _firing(cursor, oids), allowed)
    version = server.version(cursor.connection)
    if version >= 100000:
        refuse(
            where,
            [*_unidentified(cursor, oids), *(_filtered(cursor, oids) if version >= 150000 else ())],
            "PostgreSQL refuses to update or delete their rows: set one (ALTER TABLE ... REPLICA "
            "IDENTITY), or take them out of the publication",
        )
    _require_no_row_security(cursor, where, [*oids, *postgres.oids(cursor, read).values()])


def _require_harmless(
    cursor: Cursor,
    where: str,
    oids: Sequence[int],
    firing: Sequence[Tuple[str, str]],
    allowed: Sequence[str],
) -> None:
    """Refuse triggers and rules that are not ``allowed``, and foreign keys not enforced."""
    refuse(
        where,
        ["{} {}".format(*found) for found in firing if found[1] not in allowed],
        "A check cannot show what they do: disable or drop them for this run, or name those that "
        "are known to be harmless in allowed_triggers",
    )
    refuse(
        where,
        _disabled_keys(cursor, oids),
        "A check holds every foreign key: enable them (ALTER TABLE ... ENABLE TRIGGER ALL)",
    )


def require_unfiltered(cursor: Cursor, where: str, tables: Sequence[str]) -> None:
    """Refuse tables of which row level security hides rows from this role."""
    _require_no_row_security(cursor, where, [*postgres.oids(cursor, tables).values()])


def _require_no_row_security(cursor: Cursor, where: str, oids: Sequence[int]) -> None:
    if server.version(cursor.connection) >= 90500:
        refuse(
            where,
            _row_security(cursor, oids),
            "It hides rows and refuses changes: log in (db_user) as a role that it does not apply "
            "to, the owner of the table or one with BYPASSRLS",
        )


def _firing(cursor: Cursor, oids: Sequence[int], *, rules_on: str = "") -> List[Tuple[str, str]]:
    """(``trigger`` or ``rule``, SCHEMA.TABLE.NAME) of what users have put on the tables.

    ``rules_on``: of the rules only those on this event, as in pg_rewrite.ev_type.
    """
    cursor.execute(
        """
        SELECT found.kind, concat_ws('.', n.nspname, c.relname, found.name)
        FROM (
            SELECT 'trigger' AS kind, tgrelid AS oid, tgname AS name FROM pg_trigger
            WHERE NOT tgisinternal AND tgenabled <> 'D'
            UNION ALL
            SELECT 'rule', ev_class, rulename FROM pg_rewrite
            WHERE ev_enabled <> 'D' AND %(rules)s IN ('', ev_type::text)
        ) AS found
        JOIN pg_class c ON c.oid = found.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%(oids)s::oid[]) ORDER BY 2, 1
        """,
        {"oids": list(oids), "rules": rules_on},
    )
    return cursor.fetchall()


def _disabled_keys(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The foreign keys of or to the tables whose triggers do not fire as PostgreSQL made them."""
    return postgres.column(
        cursor,
        """
        SELECT DISTINCT format('foreign key %%I of %%I.%%I is not enforced (its triggers are'
                               ' disabled)', k.conname, n.nspname, c.relname)
        FROM pg_trigger t JOIN pg_constraint k ON k.oid = t.tgconstraint
        JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE t.tgisinternal AND t.tgenabled <> 'O' AND k.contype = 'f'
        AND t.tgrelid = ANY (%s::oid[]) ORDER BY 1
        """,
        (list(oids),),
    )


def _unidentified(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The tables whose updates or deletions are published and that have no replica identity."""
    return postgres.column(
        cursor,
        """
        SELECT DISTINCT format('table %%I.%%I has no replica identity and is in the publication'
                               ' %%I', t.schemaname, t.tablename, p.pubname)
        FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
        JOIN pg_namespace n ON n.nspname = t.schemaname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
        WHERE (p.pubupdate OR p.pubdelete) AND c.oid = ANY (%s::oid[]) AND c.relreplident <> 'f'
        AND NOT EXISTS (
            SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND CASE c.relreplident
                WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
        ORDER BY 1
        """,
        (list(oids),),
    )


def _filtered(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The tables in a publication with a filter or columns that their replica identity lacks."""
    return postgres.column(
        cursor,
        """
        SELECT format('the replica identity of table %%I.%%I does not fit the filter or the columns'
                      ' of the publication %%I', n.nspname, c.relname, p.pubname)
        FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(k.number), '{}') AS numbers
            FROM pg_index i, unnest(i.indkey::int2[]) AS k (number)
            WHERE i.indrelid = c.oid AND CASE c.relreplident
                WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
        ) AS identity
        WHERE (p.pubupdate OR p.pubdelete) AND c.oid = ANY (%s::oid[]) AND (
            r.prattrs IS NOT NULL
            AND (c.relreplident = 'f' OR NOT r.prattrs::int2[] @> identity.numbers)
            OR r.prqual IS NOT NULL AND c.relreplident <> 'f' AND EXISTS (
                SELECT 1 FROM pg_depend d
                WHERE d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid
                AND d.refobjid = c.oid AND d.refobjsubid > 0
                AND d.refobjsubid <> ALL (identity.numbers || coalesce(r.prattrs::int2[], '{}'))))
        ORDER BY 1
        """,
        (list(oids),),
    )


def _row_security(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The tables with row level security that applies to this role."""
    return postgres.column(
        cursor,
        """
        SELECT format('row level security of table %%I.%%I applies to role %%s',
                      n.nspname, c.relname, current_user)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%s::oid[]) AND row_security_active(c.oid) ORDER BY 1
        """,
        (list(oids),),
    )


# Restores


def require_comparable(cursor: Cursor, where: str, places: Sequence[Tuple[str, str]]) -> None:
    """Refuse tables, by schema and name, that this role cannot read whole and lock.

    Partitions and children hold rows of the tables: what is needed of these is needed of them.
    """
    oids = _with_children(cursor, places)
    problems = postgres.column(
        cursor,
        """
        SELECT DISTINCT format('USAGE on the schema %%I', n.nspname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%s::oid[]) AND NOT has_schema_privilege(n.oid, 'USAGE')
        """,
        (oids,),
    )
    problems += privileges.of_tables(cursor, oids, ["SELECT", "UPDATE, DELETE, TRUNCATE"])
    problems += privileges.of_sequences(cursor, oids, {})
    privileges.require(cursor, where, [*problems, *privileges.temporary(cursor)])
    _require_no_row_security(cursor, where, oids)


def require_restorable(
    cursor: Cursor,
    where: str,
    filled: Sequence[Tuple[str, str]],
    sequences: Sequence[Tuple[str, str]],
    allowed: Sequence[str],
) -> None:
    """Refuse what emptying and filling these tables, and setting these sequences, would meet.

    A restore disables the triggers of the tables, so only rules on INSERT are looked at; it drops
    and makes again the foreign keys of and to the tables, which needs their owner.
    """
    oids = _with_children(cursor, filled)
    numbers = _with_children(cursor, sequences)
    related = _related(cursor, oids)
    problems = privileges.of_tables(cursor, oids, ["INSERT", "TRUNCATE"])
    problems += privileges.of_tables(cursor, related, ["SELECT", "REFERENCES"])
    problems += privileges.of_restore(cursor, oids, numbers)
    if numbers and server.version(cursor.connection) < 100000:
        problems += privileges.renewal(cursor, numbers)  # server.renew_sequence makes a table
    privileges.require(cursor, where, problems)
    rules = [found for found in _firing(cursor, oids, rules_on="3") if found[0] == "rule"]
    _require_harmless(cursor, where, oids, rules, allowed)
    _require_no_row_security(cursor, where, related)


def _with_children(cursor: Cursor, places: Sequence[Tuple[str, str]]) -> List[int]:
    """The oids of relations by schema and name, and of all that inherit from them."""
    return postgres.column(
        cursor,
        """
        WITH RECURSIVE tree (oid) AS (
            SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN unnest(%s::text[], %s::text[]) AS wanted (space, name)
                 ON wanted.space = n.nspname AND wanted.name = c.relname
            UNION
            SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid
        )
        SELECT oid FROM tree ORDER BY oid
        """,
        ([space for space, _ in places], [name for _, name in places]),
    )


def _related(cursor: Cursor, oids: Sequence[int]) -> List[int]:
    """The tables at both ends of the foreign keys of and to the tables."""
    return postgres.column(
        cursor,
        """
        SELECT DISTINCT unnest(ARRAY[conrelid, confrelid]) FROM pg_constraint
        WHERE contype = 'f' AND %(oids)s::oid[] && ARRAY[conrelid, confrelid]
        """,
        {"oids": list(oids)},
    )
