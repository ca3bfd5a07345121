"""The chain: check shows what apply does, all or nothing, no other session is blocked."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import signal
import threading
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import (
    aws,
    errors,
    marker,
    overlay,
    staged_upload,
    transaction,
)
from ansible_collections.labeller.runbook.plugins.module_utils.step import Step, Transaction
from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry
from waiting import until

if TYPE_CHECKING:
    from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
    from labeller_support import Labeller


class Saboteur(Step):
    """A last step that does something else than it should."""

    name = "saboteur"

    def run(self, tx: Transaction) -> list[Change]:
        self.params["act"](tx)
        return []


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(action: Any) -> None:
    """Run ``action`` in a process that must die of SIGKILL."""
    process = multiprocessing.get_context("fork").Process(target=action)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture(params=["copies", "views"])
def shadows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of shadow that a grid gets, whatever its size."""
    monkeypatch.setattr(overlay, "LARGE", 0 if request.param == "views" else 1 << 62)
    return str(request.param)


# What check shows and apply does


def test_the_shadow_of_the_grid_is_of_the_kind_that_is_asked_for(
    labeller: Labeller, shadows: str
) -> None:
    kinds: list[Any] = []
    query = "SELECT relkind FROM pg_class WHERE oid = 'master_grid'::regclass"
    sites = support.step("static_sites", run_id=91, aoi_index=1, static_names=support.STATIC)
    for steps in (support.regular(), [support.clear(), sites]):
        support.check(labeller, *steps, observe=lambda tx: kinds.append(tx.value(query)))
    assert kinds == [{"copies": "r", "views": "v"}[shadows]] * 2


@pytest.mark.parametrize("aoi_index", [1, 2])
def test_apply_does_row_for_row_what_check_showed(
    labeller: Labeller, aoi_index: int, shadows: str
) -> None:
    seen = {}
    before = support.state(labeller)
    predicted = support.check(
        labeller, *support.regular(aoi_index=aoi_index),
        observe=lambda tx: seen.update(check=support.dump(tx)),
    )  # fmt: skip
    assert support.state(labeller) == before
    done = support.apply(
        labeller, *support.regular(aoi_index=aoi_index),
        observe=lambda tx: seen.update(apply=support.dump(tx)),
    )  # fmt: skip
    assert done == predicted
    assert done["changed"]
    for table in seen["apply"]:
        assert seen["check"][table] == seen["apply"][table], table
    assert {support.POOL, support.QS, support.CATALOG} <= labeller.keys()
    assert support.uploads(labeller) == []


def test_a_run_reads_the_whole_grid_three_times(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to count the codes, once to free cells, once to find the area; in check as in apply."""
    monkeypatch.setattr(overlay, "LARGE", 0)
    name = labeller.login["login_db"]
    labeller.sql(
        "INSERT INTO master_grid (gid, id, x, y, name, fwts, avail) SELECT n, n, 60, 60, 'XX' || n,"
        " 1, 'T' FROM generate_series(1000000, 1099999) AS n"
    )
    labeller.sql("ANALYZE master_grid")
    for setting in ("random_page_cost = 1", "max_parallel_workers_per_gather = 0"):
        labeller.sql(f"ALTER DATABASE {name} SET {setting}")
    read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'master_grid'"
    ((cells,),) = labeller.sql("SELECT reltuples FROM pg_class WHERE oid = 'master_grid'::regclass")
    taken = []
    for run in (support.check, support.apply):
        before = labeller.sql(read)[0][0]
        result = run(labeller, *support.regular())
        until(lambda before=before: labeller.sql(read)[0][0] > before)
        taken.append((labeller.sql(read)[0][0] - before) / cells)
    assert [round(times) for times in taken] == [3, 3]
    counted = dict(labeller.sql("SELECT avail, count(*) FROM master_grid GROUP BY 1"))
    shown = [d["after"] for d in result["diff"] if "f_pool: master_grid" in d["after_header"]]
    assert [int(text.replace(",", "")) for text in re.findall(r": ([\d,]+) cells", shown[0])] == [
        counted[code] for code in sorted(counted)
    ]


def test_a_second_run_of_the_other_area_is_predicted_too(labeller: Labeller, shadows: str) -> None:
    support.apply(labeller, *support.regular())
    chain = support.regular(92, 2, replaced_run="91")
    predicted = support.check(labeller, *chain)
    assert support.apply(labeller, *chain) == predicted


def test_a_run_in_place_is_left_alone(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular())
    labeller.sql("UPDATE kml_data SET mapped_count = 3 WHERE kml_type = 'F'")
    before = support.state(labeller)
    for result in (
        support.check(labeller, *support.regular()),
        support.apply(labeller, *support.regular()),
    ):
        assert result["in_place"]
        assert not result["changed"]
        assert result["plan"] == []
    assert support.state(labeller) == before


@pytest.mark.parametrize("other", [{"run_id": 92}, {"aoi_index": 2}, {"mode": "single"}])
def test_another_run_id_area_or_mode_is_not_in_place(
    labeller: Labeller, other: dict[str, Any]
) -> None:
    support.apply(labeller, support.marker())
    assert support.check(labeller, support.marker(**other))["changed"]


def test_the_marker_reads_as_the_newest_row(labeller: Labeller) -> None:
    def read(run_id: int) -> dict[str, Any]:
        return transaction.read(support.marker(run_id), labeller.options)

    assert read(91) == {
        "changed": False, "diff": [], "plan": [], "in_place": False, "current": None, "label": "",
        "inconsistencies": [], "headline": "", "warnings": [], "msg": "in place: no run",
    }  # fmt: skip
    support.apply(labeller, support.marker(91), backup={"backup_id": "b1"})
    support.apply(labeller, support.marker(92))
    assert not read(91)["in_place"]
    assert read(92)["in_place"]
    assert read(92)["current"]["run_id"] == 92
    assert labeller.sql("SELECT backup_id FROM runbook.run_marker ORDER BY id") == [
        ("b1",), (None,),
    ]  # fmt: skip


def test_a_transaction_does_not_read_the_marker(labeller: Labeller) -> None:
    step = support.step(
        "run_marker", state="read", mode="regular", aoi_name="a", aoi_index=1, run_id=1
    )
    with pytest.raises(errors.InvalidInput, match="state is read"):
        support.apply(labeller, step)


# A check writes nothing


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.kml_data SET hint = 'x'",
        "UPDATE public.master_grid SET avail = 'F'",
        "DELETE FROM public.user_maps",
        "SELECT nextval('public.kml_data_gid_seq')",
        "CREATE TABLE public.more ()",
        "TRUNCATE hit_data",
    ],
)
def test_the_server_refuses_a_write_in_check_mode(
    labeller: Labeller, statement: str, shadows: str
) -> None:
    before = support.state(labeller)
    bad = Saboteur({"act": lambda tx: tx.execute(statement)})
    with pytest.raises(errors.ModuleFailure, match="in a read-only transaction"):
        support.check(labeller, *support.regular(), bad)
    assert support.state(labeller) == before


def test_a_check_leaves_no_tuple_and_calls_s3_only_to_read(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch, shadows: str
) -> None:
    calls = set()

    def recording(service: str, params: Any, make: Any = aws.client) -> Any:
        client = make(service, {**params, "access_key": "recorded"})  # a client of its own
        client.meta.events.register("before-call", lambda model, **_: calls.add(model.name))
        return client

    written = (
        "SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del), sum(n_dead_tup)"
        " FROM pg_stat_user_tables WHERE schemaname IN ('public', 'runbook')"
    )
    monkeypatch.setattr(aws, "client", recording)
    before = labeller.sql(written)
    support.check(labeller, *support.regular())
    assert labeller.sql(written) == before
    assert calls == {"GetObject", "HeadObject"}


def test_a_check_and_writers_do_not_wait_for_each_other(labeller: Labeller, shadows: str) -> None:
    def write(session: Any) -> None:
        with session.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
            for table in ("kml_data", "incoming_names", "master_grid", "hit_data", "user_maps"):
                cursor.execute(f"UPDATE {table} SET name = name")

    before, during = labeller.connect(), labeller.connect()
    write(before)

    def others_write(_: object) -> None:
        before.rollback()
        write(during)

    support.check(labeller, *support.regular(), observe=others_write, lock_timeout=1)
    before.close()
    during.close()


# All or nothing


def test_a_failing_step_undoes_the_chain(labeller: Labeller) -> None:
    before = support.state(labeller)
    bad = Saboteur({"act": lambda tx: tx.execute("SELECT 1 / 0")})
    with pytest.raises(errors.ModuleFailure, match="division by zero"):
        support.apply(labeller, *support.regular(), bad)
    assert support.state(labeller) == before
    assert support.uploads(labeller) == []


def test_a_failing_upload_undoes_the_chain(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = support.state(labeller)
    stage, staged = staged_upload._stage, []

    def fail_at_the_second(s3: Any, upload: Any) -> Any:
        if staged:
            raise errors.Unreachable("no network")
        staged.append(stage(s3, upload))
        return staged[0]

    monkeypatch.setattr(staged_upload, "_stage", fail_at_the_second)
    with pytest.raises(errors.Unreachable):
        support.apply(labeller, *support.regular())
    assert staged
    assert support.state(labeller) == before
    assert support.uploads(labeller) == []


def test_a_lost_connection_undoes_the_chain(labeller: Labeller) -> None:
    before = support.state(labeller)

    def cut(tx: Any) -> None:
        labeller.sql("SELECT pg_terminate_backend(%s)", tx.cursor.connection.info.backend_pid)
        tx.execute("SELECT 1")

    with pytest.raises(errors.Unreachable, match="rolled back"):
        support.apply(labeller, *support.regular(), Saboteur({"act": cut}))
    assert support.state(labeller) == before


# Killed


@pytest.mark.parametrize("moment", ["before the first statement", "inside", "before the commit"])
def test_killed_before_the_commit_nothing_happened(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = support.state(labeller)
    if moment == "before the first statement":
        monkeypatch.setattr(transaction, "_lock", lambda *_: kill())
        crash(lambda: support.apply(labeller, *support.regular()))
        monkeypatch.undo()
    elif moment == "inside":
        bad = Saboteur({"act": lambda _: kill()})
        crash(lambda: support.apply(labeller, *support.regular(), bad))
    else:
        crash(lambda: support.apply(labeller, *support.regular(), observe=lambda _: kill()))
        assert sorted(support.uploads(labeller)) == sorted(
            [support.POOL, support.QS, support.CATALOG, support.TRAINING]
        )
    assert support.state(labeller) == before
    assert support.apply(labeller, *support.regular())["changed"]
    assert {support.POOL, support.QS, support.CATALOG} <= labeller.keys()
    assert support.uploads(labeller) == []


def killed_after_commit(labeller: Labeller, completed: int) -> None:
    """A run killed after the commit, with ``completed`` of its three uploads done."""
    complete = staged_upload.Staged.complete
    done: list[Any] = []

    def die(staged: Any, s3: Any) -> bool:
        if len(done) == completed:
            kill()
        done.append(staged)
        return complete(staged, s3)

    def run() -> None:
        staged_upload.Staged.complete = die  # type: ignore[method-assign]
        support.apply(labeller, *support.regular())

    crash(run)


@pytest.mark.parametrize("completed", [0, 2])
def test_killed_after_the_commit_the_next_run_completes_the_uploads(
    labeller: Labeller, completed: int
) -> None:
    killed_after_commit(labeller, completed)
    wanted = {support.POOL, support.QS, support.CATALOG}
    assert len(wanted & labeller.keys()) == completed
    before = support.state(labeller)
    predicted = support.check(labeller, *support.regular())
    assert predicted["changed"]
    assert support.state(labeller) == before
    done = support.apply(labeller, *support.regular())
    assert done == predicted
    assert done["in_place"]
    assert wanted <= labeller.keys()
    assert support.uploads(labeller) == []
    assert not support.apply(labeller, *support.regular())["changed"]


def test_an_upload_that_s3_has_lost_is_made_again(labeller: Labeller) -> None:
    predicted = support.check(labeller, *support.regular())
    killed_after_commit(labeller, completed=1)
    for upload in labeller.s3.list_multipart_uploads(Bucket=labeller.bucket)["Uploads"]:
        labeller.s3.abort_multipart_upload(
            Bucket=labeller.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    # Workers have begun since; none of it may be undone.
    labeller.sql("UPDATE kml_data SET mapped_count = 1 WHERE kml_type = 'F'")
    tables = {k: v for k, v in support.state(labeller).items() if k != "objects"}
    assert support.apply(labeller, *support.regular())["in_place"]
    after = support.state(labeller)
    assert {name for name in tables if tables[name] != after[name]} == {"runbook.run_marker"}
    for key in (support.POOL, support.QS, support.CATALOG):
        digest = hashlib.sha256(labeller.get(key).encode()).hexdigest()
        shown = [d["after"] for d in predicted["diff"] if d["after_header"].endswith(key)]
        assert digest in shown[0]


# Locks


def test_two_operators_exclude_each_other(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_ADVISORY_WAIT", "100ms")
    refused = []

    def second(_: object) -> None:
        with pytest.raises(errors.Locked) as caught:
            support.apply(labeller, *support.regular(92))
        refused.append(str(caught.value))

    first = threading.Thread(
        target=lambda: support.apply(labeller, *support.regular(), observe=second)
    )
    first.start()
    first.join()
    assert "another run is changing" in refused[0]
    assert "runbook, user postgres, from 127.0.0.1, since 20" in refused[0]
    assert labeller.sql("SELECT run_id FROM runbook.run_marker") == [(91,)]


def test_a_table_that_stays_locked_names_who_holds_it(labeller: Labeller) -> None:
    daemon = labeller.connect()
    with daemon.cursor() as cursor:
        cursor.execute("SET application_name = 'create_hit_daemon'")
        cursor.execute("UPDATE kml_data SET mapped_count = mapped_count + 0")
        before = support.state(labeller)
        with pytest.raises(errors.Locked) as caught:
            support.apply(labeller, *support.regular(), lock_timeout=1)
        assert "table kml_data stays locked for more than 1 s" in str(caught.value)
        assert f"process {daemon.info.backend_pid} (create_hit_daemon" in str(caught.value)
        assert "UPDATE kml_data SET mapped_count" in str(caught.value)
        assert support.state(labeller) == before
    daemon.close()


def test_a_reader_does_not_hold_up_an_apply(labeller: Labeller) -> None:
    reader = labeller.connect()
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kml_data, user_maps")
        support.apply(labeller, *support.regular(), lock_timeout=1)
    reader.close()


def test_no_writer_comes_between(labeller: Labeller) -> None:
    def writes(_: object) -> None:
        session = labeller.connect()
        with session.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                cursor.execute("INSERT INTO machine_maps DEFAULT VALUES")
        session.close()

    support.apply(labeller, *support.regular(), observe=writes)


# Bad targets


def test_a_database_that_is_no_labellers_is_named(
    labeller: Labeller, database: dict[str, Any]
) -> None:
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match="has no table user_maps"):
            run(labeller, support.clear(), **database)


def test_a_missing_column_is_named(labeller: Labeller) -> None:
    labeller.sql("ALTER TABLE master_grid DROP COLUMN avail")
    for run in (support.check, support.apply):
        with pytest.raises(errors.ModuleFailure, match='"avail" does not exist'):
            run(labeller, support.step("grid_availability"))


def test_extra_columns_do_no_harm(labeller: Labeller) -> None:
    labeller.sql('ALTER TABLE kml_data ADD COLUMN more text, ADD COLUMN "Odd ""one" int')
    labeller.sql("ALTER TABLE master_grid ADD COLUMN more text DEFAULT 'x'")
    predicted = support.check(labeller, *support.regular())
    assert support.apply(labeller, *support.regular()) == predicted


@pytest.mark.parametrize("moment", ["check", "apply"])
def test_a_bucket_that_is_not_there_is_named(labeller: Labeller, moment: str) -> None:
    before = support.state(labeller)
    with pytest.raises(errors.InvalidInput, match=r"no-such-bucket.*no such bucket"):
        getattr(support, moment)(labeller, *support.regular(), bucket="no-such-bucket")
    assert support.state(labeller) == before


def test_a_chain_without_steps_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="steps is empty"):
        registry.chain([])


def test_the_marker_of_no_run_is_not_in_place() -> None:
    assert not marker.is_same(None, {})
