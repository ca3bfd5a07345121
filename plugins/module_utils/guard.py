# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Conditions of the database under which a transaction refuses to run, in a check as in an apply.

A check runs the steps on copies of the tables. What the copies do not have, and what the server
would refuse on the real tables only, must not be there: ``require_access`` looks at privileges and
kinds of tables (before the tables are locked, which needs privileges too), ``require_plain`` at
triggers, rules and the like, ``require_no_cascade`` at rows elsewhere that a deletion would take
along. A restore fills the real tables and does DDL on them; ``require_comparable`` and
``require_restorable`` are for it. Each raises Refused with everything that it found.
"""

from __future__ import annotations

from contextlib import suppress
from typing import (
    TYPE_CHECKING,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from . import postgres, server
from .errors import Refused

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


def refuse(where: str, problems: Sequence[str], way_out: str) -> None:
    """Raise Refused with the problems; return when there are none."""
    if problems:
        raise Refused("{}: {}; nothing was changed. {}".format(where, "; ".join(problems), way_out))


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
    own = dict(_oids(cursor, written))
    others = [oid for name, oid in _oids(cursor, read) if name not in own]
    refuse(
        where,
        [*_kinds(cursor, [*own.values()], others), *_foreign_parents(cursor, [*own.values()])],
        "The steps work on labeller's own tables, which are plain tables of one schema",
    )
    problems = [
        *_privileges(cursor, [*own.values()], _WRITING),
        *_privileges(cursor, [*others, *_parents(cursor, [*own.values()])], ["SELECT"]),
        *_privileges(cursor, others, ["UPDATE, DELETE, TRUNCATE"]),
        *_sequence_privileges(cursor, [*own.values()], restarted),
    ]
    if restarted and server.version(cursor.connection) < 100000:
        # server.renew_sequence makes a table
        problems += _renewal_privileges(cursor, [oid for _, oid in _oids(cursor, [*restarted])])
    _require_privileges(cursor, where, [*problems, *_temporary_privilege(cursor)])


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
    cursor.execute(
        """
        SELECT format('%%I.%%I comes before public.%%I on the search_path of role %%s (%%s)',
                      n.nspname, c.relname, c.relname, current_user, %s::text)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = ANY (%s::text[]) AND pg_table_is_visible(c.oid)
        AND n.nspname NOT IN ('public', 'runbook') AND c.relpersistence <> 't' ORDER BY 1
        """,
        (default, list(tables)),
    )
    problems = [problem for (problem,) in cursor.fetchall()]
    cursor.execute("SELECT set_config('search_path', %s, true)", (present,))
    return problems


def _require_privileges(cursor: Cursor, where: str, lacks: Sequence[str]) -> None:
    """Refuse with what the role lacks."""
    user = postgres.value(cursor, "SELECT current_user")
    refuse(
        where,
        ["role {} lacks {}".format(user, ", ".join(dict.fromkeys(lacks)))] if lacks else [],
        "Log in (db_user) as the owner of labeller's tables, or grant what is missing",
    )


def _temporary_privilege(cursor: Cursor) -> List[str]:
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
    cursor.execute(
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
    return [problem for (problem,) in cursor.fetchall()]


def _parents(cursor: Cursor, oids: Sequence[int]) -> List[int]:
    """The tables that the tables refer to, transitively: a check reads them."""
    cursor.execute(
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
    return [oid for (oid,) in cursor.fetchall()]


def _renewal_privileges(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The schemas of these tables or sequences in which the role may not make a table."""
    cursor.execute(
        """
        SELECT DISTINCT format('CREATE on the schema %%I', n.nspname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%s::oid[]) AND NOT has_schema_privilege(n.oid, 'CREATE')
        """,
        (list(oids),),
    )
    return [lack for (lack,) in cursor.fetchall()]


def _privileges(cursor: Cursor, oids: Sequence[int], needed: Sequence[str]) -> List[str]:
    """``INSERT on public.kml_data (owner bob)`` for each privilege that the role lacks."""
    cursor.execute(
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
    return [lack for (lack,) in cursor.fetchall()]


def _sequence_privileges(
    cursor: Cursor, oids: Sequence[int], restarted: Mapping[str, str]
) -> List[str]:
    """The privileges that the role lacks on the sequences that number the rows of the tables."""
    cursor.execute(
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
    return [lack for (lack,) in cursor.fetchall()]


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
    oids = [oid for _, oid in _oids(cursor, written)]
    _require_harmless(cursor, where, oids, _firing(cursor, oids), allowed)
    version = server.version(cursor.connection)
    if version >= 100000:
        refuse(
            where,
            [*_unidentified(cursor, oids), *(_filtered(cursor, oids) if version >= 150000 else ())],
            "PostgreSQL refuses to update or delete their rows: set one (ALTER TABLE ... REPLICA "
            "IDENTITY), or take them out of the publication",
        )
    _require_no_row_security(cursor, where, [*oids, *(oid for _, oid in _oids(cursor, read))])


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
    _require_no_row_security(cursor, where, [oid for _, oid in _oids(cursor, tables)])


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
    cursor.execute(
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
    return [problem for (problem,) in cursor.fetchall()]


def _unidentified(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The tables whose updates or deletions are published and that have no replica identity."""
    cursor.execute(
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
    return [problem for (problem,) in cursor.fetchall()]


def _filtered(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The tables in a publication with a filter or columns that their replica identity lacks."""
    cursor.execute(
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
    return [problem for (problem,) in cursor.fetchall()]


def _row_security(cursor: Cursor, oids: Sequence[int]) -> List[str]:
    """The tables with row level security that applies to this role."""
    cursor.execute(
        """
        SELECT format('row level security of table %%I.%%I applies to role %%s',
                      n.nspname, c.relname, current_user)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%s::oid[]) AND row_security_active(c.oid) ORDER BY 1
        """,
        (list(oids),),
    )
    return [problem for (problem,) in cursor.fetchall()]


# Restores


def require_comparable(cursor: Cursor, where: str, places: Sequence[Tuple[str, str]]) -> None:
    """Refuse tables, by schema and name, that this role cannot read whole and lock.

    Partitions and children hold rows of the tables: what is needed of these is needed of them.
    """
    oids = _with_children(cursor, places)
    cursor.execute(
        """
        SELECT DISTINCT format('USAGE on the schema %%I', n.nspname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (%s::oid[]) AND NOT has_schema_privilege(n.oid, 'USAGE')
        """,
        (oids,),
    )
    problems = [lack for (lack,) in cursor.fetchall()]
    problems += _privileges(cursor, oids, ["SELECT", "UPDATE, DELETE, TRUNCATE"])
    problems += _sequence_privileges(cursor, oids, {})
    _require_privileges(cursor, where, [*problems, *_temporary_privilege(cursor)])
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
    problems = _privileges(cursor, oids, ["INSERT", "TRUNCATE"])
    problems += _privileges(cursor, related, ["SELECT", "REFERENCES"])
    problems += _ownership(cursor, oids, numbers)
    if numbers and server.version(cursor.connection) < 100000:
        problems += _renewal_privileges(cursor, numbers)  # server.renew_sequence makes a table
    _require_privileges(cursor, where, problems)
    rules = [found for found in _firing(cursor, oids, rules_on="3") if found[0] == "rule"]
    _require_harmless(cursor, where, oids, rules, allowed)
    _require_no_row_security(cursor, where, related)


def require_marker(cursor: Cursor, where: str, *, upgraded: bool) -> None:
    """Refuse when this role may not add a row to the run marker; ``upgraded``: nor a column."""
    oid = postgres.value(cursor, "SELECT to_regclass('runbook.run_marker')::oid")
    if oid is None:
        require_schema(cursor, where)
        return
    problems = [*_privileges(cursor, [oid], ["INSERT"]), *_sequence_privileges(cursor, [oid], {})]
    if upgraded:
        problems += _ownership_of(cursor, [(oid, "a column is added")])
    _require_privileges(cursor, where, problems)


def _with_children(cursor: Cursor, places: Sequence[Tuple[str, str]]) -> List[int]:
    """The oids of relations by schema and name, and of all that inherit from them."""
    cursor.execute(
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
    return [oid for (oid,) in cursor.fetchall()]


def _related(cursor: Cursor, oids: Sequence[int]) -> List[int]:
    """The tables at both ends of the foreign keys of and to the tables."""
    cursor.execute(
        """
        SELECT DISTINCT unnest(ARRAY[conrelid, confrelid]) FROM pg_constraint
        WHERE contype = 'f' AND %(oids)s::oid[] && ARRAY[conrelid, confrelid]
        """,
        {"oids": list(oids)},
    )
    return [oid for (oid,) in cursor.fetchall()]


def _ownership(cursor: Cursor, oids: Sequence[int], sequences: Sequence[int]) -> List[str]:
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
        *_ownership_of(cursor, needed),
        *_ownership_of(cursor, [(oid, "its value is set") for oid in sequences]),
    ]


def _ownership_of(cursor: Cursor, needed: Sequence[Tuple[int, str]]) -> List[str]:
    """``ownership of public.hit_data (owner bob; its trigger t is stopped meanwhile)``."""
    cursor.execute(
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
    return [lack for (lack,) in cursor.fetchall()]


# Deletions


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


def require_no_cascade(
    cursor: Cursor, where: str, deleted: Sequence[Tuple[str, Optional[str]]]
) -> None:
    """Refuse deletions that reach rows of tables that no step deletes from.

    ``deleted`` are the tables on the search path that lose rows, in this order, each with the
    condition of these rows, or None for all. Rows that refer to them are fine in tables that stand
    earlier in the list, since their own step has proved and deleted them. Elsewhere, in whatever
    schema, they are named, with what ON DELETE would do to them, and so are the rows that a cascade
    would reach from there.
    """
    keys = _foreign_keys(cursor)
    known = dict(_oids(cursor, [table for table, _ in deleted]))
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


def _oids(cursor: Cursor, tables: Sequence[str]) -> List[Tuple[str, int]]:
    """The tables of these names on the search path, without missing and temporary ones."""
    cursor.execute(
        "SELECT relname, oid FROM pg_class WHERE relname = ANY (%s) AND pg_table_is_visible(oid)"
        " AND relpersistence <> 't'",
        (list(tables),),
    )
    return cursor.fetchall()


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
