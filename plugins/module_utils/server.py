# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Features of a PostgreSQL server, by its version. Live instances run 9.4, the oldest supported.

Every choice that depends on the version asks ``version``. Tests lower what it reports by
``assumed``, so that a newer server is used the way the oldest one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Optional

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

OLDEST = 90400
OLDEST_NAME = "9.4"

#: For a session that waits for other work to be done, on S3 or in other sessions.
PATIENT = {
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}

#: A version that tests pretend to have; None: the server's own.
assumed: Optional[int] = None

#: Settings that not every supported server has, and the version that brought them.
_SETTINGS = {
    "row_security": 90500,
    "idle_in_transaction_session_timeout": 90600,
    "client_connection_check_interval": 140000,
    "idle_session_timeout": 140000,
    "transaction_timeout": 170000,
}


def version(session: Connection) -> int:
    """The server's version as libpq gives it: 90426, 100023, 180001."""
    return session.server_version if assumed is None else min(assumed, session.server_version)


def apply_settings(cursor: Cursor, settings: Mapping[str, str]) -> None:
    """Set what the server has of the settings, for the session.

    An older server does without: it has no row security to switch off, and no timeout to fear.
    """
    for name, value in settings.items():
        if version(cursor.connection) >= _SETTINGS.get(name, OLDEST):
            cursor.execute("SELECT set_config(%s, %s, false)", (name, value))


def renew_sequence(cursor: Cursor, sequence: str) -> None:
    """Give a sequence (a quoted name) new storage: a rollback then undoes what setval does next.

    ALTER SEQUENCE does it since PostgreSQL 10. Before, only TRUNCATE ... RESTART IDENTITY of a
    table that owns the sequence does: an empty one is made for it and dropped again.
    """
    if version(cursor.connection) >= 100000:
        cursor.execute("ALTER SEQUENCE {} RESTART".format(sequence))
        return
    cursor.execute(
        """
        SELECT format('%%I.runbook_owner', n.nspname), quote_ident(pg_get_userbyid(s.relowner)),
               (SELECT format('%%s.%%I', a.attrelid::regclass, a.attname)
                FROM pg_depend d JOIN pg_attribute a
                     ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype = 'a'
                AND d.refclassid = 'pg_class'::regclass)
        FROM pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace WHERE s.oid = %s::regclass
        """,
        (sequence,),
    )
    row = cursor.fetchone()
    assert row is not None
    table, role, owner = row
    for statement in (
        "CREATE TABLE {table} (number integer)",
        "ALTER TABLE {table} OWNER TO {role}",
        "ALTER SEQUENCE {sequence} OWNED BY {table}.number",
        "TRUNCATE {table} RESTART IDENTITY",
        "ALTER SEQUENCE {sequence} OWNED BY {owner}",
        "DROP TABLE {table}",
    ):
        cursor.execute(
            statement.format(table=table, role=role, sequence=sequence, owner=owner or "NONE")
        )


def timeline(session: Connection) -> str:
    """The timeline that the server writes, 8 hex digits; promoting a standby begins another.

    Empty before PostgreSQL 10, where ``committed`` looks for the transaction's own row, and on a
    standby.
    """
    if version(session) < 100000:
        return ""
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
            " WHERE NOT pg_is_in_recovery()"
        )
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def committed(session: Connection, transaction: int, marker: Optional[int]) -> str:
    """``committed``, ``aborted`` or ``in progress``: what became of a transaction (txid_current).

    Empty when the server does not know. Before PostgreSQL 10 the row of the run marker that the
    transaction inserted says so, if it has inserted one.
    """
    with session.cursor() as cursor:
        if version(session) >= 130000:
            cursor.execute("SELECT pg_xact_status(%s::text::xid8)", (transaction,))
        elif version(session) >= 100000:
            cursor.execute("SELECT txid_status(%s)", (transaction,))
        elif marker is not None:
            return _marked(cursor, transaction, marker)
        else:
            return ""
        row = cursor.fetchone()
    return str(row[0] or "") if row else ""


def _marked(cursor: Cursor, transaction: int, marker: int) -> str:
    """``committed``, of a transaction that inserted a row of the run marker.

    While it runs it holds its own id locked, of which pg_locks and xmin have 32 bits.
    """
    seen = {"row": marker, "transaction": transaction}
    for found, query in _OF_MARKER.items():
        cursor.execute(query, seen)
        if cursor.fetchone():
            return found
    return "aborted"


_OF_MARKER = {
    "in progress": "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND granted"
    " AND transactionid::text::bigint = %(transaction)s & 4294967295",
    "aborted": "SELECT 1 WHERE to_regclass('runbook.run_marker') IS NULL",
    "committed": "SELECT 1 FROM runbook.run_marker WHERE id = %(row)s"
    " AND xmin::text::bigint = %(transaction)s & 4294967295",
}
