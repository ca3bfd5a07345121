"""The snapshot of a backup: one moment, fixed after the locks, whatever the server's settings."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, postgres, server
from ansible_collections.labeller.runbook.plugins.module_utils.backup import (
    catalog,
    chunks,
    make,
    source,
)
from backup_support import execute, parameters, url
from fault_support import Background
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(database, "CREATE TABLE a (id int); CREATE TABLE b (id int); INSERT INTO a VALUES (1)")
    return parameters(database, aws, bucket, tables=["b", "a"])


def waits_for(database: Any, table: str) -> Callable[[], bool]:
    """Whether a session waits for a lock on the table."""
    query = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
    return lambda: execute(database, query, table) == [(True,)]


def test_a_table_that_is_rewritten_before_the_lock_is_not_empty(params: dict[str, Any]) -> None:
    """A moment fixed before the lock would be older than the rewritten rows."""
    with psycopg2.connect(url(params)) as session:
        session.cursor().execute("ALTER TABLE a ALTER id TYPE bigint")
        running = Background(lambda: make.present(params, False))
        until(waits_for(params, "a"))
        session.commit()
        table = running.result()["manifest"]["tables"]["a"]
    session.close()
    assert (table["rows"], table["columns"][0]["type"]) == (1, "bigint")


def test_locks_are_taken_in_one_order(params: dict[str, Any]) -> None:
    """Two runs that name the same tables in another order cannot wait for each other."""
    held = psycopg2.connect(url(params))
    held.cursor().execute("LOCK TABLE b")
    running = Background(lambda: make.present(params, False))
    until(waits_for(params, "b"))
    query = "SELECT count(*) FROM pg_locks WHERE granted AND relation = 'a'::regclass"
    locked = execute(params, query)
    held.close()
    running.result()
    assert locked == [(1,)]


def test_every_connection_sees_the_same_moment_and_only_reads(params: dict[str, Any]) -> None:
    with source.Snapshot.of(params, params["tables"]) as snapshot:
        execute(params, "INSERT INTO a VALUES (2)")
        assert snapshot.one("SELECT count(*) FROM a") == 1
        with snapshot.reader() as session:
            cursor = session.cursor()
            cursor.execute("SELECT count(*) FROM a")
            assert cursor.fetchone() == (1,)
            with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
                cursor.execute("DELETE FROM a")


def test_a_moment_that_is_lost_is_an_error(params: dict[str, Any]) -> None:
    """As after a restart of the server: the next connection works, but not at that moment."""
    with postgres.connect(params) as session:
        snapshot = source.Snapshot(params, session, ["a"])
        snapshot.begin("ACCESS SHARE", readonly=True)
        session.rollback()
        with pytest.raises(errors.Unreachable, match="snapshot was lost.* run it again"):
            snapshot.reader().__enter__()


def test_time_limits_of_the_server_do_not_count(params: dict[str, Any]) -> None:
    limits = ("statement_timeout", *server.PATIENT)
    for setting in limits:
        execute(params, f"ALTER DATABASE \"{params['login_db']}\" SET {setting} = '1h'")
    with source.Snapshot.of(params, params["tables"]) as snapshot:
        with snapshot.reader() as session:
            for used in (snapshot.session, session):
                for setting in limits:
                    cursor = used.cursor()
                    cursor.execute(f"SHOW {setting}")
                    assert cursor.fetchone() == ("0",)


def test_rows_that_may_not_be_seen_are_an_error(params: dict[str, Any], postgres_server: Any) -> None:  # fmt: skip
    reader = params["login_db"] + "_reader"
    execute(
        params,
        f"CREATE ROLE {reader} LOGIN PASSWORD 'test'; GRANT SELECT ON a TO {reader};"
        "ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON a USING (id > 1)",
    )
    try:
        with pytest.raises(errors.ModuleFailure, match='row-level security policy for table "a"'):
            make.present({**params, "tables": ["a"], "login_user": reader}, False)
    finally:
        execute(params, f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def test_a_lock_is_of_one_prefix_and_its_loss_is_an_error(
    params: dict[str, Any], bucket: str
) -> None:
    def lose() -> None:
        with source.exclusively(params, bucket, "host/"):
            with source.exclusively(params, bucket, "host2/"):
                pass
            execute(
                params,
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )

    with pytest.raises(errors.Unreachable, match="the connection was lost"):
        lose()


def test_a_lock_outlives_the_time_that_a_session_may_be_idle(
    params: dict[str, Any], bucket: str
) -> None:
    database = params["login_db"]
    execute(params, f"ALTER DATABASE \"{database}\" SET idle_session_timeout = '100ms'")
    idle = (
        "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.datname = %s"
        " AND l.locktype = 'advisory' AND now() - a.state_change > interval '300 ms'"
    )
    with source.exclusively(params, bucket, "host/"):
        until(lambda: execute(params, idle, database) == [(True,)], 10)


def test_an_interrupt_ends_the_statements_that_run(params: dict[str, Any]) -> None:
    ended = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background

    def slow(session: Any) -> None:
        try:
            session.cursor().execute("SELECT pg_sleep(60)")
        except psycopg2.errors.QueryCanceled:
            session.rollback()
            session.cursor().execute("SELECT pg_sleep(0.2)")  # as removing an upload takes a while
            ended.append(True)
            raise

    def interrupt() -> None:
        query = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(lambda: execute(params, query) == [(True,)])
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with source.Snapshot.of(params, params["tables"]) as snapshot:
        interrupting = Background(interrupt)
        with pytest.raises(KeyboardInterrupt):
            source.in_parallel([slow], 1, snapshot.reader)
        assert ended
    signal.signal(signal.SIGINT, before)
    interrupting.result()


def test_several_connections_work_at_the_same_time(params: dict[str, Any]) -> None:
    both = threading.Barrier(2)
    with source.Snapshot.of(params, params["tables"]) as snapshot:
        source.in_parallel([lambda _: both.wait(10)] * 2, 2, snapshot.reader)


def test_pieces_of_tables_before_and_since_version_14() -> None:
    relation = catalog.Relation(7, "public", "t", False, pages=10, bytes=10 << 13)
    pieces = chunks.split("t", [relation], 4 << 13, 140000)
    assert [(piece.first, piece.end) for piece in pieces] == [(0, 4), (4, 8), (8, None)]
    # there, reading a range of pages would read the whole table
    (whole,) = chunks.split("t", [relation], 4 << 13, 130000)
    assert (whole.first, whole.end) == (0, None)
