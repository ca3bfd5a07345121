"""Servers as they are in operation, with poolers, standbys and settings of roles."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import fault_support as faults
import pytest
import servers
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import (
    commits,
    doctor,
    errors,
    lease,
    lock,
)
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore
from backup_support import execute, parameters
from labeller_support import Labeller, Template, admin, copied, filled
from pooler import pooled
from relay import relay
from waiting import until

from runbook.sandbox.postgres import PostgresServer, binaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: One worker makes the server that some of the tests stop.
pytestmark = pytest.mark.xdist_group("server_setups")


def options(arguments: dict[str, Any], labeller: Labeller, **given: Any) -> dict[str, Any]:
    """A module's parameters with its defaults."""
    defaults = {name: spec.get("default") for name, spec in arguments.items()}
    return {**defaults, **labeller.login, **given}


def findings(labeller: Labeller) -> dict[str, str]:
    """Findings of the doctor about the database that are not well, with the remedy, by check."""
    params = {**labeller.login, "tables": ["kml_data", "hit_data"]}
    found = doctor.CHECKS["database"](params)
    return {each.check: f"{each.found} | {each.fix}" for each in found if each.status != doctor.OK}


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_a_pooler_is_refused_before_anything(
    labeller: Labeller, postgres_server: PostgresServer, tmp_path: Path, mode: str
) -> None:
    if not shutil.which("pgbouncer", path="/usr/sbin:/usr/bin"):
        faults.absent("there is no pgbouncer")
    before = support.state(labeller)
    with pooled(tmp_path, postgres_server, mode) as port:
        for run in (support.check, support.apply):
            with pytest.raises(errors.InvalidInput, match="is a connection pooler"):
                run(labeller, *support.regular(), login_port=port)
    assert support.state(labeller) == before


#: Values, names and definitions whose text depends on settings.
ODD = """
CREATE SCHEMA odd; CREATE TYPE odd.kind AS ENUM ('a', 'Ä');
CREATE FUNCTION odd.fine(kind text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE values_ (
    id serial PRIMARY KEY, at timestamptz, day date, span interval, bytes bytea, number float8,
    less real, words text[], name text CHECK (odd.fine(name)), kind odd.kind,
    relation regclass, "Odd ""one" text DEFAULT 'a\\b');
INSERT INTO values_ (at, day, span, bytes, number, less, words, name, kind, relation)
SELECT at, day, '-1 mon +2 days -03:04:05.6', '\\x00ff5c', 1 / 3.0, 1 / 3.0, words, 'ä\\''€',
       'Ä', 'values_'
FROM (VALUES ('0044-03-15 12:00 BC'::timestamptz, 'infinity'::date, ARRAY['NULL', NULL, '']),
             ('2026-07-01 12:00+02', '0001-01-01 BC', '{}')) AS given (at, day, words);
"""
SETTINGS = {
    "DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu",
    "array_nulls": "off", "bytea_output": "escape", "client_encoding": "LATIN1",
    "extra_float_digits": "-15", "quote_all_identifiers": "on", "search_path": "odd, pg_catalog",
    "standard_conforming_strings": "off",
}  # fmt: skip


def test_settings_of_role_database_and_environment_change_no_byte(
    database: dict[str, Any], aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, ODD)
    params = parameters(database, aws, bucket, tables=["values_"])
    plain = make.present(params, False)
    for name, value in SETTINGS.items():
        if name != "search_path":
            value = f"'{value}'"
        execute(database, f'ALTER DATABASE "{database["login_db"]}" SET {name} = {value}')
    for name, value in (
        ("TZ", "America/Lima"),
        ("DATESTYLE", "German"),
        ("CLIENTENCODING", "LATIN9"),
    ):
        monkeypatch.setenv(f"PG{name}", value)
    again = make.present(params, False)
    assert not again["changed"], again["diff"]
    execute(database, "DELETE FROM public.values_")
    assert restore.restored(params, False)["changed"]
    again = make.present(params, False)
    assert again["manifest"] == plain["manifest"]


def test_tables_that_the_role_finds_elsewhere_are_refused(labeller: Labeller) -> None:
    """Labeller logs in as this role: its own tables are those that its search path finds."""
    labeller.sql(
        "CREATE SCHEMA app; CREATE TABLE app.kml_data (LIKE public.kml_data INCLUDING ALL);"
        f"ALTER ROLE postgres IN DATABASE {labeller.login['login_db']} SET search_path = app, public"
    )
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused, match=r"app\.kml_data comes before public\.kml_data"):
            run(labeller, *support.regular())
    assert support.state(labeller) == before
    labeller.sql("ALTER TABLE app.kml_data RENAME TO old")
    predicted = support.check(labeller, *support.regular())
    assert support.apply(labeller, *support.regular()) == predicted


@pytest.mark.parametrize("where", ["ROLE postgres IN DATABASE {}", "DATABASE {}"])
def test_transactions_that_are_read_only_are_refused_with_the_reason(
    labeller: Labeller, where: str
) -> None:
    name = where.format(labeller.login["login_db"])
    labeller.sql(f"ALTER {name} SET default_transaction_read_only = on")
    for run in (support.check, support.apply):
        with pytest.raises(
            errors.Refused, match="default_transaction_read_only is on, set by: dat"
        ):
            run(labeller, *support.regular())
    assert "default_transaction_read_only" in findings(labeller)["tables"]


@pytest.fixture(scope="module")
def own_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[PostgresServer, Template]]:
    """A server that a test may stop, and the database that each copies."""
    with servers.running(tmp_path_factory.mktemp("server"), binaries()) as server:
        yield server, filled(server)


@pytest.fixture
def primary(
    own_server: tuple[PostgresServer, Template], aws: dict[str, Any], bucket: str
) -> Iterator[tuple[PostgresServer, Labeller]]:
    """That server, and a labeller on it."""
    server, template = own_server
    with copied(server, template, aws, bucket) as made:
        yield server, made
        server.start()


def at(labeller: Labeller, server: PostgresServer) -> Labeller:
    """The same labeller, on another server."""
    return Labeller({**labeller.login, "login_port": server.port}, labeller.aws, labeller.bucket)


def caught_up(primary: Labeller, other: Labeller) -> bool:
    """Whether a standby has replayed what its primary has written."""
    (written,) = primary.sql("SELECT pg_current_wal_lsn()")
    return other.sql("SELECT pg_last_wal_replay_lsn() >= %s", *written) == [(True,)]


@pytest.mark.campaign
def test_a_standby_is_refused_until_it_is_promoted(
    primary: tuple[PostgresServer, Labeller], tmp_path: Path
) -> None:
    server, labeller = primary
    params = parameters(labeller.login, labeller.aws, labeller.bucket, tables=["kml_data"])
    with servers.standby(tmp_path / "standby", server) as standby:
        other = at(labeller, standby)
        there = {**params, "login_port": standby.port}
        assert make.present(there, False)["changed"]  # a backup only reads
        taken = options(lease.ARGUMENTS, other, state="taken", holder="me")
        held = options(lock.ARGUMENTS, other, state="present", holder="me", reason="repair")
        for check in (True, False):
            for refused in (
                lambda: support.run(other, support.regular(), check=check),  # noqa: B023
                lambda: lease.run(taken, check),  # noqa: B023
                lambda: lock.run(held, check),  # noqa: B023
                lambda: restore.restored(there, check),  # noqa: B023
            ):
                with pytest.raises(errors.Refused, match=r"is a standby.*Set db_host and db_port"):
                    refused()
        assert "promote the standby" in findings(other)["tables"]

        # The primary is lost in the middle of a run, whose lease and marker the standby has.
        number = lease.run(options(lease.ARGUMENTS, labeller, state="taken", holder="me"), False)[
            "number"
        ]
        until(lambda: caught_up(labeller, other))
        with pytest.raises(errors.Unreachable):
            support.apply(
                labeller, *support.regular(), lease=number,
                observe=lambda _: server.stop("immediate"),
            )  # fmt: skip
        with pytest.raises(errors.Refused, match="If it is a standby"):
            lease.run(options(lease.ARGUMENTS, other, state="renewed", number=number), False)
        admin(standby, "SELECT pg_promote()")
        assert support.apply(other, *support.regular(), lease=number)["changed"]
        assert other.sql("SELECT run_id FROM runbook.run_marker") == [(91,)]
        assert findings(other) == {
            "lock": "held by me: a run | wait, or ask them; runbook unlock --force takes it"
        }


def test_a_commit_that_the_promoted_standby_lacks_is_in_doubt(
    primary: tuple[PostgresServer, Labeller], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id of the transaction is then another's: the standby says that it was committed."""
    server, labeller = primary
    asked = commits._ask
    with (
        servers.standby(tmp_path / "standby", server) as standby,
        relay(
            "127.0.0.1", server.port, b".+", 1_000_000, answered=True, closing=True, reopens=True
        ) as cut,
    ):
        other = at(labeller, standby)

        def observed(_: object) -> None:
            standby.stop("immediate")
            cut.left = 1

        def fail_over(params: Any, transaction: commits.Named, marker: Any) -> bool | None:
            server.stop("immediate")
            standby.start()
            admin(standby, "SELECT pg_promote()")
            cut.upstream = ("127.0.0.1", standby.port)
            while other.sql("SELECT txid_current()") < [(transaction.number,)]:
                pass
            return asked(params, transaction, marker)

        monkeypatch.setattr(commits, "_ask", fail_over)
        with pytest.raises(commits.InDoubt):
            support.apply(labeller, *support.regular(), login_port=cut.port, observe=observed)
        assert other.sql("SELECT to_regclass('runbook.run_marker')") == [(None,)]
        monkeypatch.undo()
        assert support.apply(other, *support.regular())["changed"]
        assert support.uploads(other) == []


def test_a_standby_that_is_awaited_and_does_not_follow_is_named(
    primary: tuple[PostgresServer, Labeller],
) -> None:
    """Instead of a COMMIT that does not end."""
    server, labeller = primary
    admin(
        server, "ALTER SYSTEM SET synchronous_standby_names = 'second'", "SELECT pg_reload_conf()"
    )
    awaited = "SHOW synchronous_standby_names"
    try:
        until(lambda: labeller.sql(awaited) == [("second",)])
        for run in (support.check, support.apply):
            with pytest.raises(
                errors.Refused, match="waits for a standby .* is second.*none follows"
            ):
                run(labeller, *support.regular())
        assert "Start the standby" in findings(labeller)["tables"]
    finally:
        admin(server, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        until(lambda: labeller.sql(awaited) == [("",)])
    assert support.check(labeller, *support.regular())["changed"]


def test_who_keeps_a_table_from_readers_is_named_by_the_check(labeller: Labeller) -> None:
    """As VACUUM FULL does, or a session that was forgotten after an ALTER TABLE."""
    other = faults.Held(labeller, "SET application_name = 'psql'", "ALTER TABLE kml_data ADD x int")
    reader = faults.Held(labeller, "SELECT count(*) FROM hit_data")
    said = (
        rf"process {other.pid} \(psql, .*idle in transaction\) locks kml_data and runs: ALTER TABLE"
    )
    with pytest.raises(errors.Locked, match=said) as caught:
        support.check(labeller, *support.regular(), lock_timeout=1)
    assert f"process {reader.pid}" not in str(caught.value)
    other.let_go()
    reader.let_go()


def test_who_waits_before_an_apply_is_named_with_whom_he_waits_for(labeller: Labeller) -> None:
    """A dump does not hold up an apply; an ALTER TABLE that waits for the dump does."""
    dump = faults.Held(
        labeller, "SET application_name = 'pg_dump'", "LOCK TABLE kml_data IN ACCESS SHARE MODE"
    )
    waits = faults.Background(lambda: labeller.sql("ALTER TABLE kml_data ADD x int"))
    until(lambda: faults.waiting(labeller, "kml_data"))
    with pytest.raises(errors.Locked, match=rf"process {dump.pid} \(pg_dump,") as caught:
        support.apply(labeller, *support.regular(), lock_timeout=1)
    assert "waits for kml_data and runs: ALTER TABLE kml_data ADD x int" in str(caught.value)
    dump.let_go()
    waits.result()


def test_a_reader_that_a_restore_waits_for_is_named(labeller: Labeller) -> None:
    params = parameters(labeller.login, labeller.aws, labeller.bucket, tables=["scenes_data"])
    make.present(params, False)
    labeller.sql("DELETE FROM scenes_data")
    dump = faults.Held(
        labeller, "SET application_name = 'pg_dump'", "LOCK TABLE scenes_data IN ACCESS SHARE MODE"
    )
    with pytest.raises(errors.Locked, match=rf"scenes_data.*process {dump.pid} \(pg_dump,"):
        restore.restored({**params, "lock_timeout": 1}, False)
    dump.let_go()
    assert restore.restored(params, False)["changed"]


def test_damaged_pages_are_an_error_and_are_never_passed_over(
    primary: tuple[PostgresServer, Labeller],
) -> None:
    server, labeller = primary
    params = parameters(labeller.login, labeller.aws, labeller.bucket, tables=["kml_data"])
    ((path,),) = labeller.sql("SELECT pg_relation_filepath('kml_data')")
    server.stop()
    with (server.pgdata / path).open("r+b") as file:
        file.seek(4000)
        file.write(b"damage")
    server.start()
    database = labeller.login["login_db"]
    for run in (
        lambda: make.present(params, True),
        lambda: make.present(params, False),
        lambda: support.check(labeller, *support.regular()),
        lambda: support.apply(labeller, *support.regular()),
    ):
        with pytest.raises(errors.ModuleFailure, match=r"invalid page.*Clear nothing"):
            run()
    assert not any("manifest" in name for name in labeller.keys())  # noqa: SIM118
    admin(server, f"ALTER DATABASE {database} SET zero_damaged_pages = on")
    with pytest.raises(errors.Refused, match="zero_damaged_pages is on"):
        make.present(params, False)


def test_the_doctor_reports_row_level_security(labeller: Labeller) -> None:
    labeller.sql("CREATE ROLE filtered LOGIN PASSWORD 'test'")
    labeller.sql(
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO filtered; GRANT ALL ON ALL SEQUENCES IN SCHEMA"
        f" public TO filtered; GRANT CREATE ON DATABASE {labeller.login['login_db']} TO filtered;"
        "ALTER TABLE hit_data ENABLE ROW LEVEL SECURITY"
    )
    try:
        other = Labeller(
            {**labeller.login, "login_user": "filtered"}, labeller.aws, labeller.bucket
        )
        assert "row level security of table public.hit_data" in findings(other)["tables"]
    finally:
        labeller.sql("DROP OWNED BY filtered; DROP ROLE filtered")
