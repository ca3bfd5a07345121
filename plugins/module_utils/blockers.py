# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sessions that a statement waited for in vain, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Mapping, Sequence

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: Modes of pg_locks, the weakest first.
_MODES = (
    "AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock",
    "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock",
)  # fmt: skip
#: Of these, all but the last do not hold up a reader.
_READS = len(_MODES) - 1
#: By a statement's beginning, how many of the modes it does not wait for; else it reads.
_PASSED = (
    (r"LOCK TABLE .* IN ACCESS SHARE MODE", _READS),
    (r"LOCK TABLE", 2),
    (r"UPDATE|DELETE|SELECT .* FOR UPDATE", 1),
    (r"TRUNCATE|ALTER|DROP", 0),
)
_ACTIVITY = """
    SELECT a.pid, a.application_name, coalesce(a.usename::text, 'none'),
           coalesce(host(a.client_addr), 'local'),
           coalesce(to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'a time that is hidden'),
           coalesce(a.state, 'its state hidden'), bool_or(l.granted),
           string_agg(DISTINCT c.relname, ', '),
           left(regexp_replace(a.query, '\\s+', ' ', 'g'), 200)
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid AND a.pid <> pg_backend_pid()
    LEFT JOIN pg_class c ON c.oid = l.relation
    WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND {}
    GROUP BY 1, 2, 3, 4, 5, 6, 9 ORDER BY a.pid
"""
_OF_TABLES = """
    c.relkind IN ('r', 'p')
    AND c.relnamespace <> (SELECT oid FROM pg_namespace WHERE nspname = 'pg_catalog')
    AND (l.mode = ANY (%(modes)s) OR EXISTS (
        SELECT 1 FROM pg_locks w WHERE w.relation = l.relation AND NOT w.granted
        AND w.mode = 'AccessExclusiveLock' AND w.pid <> pg_backend_pid()))
"""


def of_lock(cursor: Cursor, number: int) -> str:
    """The session that holds an advisory lock."""
    condition = (
        "l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
        " AND (l.classid::bigint << 32) + l.objid::bigint = %(number)s"
    )
    return _listed(cursor, condition, {"number": number})


def of_statement(cursor: Cursor, statement: str, tables: Sequence[str]) -> str:
    """The sessions whose locks a statement on these tables waits for; empty when there are none.

    A statement that only reads, as those on the catalogue do, may wait for any table. Also the
    sessions that wait for a lock which excludes all others, since no statement overtakes them, and
    those that these wait for.
    """
    patterns = ((re.match(pattern, statement, re.S | re.I), n) for pattern, n in _PASSED)
    passed = next((number for found, number in patterns if found), _READS)
    named = [name.rpartition(".")[2] for name in tables]
    condition = _OF_TABLES + ("" if passed == _READS else "AND c.relname = ANY (%(named)s)")
    return _listed(cursor, condition, {"modes": list(_MODES[passed:]), "named": named})


def _listed(cursor: Cursor, condition: str, values: Mapping[str, Any]) -> str:
    """``; process 4711 (psql, user bob, from local, since ..., active) locks users and runs: ...``.

    Empty when no session is found.
    """
    cursor.execute(_ACTIVITY.format(condition), values)
    return "".join(
        "; process {} ({}, user {}, from {}, since {}, {}) {}runs: {}".format(
            pid, application or "no application name", user, address, since, state,
            "{} {} and ".format("locks" if granted else "waits for", tables) if tables else "",
            query,
        )
        for pid, application, user, address, since, state, granted, tables, query in cursor
    )  # fmt: skip
