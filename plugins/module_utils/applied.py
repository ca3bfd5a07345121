# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan files on the target: which database they are for, and which ones have been applied.

A saved plan is applied at most once: the transaction that takes the lease records it in
``runbook.applied_plan``, by its SHA-256. The run that recorded it may take the lease again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from . import postgres, server
from .change import Change
from .errors import Stale

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: The option of the module lease, which the action plugin gives.
ARGUMENT: dict[str, Any] = {
    "plan": {
        "type": "dict",
        "options": {
            "id": {"type": "str", "required": True},
            "run": {"type": "str", "required": True},
        },
    }
}

_DEFINITION = """
    CREATE TABLE IF NOT EXISTS runbook.applied_plan (
        id text PRIMARY KEY,
        run text NOT NULL,
        holder text NOT NULL,
        at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
    )
"""
#: The server that brought pg_control_system().
_SYSTEM = 90600


def identity(cursor: Cursor) -> Change:
    """The database, as a change that changes nothing: a run is held to the one of its plan.

    Before PostgreSQL 9.6 a database is known by its name and oid alone.
    """
    cursor.execute("SELECT datname, oid FROM pg_database WHERE datname = current_database()")
    row = cursor.fetchone()
    assert row is not None
    name, found = row[0], "oid {}".format(row[1])
    if server.version(cursor.connection) >= _SYSTEM:
        system = postgres.value(cursor, "SELECT system_identifier FROM pg_control_system()")
        found = "system identifier {}, {}".format(system, found)
    return Change("database {}".format(name), "lease", "", "", fingerprint=found)


def require_new(cursor: Cursor, plan: Mapping[str, Any]) -> None:
    """Raise Stale when another run has applied the plan."""
    if not postgres.has_table(cursor, "runbook.applied_plan"):
        return
    cursor.execute(
        "SELECT run, holder, to_char(at, 'YYYY-MM-DD HH24:MI:SS TZ') FROM runbook.applied_plan"
        " WHERE id = %s AND run <> %s",
        (plan["id"], plan["run"]),
    )
    found = cursor.fetchone()
    if found is not None:
        raise Stale(
            "this plan was applied already, by {1}, {2} (run {0}); a plan is applied at most "
            "once. Make a new one".format(*found)
        )


def record(cursor: Cursor, plan: Mapping[str, Any], holder: str) -> None:
    """Record that this run applies the plan; Stale when another one has. Nothing is committed."""
    require_new(cursor, plan)
    if not postgres.has_table(cursor, "runbook.applied_plan"):
        cursor.execute(_DEFINITION)
    cursor.execute(
        "INSERT INTO runbook.applied_plan (id, run, holder) SELECT %(id)s, %(run)s, %(holder)s"
        " WHERE NOT EXISTS (SELECT 1 FROM runbook.applied_plan WHERE id = %(id)s)",
        {"id": plan["id"], "run": plan["run"], "holder": holder},
    )
