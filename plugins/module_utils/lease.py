# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lease on a target: one operator's run changes it at a time.

One row in ``runbook.lease``, on the clock of the target's database. A run takes it before its first
change and gives it back at its end; each taking has the next ``number``. What changes the target
verifies that the number is still the last one. A long step keeps the row locked while it works, and
a transaction until its commit, so that the lease cannot be taken from under it. A holder that is
not seen for ``EXPIRY`` seconds is taken to be dead; one whose process was on this machine and has
ended, at once, and so one between two steps whose process ended on the operator's machine, which
the action plugin finds out there (``ended``). A person holds the same row with a reason and until a
time (``lock.py``).
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional

from . import applied, journal, marker, postgres, privileges, server
from .change import result
from .errors import Locked, ModuleFailure, Refused, Stale
from .held import require

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from .module import Logic

ARGUMENTS: dict[str, Any] = {
    **postgres.POSTGRES_ARGUMENTS,
    "state": {"type": "str", "choices": ["taken", "renewed", "released"], "required": True},
    "number": {"type": "int"},
    "holder": {"type": "str", "default": ""},
    "process": {"type": "str", "default": ""},
    "target": {"type": "str", "default": "TARGET"},
    "when_held": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
    "expected": {"type": "dict"},
    "skipped_parts": {"type": "list", "elements": "str", "default": []},
    **applied.ARGUMENT,
    "ended": {"type": "str", "default": ""},
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
        seen timestamp with time zone NOT NULL,
        reason text,
        expires timestamp with time zone
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
        return _foreseen(params)
    changes = []
    with postgres.connect(params) as session, session.cursor() as cursor:
        if params["state"] == "taken":
            postgres.require_writable(cursor, params)
            changes = [applied.identity(cursor)]
            require(params.get("planned"), changes)
            try:
                number = take(cursor, params)
            except Locked as error:
                if params["when_held"] == "fail":
                    raise
                return {**_reported(str(error)), **error.details}
            if params.get("plan"):
                applied.record(cursor, params["plan"], params["holder"])
        else:
            number = int(params["number"])
            if params["state"] == "renewed":
                verify(cursor, number)
            else:
                release(cursor, number)
        session.commit()
    if params["state"] == "released":
        journal.ended(params)
    return result(changes, number=number, held=False)


def take(cursor: Cursor, params: Mapping[str, Any]) -> int:
    """Take the lease; its number. Nothing is committed here.

    Raises Locked, naming the holder, while another run or a person has it, and Stale when the run
    in place is not the ``expected`` one any more.
    """
    require_free(cursor, params["target"], ended=params["ended"])
    _require_expected(cursor, params["expected"])
    return claim(cursor, params["holder"] or "a run without a name", process=params["process"])


def require_free(cursor: Cursor, target: str, *, own: str = "", ended: str = "") -> None:
    """Lock the row until the end of the transaction, unless it is held.

    The table is created when it is missing. A lock of the holder ``own`` counts as free, and a run
    between two steps whose process is ``ended``. Raises Locked, naming the holder.
    """
    # Two that make the table at once, or take the lease at once, take turns.
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_GUARD,))
    _create(cursor)
    cursor.execute("SAVEPOINT asked")
    try:
        cursor.execute("SELECT 1 FROM runbook.lease FOR UPDATE NOWAIT")
        working = False
    except psycopg2.errors.LockNotAvailable:
        cursor.execute("ROLLBACK TO asked")
        working = True
    found = current(cursor, ended)
    if found is None or found["state"] == "dead":  # one that works is waited for by the update
        return
    if working:
        found["state"] = "working"
    if found["state"] != "free" and not is_lock_of(found, own):
        error = Locked(refusal(cursor, found, target))
        error.details = unseen_process(found)
        raise error


def claim(
    cursor: Cursor, who: str, *, process: str = "", reason: str = "", seconds: float = 0
) -> int:
    """Give the target to ``who``; the lease's number. With a reason it is a person's lock."""
    number = postgres.value(
        cursor,
        "WITH old AS (UPDATE runbook.lease SET number = number + 1, holder = %(holder)s,"
        "  process = %(process)s, since = clock_timestamp(), seen = clock_timestamp(),"
        "  reason = %(reason)s, expires = clock_timestamp() + %(seconds)s * interval '1 s'"
        "  RETURNING number),"
        " new AS (INSERT INTO runbook.lease"
        "  (number, holder, process, since, seen, reason, expires)"
        "  SELECT 1, %(holder)s, %(process)s, clock_timestamp(), clock_timestamp(), %(reason)s,"
        "  clock_timestamp() + %(seconds)s * interval '1 s'"
        "  WHERE NOT EXISTS (SELECT 1 FROM old) RETURNING number)"
        " SELECT number FROM old UNION ALL SELECT number FROM new",
        {"holder": who, "process": process, "reason": reason or None,
         "seconds": seconds if reason else None},
    )  # fmt: skip
    return int(number)


def verify(cursor: Cursor, number: int) -> None:
    """Lock the row until the end of the transaction, and note that the holder was seen.

    Raises Locked when the lease is not this one any more.
    """
    found = None
    if _exists(cursor):
        cursor.execute(
            "UPDATE runbook.lease SET seen = clock_timestamp()"
            " WHERE number = %s AND holder IS NOT NULL",
            (number,),
        )
        if cursor.rowcount:
            return
        found = current(cursor)
    where = cursor.connection.info.dbname
    if found is None or found["holder"] is None:
        raise Locked(
            "{}: the lease that this run took is gone, and another run may have changed the target "
            "since; nothing more was changed. Run the same command again".format(where)
        )
    raise Locked(
        "{}: {}, who holds the target since {}, has taken the target over since; nothing was "
        "changed by this step".format(where, found["holder"], _time(found["since"]))
    )


def release(cursor: Cursor, number: int) -> None:
    """Give the lease back, if it is still this one."""
    cursor.execute(
        "UPDATE runbook.lease SET holder = NULL, process = NULL WHERE number = %s", (number,)
    )


@contextmanager
def held(params: Mapping[str, Any]) -> Iterator[Optional[Connection]]:
    """Verify the lease ``params`` name, keep it while inside, give it back when that fails.

    On a connection of its own, which it gives; without a lease nothing is verified.
    """
    number = params.get("lease")
    if not number:
        yield None
        return
    with postgres.connect(params) as session, session.cursor() as cursor:
        server.apply_settings(cursor, server.PATIENT)
        verify(cursor, number)
        try:
            yield session
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


def current(cursor: Cursor, ended: str = "") -> Optional[dict[str, Any]]:
    """The holder of the target, without waiting; None if the target was never held.

    ``ended``: a process of another machine that is known to have ended. ``state`` is free, dead
    (its process on this machine has ended), working (a module keeps the row locked), locked (by a
    person), or seen (a run between two steps).
    """
    if not _exists(cursor):
        return None
    # row_to_json: an older version's table lacks the last two columns
    cursor.execute(
        "SELECT l.number, l.holder, l.process, l.since, extract(epoch FROM clock_timestamp()"
        " - l.seen)::float8, row_to_json(l)->>'reason', (row_to_json(l)->>'expires')::timestamptz,"
        " EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.backend_xid = l.xmax),"
        " clock_timestamp() FROM runbook.lease l"
    )
    row = cursor.fetchone()
    if row is None:
        return None
    names = ("number", "holder", "process", "since", "unseen", "reason", "until", "working", "now")
    found = dict(zip(names, row))
    return {**found, "state": _state(found, ended)}


def holder(cursor: Cursor, ended: str = "") -> Optional[dict[str, Any]]:
    """``current`` while the target is held, else None."""
    found = current(cursor, ended)
    return None if found is None or found["state"] in ("free", "dead") else found


def unseen_process(found: Optional[Mapping[str, Any]]) -> dict[str, str]:
    """The process of a run between two steps, for a result: its own machine knows if it ended."""
    seen = found is not None and found["state"] == "seen"
    return {"holder_process": found["process"] or ""} if found and seen else {}


def _state(found: Mapping[str, Any], ended: str) -> str:
    """The state of a row, as ``current`` names it."""
    if found["holder"] is None:
        return "free"
    if found["reason"] is not None:
        return "free" if found["until"] <= found["now"] else "locked"
    if has_ended(found["process"]):
        return "dead"
    if found["working"]:
        return "working"
    gone = found["unseen"] >= EXPIRY or (ended and found["process"] == ended)
    return "free" if gone else "seen"


def is_lock_of(found: Mapping[str, Any], holder: str) -> bool:
    """Whether the target is locked by this person."""
    return found["state"] == "locked" and bool(holder) and found["holder"] == holder


def refusal(
    cursor: Cursor,
    found: Mapping[str, Any],
    target: str,
    end: str = "nothing was changed by this step",
) -> str:
    """Who holds the target, since when, how long, and what to do."""
    how = {
        "locked": "has locked it until {}: {}".format(_time(found["until"]), found["reason"]),
        "working": "is running",
    }.get(
        found["state"],
        "was seen {:.0f} s ago; if it has died, the target is free {:.0f} s from now".format(
            found["unseen"], max(EXPIRY - found["unseen"], 0)
        ),
    )
    hint = ". runbook unlock -i {} gives it back, with --force also for another person".format(
        target
    )
    return "{}: {}, who holds the target since {}, {}; {}{}".format(
        cursor.connection.info.dbname,
        found["holder"],
        _time(found["since"]),
        how,
        end,
        hint if found["state"] == "locked" else "",
    )


def _time(when: Optional[datetime]) -> str:
    """A time as people read it everywhere, ``2026-01-14 09:30 UTC``."""
    return "" if when is None else "{:%Y-%m-%d %H:%M} UTC".format(when.astimezone(timezone.utc))


def _exists(cursor: Cursor) -> bool:
    return postgres.has_table(cursor, "runbook.lease")


def _create(cursor: Cursor) -> None:
    """Make the table where there is none, and the columns that an older version's lacks."""
    if not _exists(cursor):
        marker.create_schema(cursor)
        cursor.execute(_DEFINITION)
    cursor.execute(
        "SELECT 1 FROM pg_attribute WHERE attrelid = 'runbook.lease'::regclass"
        " AND attname = 'expires'"
    )
    if not cursor.rowcount:
        cursor.execute(
            "ALTER TABLE runbook.lease ADD COLUMN reason text,"
            " ADD COLUMN expires timestamp with time zone"
        )


def _foreseen(params: Mapping[str, Any]) -> dict[str, Any]:
    """In a check: a warning that names the holder; nothing is taken or waited for.

    A run may be over when the operator has answered. A person's lock has the ``error_kind`` and the
    message too that an apply would end with.
    """
    if params["state"] != "taken":
        return result([], number=0, held=False)
    with postgres.connect(params) as session, session.cursor() as cursor:
        postgres.require_writable(cursor, params)
        changes = [applied.identity(cursor)]
        require(params.get("planned"), changes)
        if not _exists(cursor):
            privileges.require_schema(cursor, postgres.database_name(params))
        if params.get("plan"):
            applied.require_new(cursor, params["plan"])
        free = result(changes, number=0, held=False, warnings=[])
        found = holder(cursor, params["ended"])
        if found is None:
            return free
        if params["when_held"] == "report":
            return {**_reported(refusal(cursor, found, params["target"])), **unseen_process(found)}
        end = "an apply would be refused now, and what is planned here may not hold"
        warnings = [refusal(cursor, found, params["target"], end)]
        said = {**free, "warnings": warnings, **unseen_process(found)}
        if found["state"] != "locked":
            return {**said, "headline": "{} is changing the target".format(found["holder"])}
        refused = refusal(cursor, found, params["target"], "nothing was changed")
        return {**said, "error_kind": Locked.kind, "msg": refused}


def _reported(text: str) -> dict[str, Any]:
    """The result when the target is held and that is no failure."""
    return {"changed": False, "number": 0, "held": True, "warnings": [text], "headline": text}


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


def has_ended(process: Optional[str]) -> bool:
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
