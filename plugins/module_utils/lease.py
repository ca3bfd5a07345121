# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lease on a target: one operator's run changes it at a time.

One row in ``runbook.lease``, on the clock of the target's database. A run takes it before its first
change and gives it back at its end; each taking has the next ``number``. What changes the target
verifies that the number is still the last one. A long step keeps the row locked while it works, and
a transaction until its commit, so that the lease cannot be taken from under it. A holder that is
not seen for ``EXPIRY`` seconds is taken to be dead; one whose process was on this machine and has
ended, at once.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional

from . import marker, postgres, server
from .errors import Locked, ModuleFailure, Refused, Stale

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from .module import Logic

ARGUMENTS: dict[str, Any] = {
    **postgres.POSTGRES_ARGUMENTS,
    "state": {"type": "str", "choices": ["taken", "renewed", "released"], "required": True},
    "number": {"type": "int"},
    "holder": {"type": "str", "default": ""},
    "process": {"type": "str", "default": ""},
    "expected": {"type": "dict"},
    "skipped_parts": {"type": "list", "elements": "str", "default": []},
}

#: Options of a module that changes the target outside its database (``guarded``).
OPTIONS: dict[str, Any] = {**postgres.POSTGRES_ARGUMENTS, "lease": {"type": "int"}}

#: Seconds after which a holder that was not seen is replaced.
EXPIRY = 60

_DEFINITION = """
    CREATE TABLE IF NOT EXISTS runbook.lease (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        number bigint NOT NULL,
        holder text,
        process text,
        since timestamp with time zone NOT NULL,
        seen timestamp with time zone NOT NULL
    )
"""
_GUARD = int.from_bytes(b"lease", "big")
_PROCESS = re.compile(r"(?P<place>[0-9a-f-]+/pid:\[\d+\])/(?P<pid>\d+)/(?P<started>\d+)")


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module lease."""
    if params["skipped_parts"]:
        raise Refused(
            "{}: --tags or --skip-tags leave out {}, and the parts after it may run alone only "
            "when what is asked for is in place already; nothing was changed. Apply the playbook "
            "without tags: it completes what is missing".format(
                postgres.database_name(params), ", ".join(params["skipped_parts"])
            )
        )
    if check_mode:
        return {"changed": False, "number": 0, "warnings": _held(params)}
    with postgres.connect(params) as session, session.cursor() as cursor:
        if params["state"] == "taken":
            number = take(cursor, params)
        else:
            number = int(params["number"])
            if params["state"] == "renewed":
                verify(cursor, number)
            else:
                release(cursor, number)
        session.commit()
    return {"changed": False, "number": number}


def take(cursor: Cursor, params: Mapping[str, Any]) -> int:
    """Take the lease; its number. Nothing is committed here.

    Raises Locked, naming the holder, while another run has it, and Stale when the run in place is
    not the ``expected`` one any more.
    """
    # Two that make the table at once, or take the lease at once, take turns.
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_GUARD,))
    cursor.execute("CREATE SCHEMA IF NOT EXISTS runbook")
    cursor.execute(_DEFINITION)
    found = _look(cursor)
    if found is not None and found["holder"] is not None and not _ended(found["process"]):
        cursor.execute("SAVEPOINT asked")
        try:
            cursor.execute("SELECT 1 FROM runbook.lease FOR UPDATE NOWAIT")
        except psycopg2.errors.LockNotAvailable as error:
            cursor.execute("ROLLBACK TO asked")
            raise Locked(_taken(cursor, found, "is running")) from error
        found = _look(cursor) or found  # it may have been seen since
        if found["holder"] is not None and found["unseen"] < EXPIRY:
            raise Locked(
                _taken(
                    cursor,
                    found,
                    "was seen {:.0f} s ago; if it has died, the target is free {:.0f} s from "
                    "now".format(found["unseen"], EXPIRY - found["unseen"]),
                )
            )
    _require_expected(cursor, params["expected"])
    cursor.execute(
        "WITH old AS (UPDATE runbook.lease SET number = number + 1, holder = %(holder)s,"
        "  process = %(process)s, since = clock_timestamp(), seen = clock_timestamp()"
        "  RETURNING number),"
        " new AS (INSERT INTO runbook.lease (number, holder, process, since, seen)"
        "  SELECT 1, %(holder)s, %(process)s, clock_timestamp(), clock_timestamp()"
        "  WHERE NOT EXISTS (SELECT 1 FROM old) RETURNING number)"
        " SELECT number FROM old UNION ALL SELECT number FROM new",
        {"holder": params["holder"] or "a run without a name", "process": params["process"]},
    )
    row = cursor.fetchone()
    assert row is not None  # one of the two gives one
    return int(row[0])


def verify(cursor: Cursor, number: int) -> None:
    """Lock the row until the end of the transaction, and note that the holder was seen.

    Raises Locked when the lease is not this one any more.
    """
    cursor.execute("SELECT to_regclass('runbook.lease') IS NOT NULL")
    row = cursor.fetchone()
    found = None
    if row and row[0]:
        cursor.execute(
            "UPDATE runbook.lease SET seen = clock_timestamp()"
            " WHERE number = %s AND holder IS NOT NULL",
            (number,),
        )
        if cursor.rowcount:
            return
        found = _look(cursor)
    where = cursor.connection.info.dbname
    if found is None or found["holder"] is None:
        raise Locked(
            "{}: the lease that this run took is gone, and another run may have changed the target "
            "since; nothing more was changed. Run the same command again".format(where)
        )
    raise Locked(_taken(cursor, found, "has taken the target over since"))


def release(cursor: Cursor, number: int) -> None:
    """Give the lease back, if it is still this one."""
    cursor.execute(
        "UPDATE runbook.lease SET holder = NULL, process = NULL WHERE number = %s", (number,)
    )


@contextmanager
def held(params: Mapping[str, Any]) -> Iterator[None]:
    """Verify the lease ``params`` name, keep it while inside, give it back when that fails.

    On a connection of its own; without a lease nothing is verified.
    """
    number = params.get("lease")
    if not number:
        yield
        return
    with postgres.connect(params) as session, session.cursor() as cursor:
        server.apply_settings(cursor, {"idle_in_transaction_session_timeout": "0"})
        verify(cursor, number)
        try:
            yield
        except BaseException:
            with suppress(psycopg2.Error):
                session.rollback()
                release(cursor, number)
                session.commit()
            raise
        verify(cursor, number)
        session.commit()


def guarded(logic: Logic) -> Logic:
    """A module's logic under the lease that its parameters name: see ``held``."""

    def run_guarded(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
        if check_mode:
            return logic(params, check_mode)
        with held(params):
            return logic(params, check_mode)

    return run_guarded


def release_quietly(params: Mapping[str, Any], number: Optional[int]) -> None:
    """Give the lease back after a failure that is reported itself."""
    if not number:
        return
    with suppress(ModuleFailure), postgres.connect(params) as session, session.cursor() as cursor:
        release(cursor, number)
        session.commit()


def _look(cursor: Cursor) -> Optional[dict[str, Any]]:
    cursor.execute(
        "SELECT number, holder, process, to_char(since, 'YYYY-MM-DD HH24:MI:SS TZ'),"
        " extract(epoch FROM clock_timestamp() - seen)::float8 FROM runbook.lease"
    )
    row = cursor.fetchone()
    return (
        None if row is None else dict(zip(("number", "holder", "process", "since", "unseen"), row))
    )


def _taken(cursor: Cursor, found: Mapping[str, Any], how: str) -> str:
    return "{}: {}, who holds the target since {}, {}; nothing was changed by this step".format(
        cursor.connection.info.dbname, found["holder"], found["since"], how
    )


def _held(params: Mapping[str, Any]) -> list[str]:
    """In a check: warnings that name the running holder."""
    if params["state"] != "taken":
        return []
    with postgres.connect(params) as session, session.cursor() as cursor:
        cursor.execute("SELECT to_regclass('runbook.lease') IS NOT NULL")
        row = cursor.fetchone()
        found = _look(cursor) if row and row[0] else None
        if found is None or found["holder"] is None or _ended(found["process"]):
            return []
        if found["unseen"] >= EXPIRY:
            return []
        return [_taken(cursor, found, "is changing it: what is planned here may not hold")]


def _require_expected(cursor: Cursor, expected: Optional[Mapping[str, Any]]) -> None:
    if expected is None:
        return
    current = marker.current(cursor)
    wanted = expected or None
    same = marker.is_same(current, wanted) and (
        not current or not wanted or current["applied_at"] == wanted["applied_at"]
    )
    if not same:
        raise Stale(
            "{}: {} was in place when this run looked, and now {} is; nothing was changed. Run the "
            "same command again to see what it would do now".format(
                cursor.connection.info.dbname, marker.text(wanted), marker.text(current)
            )
        )


def _ended(process: Optional[str]) -> bool:
    """Whether a holder's process is known to have ended: it was on this machine."""
    match = _PROCESS.fullmatch(process or "")
    if match is None or match["place"] != place():
        return False
    try:
        with open("/proc/{}/stat".format(match["pid"])) as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return True
    return fields[0] in "ZX" or fields[19] != match["started"]


def place() -> str:
    """This machine since it was started, and its space of process ids."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return "{}/{}".format(boot, os.readlink("/proc/self/ns/pid"))
    except OSError:
        return ""
