# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""COMMIT, and what became of one whose answer was lost: the server is asked, nothing is guessed."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional

from . import postgres, server
from .errors import ModuleFailure, Unreachable

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

#: Seconds between two questions.
_POLL = 0.2


class InDoubt(Unreachable):
    """The connection was lost during the commit, and the server could not say what became of it."""

    #: Of the step in the target's journal.
    outcome = "unknown"


class Named(NamedTuple):
    """A transaction: its id, and the timeline of the server on which it has this id."""

    number: int
    timeline: str


def named(session: Connection) -> Named:
    """The session's transaction, for ``commit``."""
    with session.cursor() as cursor:
        number = int(postgres.value(cursor, "SELECT txid_current()"))
    return Named(number, server.timeline(session))


def commit(
    session: Connection, params: Mapping[str, Any], transaction: Named, marker: Optional[int] = None
) -> bool:
    """Commit ``transaction``; whether the server answered, so that the session goes on.

    Without an answer the server is asked on another connection, for up to ``connect_timeout``
    seconds: False when it has committed. ``marker`` is the row of the run marker that the
    transaction inserts: before PostgreSQL 10 only such a row can tell. Raises Unreachable when it
    was rolled back, and InDoubt when the server does not answer or does not know.
    """
    try:
        session.commit()
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if not session.closed:
            raise
        text = "{}: {}; the connection was lost during the commit".format(
            postgres.database_name(params), " ".join(str(error).split())
        )
        committed = _ask(params, transaction, marker)
        if committed is None:
            raise InDoubt(
                "{}, and only the server knows whether it happened; run it again, which does what "
                "is still to do".format(text)
            ) from error
        if not committed:
            raise Unreachable(
                "{}, and the server says that the transaction was rolled back; nothing was "
                "changed, run it again".format(text)
            ) from error
        return False
    return True


def _ask(params: Mapping[str, Any], transaction: Named, marker: Optional[int]) -> Optional[bool]:
    """Whether the server has committed; None when that cannot be found out.

    A standby that was promoted meanwhile may lack the transaction, and give its id to another one.
    """
    until = time.monotonic() + params["connect_timeout"]
    while True:
        with suppress(ModuleFailure), postgres.connect(params) as session:
            if server.timeline(session) != transaction.timeline:
                return None
            found = server.committed(session, transaction.number, marker)
            # In progress: its process has not noticed yet that the client is gone.
            if found != "in progress":
                return {"committed": True, "aborted": False}.get(found)
        if time.monotonic() > until:
            return None
        time.sleep(_POLL)
