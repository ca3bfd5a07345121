# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connections to PostgreSQL: options, sessions with settled settings, errors in plain words."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Sequence

from . import blockers, server
from .errors import InvalidInput, Locked, ModuleFailure, Refused, Unreachable, missing

try:
    import psycopg2
    import psycopg2.extensions

    PSYCOPG2_ERROR = ""
except ImportError as _error:
    PSYCOPG2_ERROR = str(_error)

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

POSTGRES_ARGUMENTS: dict[str, Any] = {
    "login_host": {"type": "str"},
    "login_port": {"type": "int", "default": 5432},
    "login_db": {"type": "str", "default": "Africa"},
    "login_user": {"type": "str", "default": "postgis"},
    "login_password": {"type": "str", "no_log": True},
    "connect_timeout": {"type": "int", "default": 10},
    "lock_timeout": {"type": "int", "default": 30},
}

# Text forms of values, names and definitions, and with them fingerprints, manifests and diffs, must
# not depend on the settings of the server, the database, the role or the client's environment.
SESSION_SETTINGS: dict[str, str] = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "quote_all_identifiers": "off",
    "search_path": "public",
    "standard_conforming_strings": "on",
    # After it has waited for a lock, a transaction must see what the holder has committed.
    "default_transaction_isolation": "read committed",
    # The server notices within a minute that the machine of a client is gone, and frees its locks.
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


def value(cursor: Cursor, query: Any, params: Any = None) -> Any:
    """The first column of the first row of a query; None without a row."""
    cursor.execute(query, params)
    row = cursor.fetchone()
    return None if row is None else row[0]


def column(cursor: Cursor, query: Any, params: Any = None) -> List[Any]:
    """The first column of all rows of a query."""
    cursor.execute(query, params)
    return [row[0] for row in cursor.fetchall()]


def has_table(cursor: Cursor, name: str) -> bool:
    """Whether a table, named with its schema, is there."""
    return bool(value(cursor, "SELECT to_regclass(%s) IS NOT NULL", (name,)))


def oids(cursor: Cursor, tables: Sequence[str]) -> Dict[str, int]:
    """The tables of these names on the search path, without missing and temporary ones."""
    cursor.execute(
        "SELECT relname, oid FROM pg_class WHERE relname = ANY (%s) AND pg_table_is_visible(oid)"
        " AND relpersistence <> 't'",
        (list(tables),),
    )
    return dict(cursor.fetchall())


def database_name(params: Mapping[str, Any]) -> str:
    """``Africa@localhost:5432``: how messages and diff headers name the database."""
    return "{}@{}:{}".format(
        params["login_db"], params["login_host"] or "local", params["login_port"]
    )


@contextmanager
def connect(params: Mapping[str, Any]) -> Iterator[Connection]:
    """A session with settled settings, closed at the end; nothing is committed for the caller.

    Raises Unreachable, InvalidInput (wrong user, password or database, a connection pooler) or
    ModuleFailure (a server that is too old). Errors of psycopg2 raised inside the block leave it as
    ModuleFailure too (``translated``).
    """
    if PSYCOPG2_ERROR:
        raise missing("psycopg2", PSYCOPG2_ERROR)
    try:
        session = psycopg2.connect(
            host=params["login_host"] or None,
            port=params["login_port"],
            dbname=params["login_db"],
            user=params["login_user"],
            password=params["login_password"],
            connect_timeout=params["connect_timeout"],
            client_encoding="UTF8",
            application_name="runbook",
        )
    except psycopg2.Error as error:
        raise _connection_failure(error, params) from error
    try:
        if session.server_version < server.OLDEST:
            raise ModuleFailure(
                "{} is PostgreSQL {}; {} or later is needed".format(
                    database_name(params),
                    session.info.parameter_status("server_version"),
                    server.OLDEST_NAME,
                )
            )
        with translated(params, session):
            _settle(session, params)
            yield session
    finally:
        session.close()


def _settle(session: Connection, params: Mapping[str, Any]) -> None:
    """Apply the settings, to the session that the server has; InvalidInput when that is shared.

    Not by the connection's ``options``: PGTZ and PGDATESTYLE of the environment would win, and a
    connection pooler drops them. A pooler gives a client's statements to sessions that it has open,
    so that locks, settings and temporary tables are lost, or stay behind for others. It is noticed
    by the process: the one that it named when the client connected is not the server's.
    """
    settings = {**SESSION_SETTINGS, "lock_timeout": "{}s".format(params["lock_timeout"])}
    session.autocommit = True
    with session.cursor() as cursor:
        if value(cursor, "SELECT pg_backend_pid()") != session.info.backend_pid:
            raise InvalidInput(
                "{} is a connection pooler, such as pgbouncer, not PostgreSQL itself: locks and "
                "settings of a session do not hold there; nothing was changed. Set db_host and "
                "db_port to the server behind it".format(database_name(params))
            )
        cursor.execute(
            "SELECT count(set_config(name, value, false))"
            " FROM unnest(%s::text[], %s::text[]) AS given (name, value)",
            (list(settings), list(settings.values())),
        )
    session.autocommit = False


def require_writable(cursor: Cursor, params: Mapping[str, Any]) -> None:
    """Refuse a server that takes no changes from this role, or on which a COMMIT would not end."""
    cursor.execute(
        "SELECT pg_is_in_recovery(), reset_val, source,"
        " CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN ''"
        "  ELSE current_setting('synchronous_standby_names') END,"
        # null for a role that may not know; then there is a standby
        " EXISTS (SELECT 1 FROM pg_stat_replication"
        "  WHERE coalesce(sync_state, 'sync') IN ('sync', 'quorum'))"
        " FROM pg_settings WHERE name = 'default_transaction_read_only'"
    )
    standby, read_only, source, awaited, followed = cursor.fetchone() or (False, "", "", "", True)
    where = database_name(params)
    if standby:
        raise Refused("{} is a standby, which follows another server; {}".format(where, _PRIMARY))
    if read_only == "on":
        raise Refused(
            "{}: transactions are read only (default_transaction_read_only is on, set by: {}); "
            "nothing was changed. Find out why, such as maintenance, then set it off (ALTER ROLE, "
            "ALTER DATABASE or ALTER SYSTEM)".format(where, source)
        )
    if awaited and not followed:
        raise Refused(
            "{}: a COMMIT waits for a standby (synchronous_standby_names is {}), and none follows; "
            "nothing was changed. Start the standby, or set synchronous_standby_names without "
            "it".format(where, awaited)
        )


_PRIMARY = (
    "nothing was changed. Set db_host and db_port to the primary server; if that one is lost, "
    "promote the standby first (SELECT pg_promote())"
)


@contextmanager
def translated(params: Mapping[str, Any], session: Connection) -> Iterator[None]:
    """Turns psycopg2's errors into the modules' own, naming the database and who keeps a lock."""
    try:
        yield
    except psycopg2.Error as error:
        waited = error.pgcode == _LOCK_NOT_AVAILABLE
        said = _blockers(session, error) if waited else ""
        raise failure(error, database_name(params), said) from error


_LOCK_NOT_AVAILABLE = "55P03"


def _blockers(session: Connection, error: psycopg2.Error) -> str:
    """The sessions that the statement waited for; the transaction is rolled back."""
    statement = _statement(error)
    with suppress(psycopg2.Error), session.cursor() as cursor:
        session.rollback()
        return blockers.of_statement(cursor, statement, _tables(statement))
    return ""


def failure(error: psycopg2.Error, where: str, blocked_by: str = "") -> ModuleFailure:
    """The module error for an error of the server or the connection."""
    message = " ".join((error.diag.message_primary or str(error)).split())
    detail = (error.diag.message_detail or "").strip()
    if detail.startswith("Failing row contains"):
        detail = ""  # the row may hold a secret
    text = "{}: {}{}".format(where, message, " ({})".format(detail) if detail else "")
    code = error.pgcode or ""
    if code == _LOCK_NOT_AVAILABLE:
        return Locked(
            "{}{}; another session holds a lock on it and did not let go in time{}".format(
                text, _named(error), blocked_by or ", pg_locks and pg_stat_activity show which"
            )
        )
    if code == "25006":
        return Refused("{}. If it is a standby: {}".format(text, _PRIMARY))
    if code == "40P01":
        return Locked("{}; nothing was changed, run it again".format(text))
    lost = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) and not code
    if lost or code.startswith(("08", "57P")):
        return Unreachable(
            "{}; the connection was lost and the transaction rolled back, run it again".format(text)
        )
    if code in _UNDEFINED:
        return InvalidInput(
            "{}{}; this labeller's tables are not those that the step knows, nothing was "
            "changed".format(text, _named(error))
        )
    if code.startswith("53"):
        return ModuleFailure(
            "{}; the server has run out of a resource and nothing was changed: free it on the "
            "server, then run it again".format(text)
        )
    if code == "57014":
        return ModuleFailure(
            "{}; nothing was changed. Where it is statement_timeout, raise it for this role or "
            "database (ALTER ROLE ... SET statement_timeout)".format(text)
        )
    hint = (error.diag.message_hint or "").strip()
    if code in _DAMAGED:
        return ModuleFailure(
            "{}; the server found damage in the files of the database, and nothing was changed. "
            "Clear nothing: look at the disk and the server's log. Rows that cannot be read are in "
            "the backup before: TRUNCATE that table, then restore it".format(text)
        )
    return ModuleFailure("{}. {}".format(text, hint) if hint else text)


#: data_corrupted, index_corrupted
_DAMAGED = ("XX001", "XX002")
#: undefined_column, undefined_table
_UNDEFINED = ("42703", "42P01")


def _named(error: psycopg2.Error) -> str:
    """The tables of the statement that failed; its text may hold a secret, their names do not."""
    names = _tables(_statement(error))
    return " in a statement on {}".format(", ".join(names)) if names else ""


def _statement(error: psycopg2.Error) -> str:
    """The statement that failed, without its constants."""
    query = getattr(error.cursor, "query", None) or b""
    return re.sub(r"'(?:[^']|'')*'", "''", query.decode("utf-8", "replace"))


def _tables(statement: str) -> List[str]:
    """The names in a statement that stand where those of tables do."""
    found = re.findall(
        r'\b(?:FROM|JOIN|UPDATE|INTO|TABLE|TRUNCATE)\s+([\w."]+)', statement, re.IGNORECASE
    )
    names = (name.replace('"', "") for name in found)
    return list(dict.fromkeys(name for name in names if not name.startswith("pg_")))


#: What servers say in English at their limit of connections; they give no code then.
_NO_CONNECTION_LEFT = ("too many clients", "too many connections", "connection slots are reserved")


def _connection_failure(error: psycopg2.Error, params: Mapping[str, Any]) -> ModuleFailure:
    message = " ".join(str(error).split())
    where = "cannot connect to {} as {}".format(database_name(params), params["login_user"])
    if "authentication failed" in message or "no password supplied" in message:
        return InvalidInput("{}: {}; check db_user and db_pwd".format(where, message))
    if "does not exist" in message and "FATAL" in message:
        return InvalidInput("{}: {}; check db_name and db_user".format(where, message))
    if any(text in message for text in _NO_CONNECTION_LEFT):
        return Unreachable(
            "{}: {}; the server runs, and all connections that it allows (max_connections, or the "
            "limit of the role or database) are taken: pg_stat_activity shows by whom. Nothing "
            "was changed; end some, or run it again later".format(where, message)
        )
    return Unreachable(
        "{}: {}; is PostgreSQL running, and are db_host and db_port right?".format(where, message)
    )
