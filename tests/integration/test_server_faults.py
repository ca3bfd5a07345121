"""Faults of the server: the error names them, nothing has changed, the next run finishes."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fault_support as faults
import psycopg2
import pytest
import servers
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import (
    errors,
    fingerprint,
    journal_read,
    overlay,
    proof,
)
from ansible_collections.labeller.runbook.plugins.module_utils import postgres as postgres_module
from ansible_collections.labeller.runbook.plugins.module_utils import server as versions
from ansible_collections.labeller.runbook.plugins.module_utils.backup import load, make, restore
from backup_support import HASH64, ROWS, parameters
from labeller_support import Labeller, Template, admin, copied, filled
from relay import Relay, relay
from waiting import until

from runbook.sandbox import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.labeller.runbook.plugins.module_utils.step import Transaction

#: One worker makes what the tests of this file share.
pytestmark = pytest.mark.xdist_group("server_faults")

DEBIAN = servers.debian()
_numbers = itertools.count()

WRITTEN = {support.POOL, support.QS, support.CATALOG}


@pytest.fixture(scope="module", params=["Debian's PostgreSQL with PostGIS", "PostgreSQL 18"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[postgres.PostgresServer]:
    """A server that a test may stop: Debian's with real geometry columns, and the wheel's."""
    programs = DEBIAN if "PostGIS" in request.param else postgres.binaries()
    if programs is None:
        pytest.skip("needs the package postgresql-postgis")
    with servers.running(tmp_path_factory.mktemp("server"), programs) as made:
        yield made


@pytest.fixture(scope="module")
def own_template(server: postgres.PostgresServer) -> Template:
    return filled(server, *["CREATE EXTENSION postgis"] * (server.bin == DEBIAN))


@pytest.fixture
def own(
    server: postgres.PostgresServer, own_template: Template, aws: dict[str, Any], bucket: str
) -> Iterator[Labeller]:
    """A labeller on ``server``."""
    with copied(server, own_template, aws, bucket) as made:
        yield made


def chain(run_id: int = 91) -> list[Any]:
    """All steps of regular.yml."""
    marker, clear, *others = support.regular(run_id)
    return [
        marker, clear, support.step("worker_qualifications", state="reset"), *others,
        support.step("configuration", settings={"InitialFnum": 50, "ProportionHoldout": 100}),
        support.step("database_consistent", refuse=["static_cells", "queue_names", "scenes"]),
    ]  # fmt: skip


def finishes(labeller: Labeller) -> None:
    """Running it again does the whole job."""
    assert support.apply(labeller, *support.regular())["changed"]
    assert labeller.sql("SELECT run_id FROM runbook.run_marker") == [(91,)]
    assert labeller.keys() >= WRITTEN
    assert support.uploads(labeller) == []


# Servers and tables that differ


def test_fingerprints_are_the_same_on_every_server(server: postgres.PostgresServer) -> None:
    session = psycopg2.connect(server.url("postgres"), options="-c TimeZone=UTC")
    with session.cursor() as cursor:
        cursor.execute(ROWS)
        assert fingerprint.of_table(cursor, "public", "t") == (500, HASH64)
    session.close()


def test_the_whole_chain(
    own: Labeller, server: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "LARGE", 0)
    kind = own.sql(
        "SELECT typtype FROM pg_type t JOIN pg_attribute a ON a.atttypid = t.oid"
        " WHERE attrelid = 'user_maps'::regclass AND attname = 'geom'"
    )
    assert kind == [("b" if server.bin == DEBIAN else "d",)]
    before = support.state(own)
    seen: dict[str, Any] = {}
    predicted = support.check(own, *chain(), observe=lambda tx: seen.update(c=support.dump(tx)))
    assert support.state(own) == before
    done = support.apply(own, *chain(), observe=lambda tx: seen.update(a=support.dump(tx)))
    assert done == predicted
    resources = [item["resource"] for item in done["plan"]]
    assert len(set(resources)) == len(resources)
    assert f"f_pool: master_grid ({own.login['login_db']}@127.0.0.1:{server.port})" in resources
    assert [d["before_header"] for d in done["diff"]] == [
        name for name in resources if name in {d["after_header"] for d in done["diff"]}
    ]
    times = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d+")  # now() of worker_qualifications
    for table, rows in seen["a"].items():
        shown = [[times.sub("now", row) for row in found] for found in (seen["c"][table], rows)]
        assert sorted(shown[0]) == sorted(shown[1]), table
    assert {table for table in seen["a"] if seen["a"][table]} >= {"scenes_data", "kml_data"}
    after = support.state(own)
    for run in (support.check, support.apply):
        again = run(own, *chain())
        assert again["in_place"]
        assert not again["changed"]
    assert support.state(own) == after
    assert not own.sql("SELECT 1 FROM user_maps UNION ALL SELECT 1 FROM qual_user_maps")


@pytest.mark.parametrize("server", ["Debian's PostgreSQL with PostGIS"], indirect=True)
def test_geometries_are_loaded_and_bad_ones_named(
    own: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "require", lambda *_: None)
    square = "SRID=4326;POLYGON((0 0,1 0,1 1,0 0))"

    def geography(geometry: str) -> list[Any]:
        own.put("geo/grid.csv", "id,x,y,name,fwts,avail\n7,1,9,TG0000001,3,T\n")
        own.put("geo/more.csv", "id,x,y,name,fwts,avail\n8,1,8,TG0000002,3,T\n")
        own.put("geo/static.csv", "kml_type,name\nQ,TG0000002\n")
        own.put("geo/fields.csv", f'name,category,geom_clean\nTG0000002,field,"{geometry}"\n')
        return [
            support.step(
                "geography", grid="geo/grid.csv", reference_grid="geo/more.csv",
                static_sites="geo/static.csv", reference_fields="geo/fields.csv",
            ),
            support.clear(),
        ]  # fmt: skip

    bad = geography("POLYGON((0 0")
    before = support.state(own)
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match=r"geo/fields.csv.*parse error"):
            run(own, *bad)
    assert support.state(own) == before
    predicted = support.check(own, *geography(square))
    assert support.apply(own, *geography(square)) == predicted
    found = own.sql("SELECT name, ST_AsEWKT(geom_clean) FROM qaqcfields")
    assert found == [("TG0000002", square)]
    assert support.apply(own, *geography(square))["in_place"]


def test_a_check_logs_nothing_about_real_tables(
    own: Labeller, server: postgres.PostgresServer
) -> None:
    """The write-ahead log of a check is read: only the catalogue's rows of temporary tables."""
    support.check(own, *chain())  # hint bits and the like of the first look
    real = own.sql(
        "SELECT d.dattablespace || '/' || d.oid || '/' || c.relfilenode"
        " FROM pg_class c, pg_database d WHERE d.datname = current_database()"
        " AND c.relfilenode > 0 AND c.relnamespace IN"
        " (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'runbook'))"
    )
    begun = switched(own)
    support.check(own, *chain())
    ended = switched(own)
    assert written(server, begun, ended).isdisjoint(place for (place,) in real)
    own.sql("UPDATE system_data SET value = value")
    assert not written(server, ended, switched(own)).isdisjoint(place for (place,) in real)


def switched(labeller: Labeller) -> str:
    """The end of the write-ahead log, which goes on in a new file."""
    ((place,),) = labeller.sql("SELECT pg_switch_wal()")
    return str(place)


def written(server: postgres.PostgresServer, begun: str, ended: str) -> set[str]:
    """The files (TABLESPACE/DATABASE/FILE) that the write-ahead log between two places is about."""
    output = subprocess.run(
        [server.bin / "pg_waldump", "-p", server.pgdata / "pg_wal", "-s", begun, "-e", ended],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return set(re.findall(r"rel (\d+/\d+/\d+)", output))


def test_columns_that_labeller_does_not_have(
    own: Labeller, server: postgres.PostgresServer
) -> None:
    own.sql(
        """
        CREATE SEQUENCE counted;
        ALTER TABLE kml_data ADD COLUMN initial text GENERATED ALWAYS AS (left(name, 2)) STORED,
            ADD COLUMN counted integer NOT NULL DEFAULT nextval('counted');
        ALTER TABLE incoming_names ADD COLUMN source text NOT NULL DEFAULT 'drawn',
            ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY;
        ALTER TABLE iteration_metrics ADD COLUMN id bigint GENERATED BY DEFAULT AS IDENTITY UNIQUE,
            ADD COLUMN noted date DEFAULT current_date;
        ALTER TABLE master_grid ADD COLUMN "Odd ""one" integer DEFAULT 7 CHECK ("Odd ""one" > 6),
            ADD COLUMN place point GENERATED ALWAYS AS (point(x, y)) STORED;
        ALTER TABLE scenes_data ADD COLUMN row_col text
            GENERATED ALWAYS AS (global_row::text || '_' || global_col::text) STORED;
        """
    )
    if server.bin != DEBIAN:
        own.sql("ALTER TABLE hit_data ADD COLUMN twice integer GENERATED ALWAYS AS (hit_id * 2)")
    seen: dict[str, Any] = {}
    predicted = support.check(own, *chain(), observe=lambda tx: seen.update(c=support.dump(tx)))
    done = support.apply(own, *chain(), observe=lambda tx: seen.update(a=support.dump(tx)))
    assert done == predicted
    for table in ("kml_data", "incoming_names", "master_grid", "scenes_data", "iteration_metrics"):
        assert seen["c"][table] == seen["a"][table], table
    assert own.sql("SELECT count(*) FROM kml_data WHERE initial = 'GH'") == own.sql(
        "SELECT count(*) FROM kml_data"
    )
    assert own.sql("SELECT DISTINCT source FROM incoming_names") == [("drawn",)]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("master_grid", "avail"), ("scenes_data", "tms_url"), ("kml_data", "hint"),
        ("incoming_names", "usage"), ("system_data", "value"),
    ],
)  # fmt: skip
def test_a_column_that_is_missing(labeller: Labeller, table: str, column: str) -> None:
    labeller.sql(f"ALTER TABLE {table} RENAME {column} TO something_else")
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match="does not exist") as caught:
            run(labeller, *chain())
        assert column in str(caught.value)
        assert table in str(caught.value)
    assert support.state(labeller) == before
    labeller.sql(f"ALTER TABLE {table} RENAME something_else TO {column}")
    finishes(labeller)


def test_a_column_that_nobody_fills_is_named(labeller: Labeller) -> None:
    labeller.sql("ALTER TABLE scenes_data ADD COLUMN licence text")
    labeller.sql("UPDATE scenes_data SET licence = ''")
    labeller.sql("ALTER TABLE scenes_data ALTER COLUMN licence SET NOT NULL")
    before = support.state(labeller)
    for run in (support.check, support.apply):
        with pytest.raises(errors.ModuleFailure, match='"licence" of relation "scenes_data"'):
            run(labeller, *chain())
    assert support.state(labeller) == before


# The server goes away


@pytest.mark.parametrize("moment", ["inside a step", "at the end"])
def test_the_server_is_restarted(
    own: Labeller, server: postgres.PostgresServer, moment: str
) -> None:
    before = support.state(own)

    def restart(tx: Transaction) -> None:
        server.stop("immediate")
        server.start()
        tx.execute("SELECT 1")

    last = [faults.Act({"act": restart})] if moment == "inside a step" else []
    for run in (support.check, support.apply):
        with pytest.raises(errors.Unreachable, match="lost and the transaction rolled back"):
            run(own, *support.regular(), *last, observe=None if last else restart)
    assert support.state(own) == before
    assert support.uploads(own) == []
    finishes(own)


def test_no_connection_is_left(labeller: Labeller) -> None:
    labeller.sql("CREATE ROLE limited LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    try:
        login = {**labeller.options, "login_user": "limited", "login_password": "x"}
        with (
            pytest.raises(errors.Unreachable, match=r"too many connections.*the server runs, and"),
            postgres_module.connect(login),
        ):
            pass
    finally:
        labeller.sql("DROP ROLE limited")


def test_the_server_stops_before_the_commit(own: Labeller, server: postgres.PostgresServer) -> None:
    before = support.state(own)
    with pytest.raises(errors.Unreachable, match=r"labeller_\d+@127.0.0.1:\d+.* during the commit"):
        support.apply(
            own, *support.regular(), connect_timeout=1,
            observe=lambda _: server.stop("immediate"),
        )  # fmt: skip
    with pytest.raises(errors.Unreachable, match="is PostgreSQL running"):
        support.apply(own, *support.regular())
    server.start()
    assert support.state(own) == before
    finishes(own)


def test_the_server_is_restarted_during_a_dump_and_a_load(
    own: Labeller, server: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = parameters(own.login, own.aws, own.bucket, tables=["master_grid", "user_maps"])
    before = support.state(own)

    def restart_at(module: Any, function: str) -> None:
        """Restart the server the first time that the function is called, by several threads."""
        original, first = getattr(module, function), iter([True])

        def restarting(*args: Any) -> Any:
            if next(first, False):
                server.stop("immediate")
                server.start()
            return original(*args)

        monkeypatch.setattr(module, function, restarting)

    restart_at(make, "compressor")
    with pytest.raises(errors.Unreachable, match=r"labeller_\d+@127.0.0.1"):
        make.present(params, False)
    assert not any(map(re.compile("manifest.json$").search, own.keys()))
    assert {**support.state(own), "objects": {}} == {**before, "objects": {}}
    assert make.present(params, False)["changed"]
    rows = own.sql("SELECT * FROM master_grid ORDER BY gid")
    own.sql("DELETE FROM master_grid WHERE gid % 2 = 0")
    before = support.state(own)
    restart_at(load, "contents")
    with pytest.raises(errors.Unreachable, match=r"labeller_\d+@127.0.0.1"):
        restore.restored(params, False)
    assert support.state(own) == before
    assert restore.restored(params, False)["changed"]
    assert own.sql("SELECT * FROM master_grid ORDER BY gid") == rows


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_the_connection_is_cut_during_the_commit(
    labeller: Labeller, tmp_path: Path, lost: str
) -> None:
    """The server cannot be asked whether the commit happened; the next run finds out."""
    before = support.state(labeller)
    port, never, answered = labeller.login["login_port"], 1_000_000, lost == "answer"
    with (
        relay("127.0.0.1", port, b".+", never, answered=answered, closing=True) as cut,
        pytest.raises(errors.Unreachable, match="lost during the commit, and only the server"),
    ):
        support.apply(
            labeller, *support.regular(), login_port=cut.port, connect_timeout=1,
            observe=lambda _: setattr(cut, "left", 1), **journaled(tmp_path),
        )  # fmt: skip
    assert cut.reached.is_set()
    assert outcomes(tmp_path) == ["unknown"]
    if lost == "request":
        assert support.state(labeller) == before
        finishes(labeller)
        return
    assert labeller.sql("SELECT run_id FROM runbook.run_marker") == [(91,)]
    assert not WRITTEN & labeller.keys()
    assert support.apply(labeller, *support.regular())["in_place"]
    assert labeller.keys() >= WRITTEN
    assert support.uploads(labeller) == []


#: 13 and later have pg_xact_status, 10 to 12 txid_status, older ones only the marker's row.
@pytest.mark.parametrize("version", [180000, 120000, 90400])
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_the_server_is_asked_what_became_of_a_commit(
    labeller: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, version: int
) -> None:
    monkeypatch.setattr(versions, "assumed", version)
    before = support.state(labeller)
    with cut_once(labeller, answered=lost == "answer") as cut:

        def run() -> dict[str, Any]:
            return support.apply(
                labeller, *support.regular(), login_port=cut.port,
                observe=lambda _: setattr(cut, "left", 1), **journaled(tmp_path),
            )  # fmt: skip

        if lost == "answer":
            assert run()["changed"]
            assert outcomes(tmp_path) == ["done"]
            assert labeller.sql("SELECT run_id FROM runbook.run_marker") == [(91,)]
            assert labeller.keys() >= WRITTEN
            assert support.uploads(labeller) == []
            return
        with pytest.raises(errors.Unreachable, match="says that the transaction was rolled"):
            run()
    assert outcomes(tmp_path) == ["failed"]
    assert support.state(labeller) == before
    assert support.uploads(labeller) == []
    finishes(labeller)


def test_a_restore_whose_answer_is_lost(
    labeller: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = parameters(labeller.login, labeller.aws, labeller.bucket, tables=["scenes_data"])
    make.present(params, False)
    rows = labeller.sql("SELECT * FROM scenes_data ORDER BY 1, 2, 3")
    labeller.sql("DELETE FROM scenes_data")
    commit = restore.commits.commit
    with cut_once(labeller, answered=True) as cut:

        def losing(*arguments: Any) -> bool:
            cut.left = 1
            return bool(commit(*arguments))

        monkeypatch.setattr(restore.commits, "commit", losing)
        restored = {**params, **journaled(tmp_path), "login_port": cut.port}
        assert restore.restored(restored, False)["changed"]
        assert cut.reached.is_set()
    assert outcomes(tmp_path) == ["done"]
    assert labeller.sql("SELECT * FROM scenes_data ORDER BY 1, 2, 3") == rows


@contextlib.contextmanager
def cut_once(labeller: Labeller, *, answered: bool) -> Iterator[Relay]:
    """A relay that is cut when its ``left`` is set to 1; connections made later pass."""
    port = labeller.login["login_port"]
    with relay(
        "127.0.0.1", port, b".+", 1_000_000, answered=answered, closing=True, reopens=True
    ) as cut:
        yield cut


def journaled(folder: Path) -> dict[str, Any]:
    """The option ``journal``, with its folder here."""
    return {"journal": {"run": "20260114T093012-3f9a1c", "folder": str(folder / "journal")}}


def outcomes(folder: Path) -> list[str]:
    """The outcomes of the steps in that journal."""
    told = journal_read.report(str(folder / "journal"), "20260114T093012-3f9a1c")
    assert all(step["transaction"] > 0 for step in told["steps"])
    return [step["outcome"] for step in told["steps"]]


@pytest.mark.parametrize("run", [support.check, support.apply])
def test_the_session_is_terminated(labeller: Labeller, run: Any) -> None:
    before = support.state(labeller)

    def terminate(tx: Transaction) -> None:
        labeller.sql("SELECT pg_terminate_backend(%s)", tx.cursor.connection.info.backend_pid)
        tx.execute("SELECT 1")

    with pytest.raises(errors.Unreachable, match="lost and the transaction rolled back"):
        run(labeller, *support.regular(), faults.Act({"act": terminate}))
    assert support.state(labeller) == before
    finishes(labeller)


# The server has not enough


def test_the_disk_of_a_table_is_full(
    labeller: Labeller, postgres_server: postgres.PostgresServer, tmp_path: Path
) -> None:
    with faults.small_disk(labeller, postgres_server, tmp_path / "small") as disk:
        labeller.sql("ALTER TABLE scenes_data SET TABLESPACE small")
        before = support.state(labeller)
        disk.fill()
        with pytest.raises(errors.ModuleFailure, match="No space left on device") as caught:
            support.apply(labeller, *support.regular())
        assert "nothing was changed: free it on the server, then run it again" in str(caught.value)
        assert support.state(labeller) == before
        assert support.uploads(labeller) == []
        disk.free()
        finishes(labeller)


def test_the_disk_of_temporary_tables_is_full(
    labeller: Labeller, postgres_server: postgres.PostgresServer, tmp_path: Path
) -> None:
    name = labeller.login["login_db"]
    before = support.state(labeller)
    with faults.small_disk(labeller, postgres_server, tmp_path / "small") as disk:
        admin(postgres_server, f"ALTER DATABASE {name} SET temp_tablespaces = small")
        disk.fill()
        for run in (support.check, support.apply):
            with pytest.raises(errors.ModuleFailure, match="No space left on device"):
                run(labeller, *support.regular())
        assert support.state(labeller) == before
        admin(postgres_server, f"ALTER DATABASE {name} RESET temp_tablespaces")
    finishes(labeller)


def test_the_limit_of_temporary_files_is_reached(
    labeller: Labeller, postgres_server: postgres.PostgresServer
) -> None:
    """A full disk where nothing may be mounted."""
    name = labeller.login["login_db"]
    before = support.state(labeller)

    def sort(tx: Transaction) -> None:
        tx.execute("SET LOCAL work_mem = '64kB'")
        tx.execute("SELECT md5(i::text) FROM generate_series(1, 50000) i ORDER BY 1")

    admin(postgres_server, f"ALTER DATABASE {name} SET temp_file_limit = '1MB'")
    for run in (support.check, support.apply):
        with pytest.raises(errors.ModuleFailure, match=r"temp_file_limit.*out of a resource"):
            run(labeller, *support.regular(), faults.Act({"act": sort}))
    admin(postgres_server, f"ALTER DATABASE {name} RESET temp_file_limit")
    assert support.state(labeller) == before
    finishes(labeller)


@pytest.mark.campaign
def test_a_statement_takes_too_long(
    labeller: Labeller, postgres_server: postgres.PostgresServer
) -> None:
    name = labeller.login["login_db"]
    before = support.state(labeller)
    admin(postgres_server, f"ALTER DATABASE {name} SET statement_timeout = '1s'")
    slow = faults.Act({"act": lambda tx: tx.execute("SELECT pg_sleep(60)")})
    for run in (support.check, support.apply):
        with pytest.raises(errors.ModuleFailure, match=r"statement timeout; nothing was changed"):
            run(labeller, *support.regular(), slow)
    admin(postgres_server, f"ALTER DATABASE {name} RESET statement_timeout")
    assert support.state(labeller) == before
    finishes(labeller)


# Daemons (two operators, and a lock that stays: test_transaction.py)


def test_a_deadlock_that_we_lose(
    labeller: Labeller, postgres_server: postgres.PostgresServer
) -> None:
    name = labeller.login["login_db"]
    before = support.state(labeller)
    admin(postgres_server, f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'")
    daemon = faults.Held(
        labeller, "SET deadlock_timeout = '1h'", "SET application_name = 'create_hit_daemon'",
        "UPDATE kml_data SET hint = hint",
    )  # fmt: skip
    gate = faults.Held(labeller, "UPDATE hit_data SET reward = reward")
    run = faults.Background(lambda: support.apply(labeller, *support.regular(), lock_timeout=60))
    until(lambda: faults.waiting(labeller, "hit_data"))
    # It holds assignment_data by now, and will want kml_data.
    wanting = faults.Background(lambda: daemon.execute("UPDATE assignment_data SET score = score"))
    until(lambda: faults.waiting(labeller, "assignment_data"))
    gate.let_go()
    with pytest.raises(errors.Locked) as caught:
        run.result()
    assert "table kml_data is locked by a session that waits for us (deadlock)" in str(caught.value)
    assert f"process {daemon.pid} (create_hit_daemon" in str(caught.value)
    wanting.result()
    daemon.let_go()
    assert support.state(labeller) == before
    finishes(labeller)


def test_a_deadlock_that_the_daemon_loses(
    labeller: Labeller, postgres_server: postgres.PostgresServer
) -> None:
    name = labeller.login["login_db"]
    admin(postgres_server, f"ALTER DATABASE {name} SET deadlock_timeout = '1h'")
    daemon = faults.Held(
        labeller, "SET deadlock_timeout = '50ms'", "UPDATE kml_data SET hint = hint"
    )
    run = faults.Background(lambda: support.apply(labeller, *support.regular(), lock_timeout=60))
    until(lambda: faults.waiting(labeller, "kml_data"))
    with pytest.raises(psycopg2.errors.DeadlockDetected):
        daemon.execute("UPDATE assignment_data SET score = score")
    daemon.let_go()
    assert run.result()["changed"]
    assert support.apply(labeller, *support.regular())["in_place"]


def test_a_catalogue_that_cannot_be_kept_is_named(
    labeller: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(errors.ModuleFailure, match="cannot write a temporary file in .*gone: "):
        support.check(labeller, support.scene_catalog())
