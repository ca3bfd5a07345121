# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A person's lock on a target: the lease, held with a reason and until a time.

While it is held every run is refused, its holder's too. It needs no process to stay alive; its
holder gives it back, or its time ends it, on the clock of the target's database.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Mapping, Optional

from . import held, lease, postgres
from .change import Change, result
from .errors import InvalidInput, Locked, Stale

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    Found = Optional[Mapping[str, Any]]

ARGUMENTS: dict[str, Any] = {
    **postgres.POSTGRES_ARGUMENTS,
    "state": {"type": "str", "choices": ["present", "absent", "read"], "required": True},
    "holder": {"type": "str", "default": ""},
    "reason": {"type": "str", "default": ""},
    "seconds": {"type": "int", "default": 8 * 3600},
    "target": {"type": "str", "default": "TARGET"},
    "force": {"type": "bool", "default": False},
    "number": {"type": "int"},
    "ended": {"type": "str", "default": ""},
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module lock; its result has the lease as it is afterwards."""
    refuse, change = {
        "present": (_refuse_hold, _hold),
        "absent": (_refuse_return, _give_back),
        "read": (None, None),
    }[params["state"]]
    with postgres.connect(params) as session, session.cursor() as cursor:
        if change:
            postgres.require_writable(cursor, params)
        found = lease.holder(cursor, params["ended"])
        changed = bool(refuse and refuse(cursor, found, params))
        changes = [_change(cursor, found, params)] if changed else []
        held.require(params.get("planned"), changes)
        if change and changed and not check_mode:
            change(cursor, found, params)
            found = lease.holder(cursor)
            session.commit()
    seen = lease.unseen_process(found)
    return {**result(changes), "changed": changed, "lease": described(found), **seen}


def _change(cursor: Cursor, found: Found, params: Mapping[str, Any]) -> Change:
    """The change of hands, without the times, which a check does not know."""
    before = ""
    if found is not None:
        reason = found["reason"] or "a run"
        before = "{}: {}\n".format(found["holder"], reason)
    taken = params["state"] == "present"
    after = "{}: {}\n".format(params["holder"], params["reason"]) if taken else ""
    where = "lease of {}".format(cursor.connection.info.dbname)
    return Change(where, "update" if taken else "delete", before, after)


def described(found: Found) -> Optional[dict[str, Any]]:
    """Who holds the target, as JSON; None when it is free. Times are RFC 3339."""
    if found is None:
        return None
    return {
        "number": found["number"],
        "holder": found["holder"],
        "since": found["since"].isoformat(timespec="seconds"),
        "state": found["state"],
        "reason": found["reason"],
        "until": found["until"].isoformat(timespec="seconds") if found["until"] else None,
    }


def _refuse_hold(cursor: Cursor, found: Found, params: Mapping[str, Any]) -> bool:
    """Raise Locked while another holds the target; else there is something to do."""
    for name in ("holder", "reason"):
        if not params[name].strip():
            raise InvalidInput("{}: a lock needs one".format(name))
    if found is not None and not lease.is_lock_of(found, params["holder"]):
        raise Locked(lease.refusal(cursor, found, params["target"], "nothing was changed"))
    return True


def _hold(cursor: Cursor, _found: Found, params: Mapping[str, Any]) -> None:
    """Lock the target; the holder's own lock is replaced."""
    lease.require_free(cursor, params["target"], own=params["holder"])
    lease.claim(cursor, params["holder"], reason=params["reason"], seconds=params["seconds"])


def _refuse_return(cursor: Cursor, found: Found, params: Mapping[str, Any]) -> bool:
    """Raise unless it is the holder's own lock, or ``force``d; whether the target is held."""
    if found is None:
        return False
    if params["force"] and params["number"] in (None, found["number"]):
        return True
    if params["force"]:
        end = "this is not the holder that was shown, and nothing was changed"
        raise Stale(lease.refusal(cursor, found, params["target"], end))
    if not lease.is_lock_of(found, params["holder"]):
        end = "nothing was changed"
        raise Locked(lease.refusal(cursor, found, params["target"], end))
    return True


def _give_back(cursor: Cursor, found: Found, params: Mapping[str, Any]) -> None:
    """Make the target free."""
    assert found is not None
    if params["force"]:
        _stop_work(cursor)
    lease.release(cursor, found["number"])


def _stop_work(cursor: Cursor) -> None:
    """End the session of a module that keeps the row locked: its transaction is rolled back."""
    cursor.execute(
        "SELECT pg_terminate_backend(a.pid) FROM runbook.lease l"
        " JOIN pg_stat_activity a ON a.backend_xid = l.xmax AND a.pid <> pg_backend_pid()"
    )
    try:
        cursor.execute("SELECT 1 FROM runbook.lease FOR UPDATE")  # at most lock_timeout
    except psycopg2.errors.LockNotAvailable as error:
        raise Locked(
            "{}: a step of the holder is still at work and its session does not end; nothing was "
            "changed. pg_stat_activity shows it".format(cursor.connection.info.dbname)
        ) from error
