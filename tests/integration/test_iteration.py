"""Each transition of the loop and each stall of the old daemon (docs/labeller.md 6), on tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
    Refused,
)
from ansible_collections.labeller.runbook.plugins.module_utils.steps import iteration as steps

if TYPE_CHECKING:
    from labeller_support import Labeller

RUN = 91
EXPORT, METRICS, OUTGOING = "planet/incoming.csv", "planet/metrics.csv", "planet/outgoing.csv"


@pytest.fixture
def run(regular_run: Labeller) -> Labeller:
    return regular_run


def module(
    labeller: Labeller, state: str, *, check: bool = False, **changes: Any
) -> dict[str, Any]:
    params = {
        **labeller.options, "state": state, "aoi_name": "ghana", "aoi_index": 1, "run_id": RUN,
        "iteration": 0, "incoming_names": EXPORT, "metrics": METRICS, "outgoing": OUTGOING,
        "training_names": support.TRAINING, "pool": support.POOL, "labels": "labels/ghana/",
        "image_catalog": support.CATALOG,
        **changes,
    }  # fmt: skip
    return dict(steps.logic(params, check))


def work(labeller: Labeller, iteration: int = 0, *, limit: int = 10_000) -> None:
    """Do the work of mappers and the consensus daemon on an iteration's sites."""
    labeller.sql(
        "UPDATE incoming_names SET processed = true, label = true WHERE run = %s AND name IN (SELECT"
        " name FROM incoming_names WHERE run = %s AND iteration = %s ORDER BY name LIMIT %s)",
        RUN, RUN, iteration, limit,
    )  # fmt: skip
    labeller.sql(
        "UPDATE kml_data SET mapped_count = 5, mappers_needed = 5 WHERE name IN (SELECT name FROM"
        " incoming_names WHERE run = %s AND iteration = %s AND processed)", RUN, iteration,
    )  # fmt: skip


def fresh(labeller: Labeller, count: int = 10) -> list[str]:
    """Cells of the pool that were never a site."""
    rows = labeller.sql(
        "SELECT name FROM master_grid WHERE avail = 'F' AND name NOT IN (SELECT name FROM kml_data)"
        " ORDER BY name LIMIT %s", count,
    )  # fmt: skip
    return [name for (name,) in rows]


def learn(
    labeller: Labeller, iteration: int, accuracy: str, names: list[str] | None, run_id: int = RUN
) -> None:
    """The learner's objects for an iteration (docs/labeller.md 5.4)."""
    labeller.put(
        METRICS,
        "run,iteration,tss,accuracy,precision,recall,fpr,tpr,AUC,aoi,iteration_time\n"
        f"{run_id},{iteration},0.5,{accuracy},0.8,0.7,0.1,0.7,0.9,1,2026-01-02 03:04:05\n",
    )
    if names is not None:
        rows = "".join(f"{name},{run_id},{iteration},False,train\n" for name in names)
        labeller.put(OUTGOING, "name,run,iteration,processed,usage\n" + rows)


def counter(labeller: Labeller) -> str:
    ((value,),) = labeller.sql("SELECT value FROM system_data WHERE key = 'IterationCounter'")
    return str(value)


def sites(labeller: Labeller, iteration: int) -> list[str]:
    rows = labeller.sql(
        "SELECT n.name FROM incoming_names n JOIN kml_data k USING (name) WHERE run = %s"
        " AND iteration = %s AND k.kml_type = 'F' AND k.mapped_count = 0 AND NOT n.processed"
        " ORDER BY 1", RUN, iteration,
    )  # fmt: skip
    return [name for (name,) in rows]


def test_without_a_run_there_is_nothing_to_do(labeller: Labeller) -> None:
    labeller.sql("DROP TABLE IF EXISTS runbook.run_marker")
    assert module(labeller, "read")["phase"] == "none"
    with pytest.raises(Refused, match="no run is in place"):
        module(labeller, "advanced")


def test_another_run_is_refused_and_named(run: Labeller) -> None:
    with pytest.raises(
        Refused, match="the run in place is run 91 on ghana, AOI 1, the parameters say run 92"
    ):
        module(run, "read", run_id=92)


def test_s5_to_s9_mapping_then_complete(run: Labeller) -> None:
    read = module(run, "read")
    assert (read["phase"], read["total"], read["processed"], read["blocked"]) == (
        "mapping",
        50,
        0,
        0,
    )
    assert read["waits_for"] == "mappers: 50 sites of iteration 0 are open"
    assert not read["changed"]
    work(run, limit=49)
    assert module(run, "read")["phase"] == "mapping"
    work(run)
    read = module(run, "read")
    assert (read["phase"], read["mode"], read["iteration"]) == ("complete", "regular", 0)
    assert json.dumps(read)


def test_details_are_the_hours_of_last_mappings_and_the_criteria(run: Labeller) -> None:
    names = [name for (name,) in run.sql("SELECT name FROM incoming_names WHERE run = 91 LIMIT 4")]
    run.sql("INSERT INTO worker_data (worker_id) VALUES (4711)")
    # The last name is mapped and not processed yet, the third has two mappings.
    for name, at in zip(
        [*names, names[2]], ["09:10", "09:50", "09:59", "12:00", "11:01"], strict=True
    ):
        run.sql(
            "WITH hit AS (INSERT INTO hit_data (name, create_time) VALUES (%s, now()) RETURNING hit_id)"
            " INSERT INTO assignment_data (hit_id, worker_id, start_time, completion_time, status)"
            " SELECT hit_id, 4711, now(), %s, 'Approved' FROM hit", name, f"2026-01-02 {at}+00",
        )  # fmt: skip
    run.sql(
        "UPDATE incoming_names SET processed = true WHERE run = 91 AND name = ANY (%s)", names[:3]
    )
    found = module(run, "read", details=True)
    assert found["hours"] == [
        {"hour": "2026-01-02T09:00:00+00:00", "sites": 2},
        {"hour": "2026-01-02T11:00:00+00:00", "sites": 1},
    ]
    assert found["criteria"] == {"max_iterations": 30, "accuracy": 0.85, "gain": 0.01}
    assert "hours" not in module(run, "read")
    # Criteria that are switched off, and that are unusable, are no reason to say nothing.
    run.sql("UPDATE configuration SET value = 'nan' WHERE key = 'StoppingFunc_AccThres'")
    assert module(run, "read", details=True)["criteria"]["accuracy"] is None
    run.sql("UPDATE configuration SET value = 'many' WHERE key = 'StoppingFunc_MaxIterations'")
    found = module(run, "read", details=True)
    assert found["criteria"] is None
    assert "StoppingFunc_MaxIterations is 'many'" in found["warnings"][0]


def test_s9_the_export_is_what_the_learner_reads(run: Labeller) -> None:
    support.label(run, RUN)
    before = support.state(run)
    checked = module(run, "exported", check=True)
    assert support.state(run) == before
    assert module(run, "exported") == checked
    lines = run.get(EXPORT).splitlines()
    assert lines[0] == "name,run,iteration,processed,usage,label"
    assert sum(line.endswith(f",{RUN},0,True,validate,True") for line in lines) == 50
    assert not module(run, "exported")["changed"]


def test_s11_s12a_names_become_sites_and_the_counter_goes_up(run: Labeller) -> None:
    work(run)
    names = fresh(run)
    learn(run, 1, "0.8", names)
    before = support.state(run)
    checked = module(run, "advanced", check=True)
    assert support.state(run) == before
    done = module(run, "advanced")
    assert done == checked
    assert done["finished"] is False
    assert counter(run) == "1"
    assert sites(run, 1) == names
    ((metrics,),) = run.sql(
        "SELECT ROW(run, iteration, tss, accuracy, aoi, \"precision\", recall, fpr, tpr, auc)::text"
        " FROM iteration_metrics WHERE run = %s AND iteration = 1", RUN,
    )  # fmt: skip
    assert metrics == "(91,1,0.5,0.8,1,0.8,0.7,0.1,0.7,0.9)"
    assert module(run, "read", iteration=None)["phase"] == "mapping"

    again = module(run, "advanced")
    assert not again["changed"]
    assert again["in_place"]
    with pytest.raises(InvalidInput, match="the loop is in iteration 1"):
        module(run, "exported")


def test_s11_rows_that_the_cluster_wrote_itself_are_used(run: Labeller) -> None:
    """run_DB_insert.py works: no object is read."""
    work(run)
    names = fresh(run)
    run.sql("INSERT INTO iteration_metrics (run, iteration, accuracy) VALUES (%s, 1, 0.7)", RUN)
    assert module(run, "read")["phase"] == "complete"
    run.sql(
        "INSERT INTO incoming_names (name, run, iteration, usage) SELECT unnest(%s::text[]), %s, 1, 'train'",
        names, RUN,
    )  # fmt: skip
    assert module(run, "read")["phase"] == "returned"
    assert module(run, "advanced")["finished"] is False
    assert sites(run, 1) == names


def test_s12b_criterion_1(run: Labeller) -> None:
    run.sql("UPDATE configuration SET value = '1' WHERE key = 'StoppingFunc_MaxIterations'")
    work(run)
    learn(run, 1, "0.3", fresh(run))
    checked = module(run, "advanced", check=True)
    done = module(run, "advanced")
    assert done == checked
    assert (done["finished"], done["reason"]) == (True, "criterion 1: iteration 1 of at most 1")
    assert counter(run) == "1"
    assert sites(run, 1) == []
    assert module(run, "read")["phase"] == "stopped"


def test_s12b_criterion_2_within_the_run_over_four_iterations(run: Labeller) -> None:
    """Metrics of another run with better numbers do not count."""
    for number in range(1, 4):
        run.sql(
            "INSERT INTO iteration_metrics (run, iteration, accuracy) VALUES (7, %s, 0.99)", number
        )
    reasons = []
    for iteration, accuracy in enumerate(["0.80", "0.90", "0.905", "0.909"]):
        work(run, iteration)
        run.sql("UPDATE kml_data SET mapped_count = 5 WHERE kml_type = 'F'")
        learn(run, iteration + 1, accuracy, fresh(run))
        assert module(run, "read", iteration=iteration)["phase"] == "complete"
        reasons.append(module(run, "advanced", iteration=iteration)["reason"])
    assert reasons[:3] == ["", "", ""]
    assert (
        reasons[3]
        == "criterion 2: accuracies 0.9, 0.905, 0.909 are above 0.85 and differ by less than 0.01"
    )
    assert module(run, "read")["phase"] == "stopped"
    assert [row["accuracy"] for row in module(run, "read")["metrics"]] == [
        None,
        0.8,
        0.9,
        0.905,
        0.909,
    ]
    assert run.sql("SELECT count(*) FROM incoming_names WHERE run = %s AND NOT processed", RUN) == [
        (0,)
    ]


def test_stall_a_name_without_a_queue_row_is_queued(run: Labeller) -> None:
    (name,) = sites(run, 0)[:1]
    run.sql("DELETE FROM kml_data WHERE name = %s", name)
    found = module(run, "read")
    assert (found["blocked"], found["next"]) == (1, "repair")
    checked = module(run, "repaired", check=True)
    assert module(run, "repaired") == checked
    assert name in sites(run, 0)
    assert module(run, "read")["blocked"] == 0
    assert not module(run, "repaired")["changed"]


def test_stall_a_name_mapped_too_often_counts_as_complete(run: Labeller) -> None:
    (name,) = sites(run, 0)[:1]
    run.sql("UPDATE kml_data SET mapped_count = 6, mappers_needed = 5 WHERE name = %s", name)
    assert module(run, "read")["blocked"] == 1
    done = module(run, "repaired")
    assert f"{name}: mapped 6 times" in done["diff"][0]["after"]
    assert run.sql("SELECT mappers_needed FROM kml_data WHERE name = %s", name) == [(6,)]
    assert module(run, "read")["blocked"] == 0


def refuses(labeller: Labeller, kind: type[Exception], part: str) -> None:
    before = support.state(labeller)
    for check in (True, False):
        with pytest.raises(kind, match=part):
            module(labeller, "advanced", check=check)
    assert support.state(labeller) == before


def test_fault_no_metrics(run: Labeller) -> None:
    work(run)
    refuses(run, InvalidInput, r"planet/metrics\.csv: no such object")


def test_fault_no_names_object(run: Labeller) -> None:
    work(run)
    learn(run, 1, "0.8", None)
    refuses(run, InvalidInput, r"planet/outgoing\.csv: no such object")


def test_fault_an_empty_file(run: Labeller) -> None:
    work(run)
    learn(run, 1, "0.8", None)
    run.put(OUTGOING, "")
    refuses(run, InvalidInput, "is empty")
    learn(run, 1, "0.8", [])
    refuses(run, InvalidInput, "no rows")


def test_fault_metrics_or_names_of_another_run(run: Labeller) -> None:
    """Leftovers of an earlier iteration are not taken for an answer."""
    work(run)
    learn(run, 1, "0.8", fresh(run), run_id=3)
    refuses(
        run,
        ModuleFailure,
        "brought no metrics for run 91, iteration 1.*holds run 3, iteration 1: 1 rows",
    )
    names = run.get(OUTGOING)
    learn(run, 1, "0.8", None)
    run.put(OUTGOING, names)
    refuses(
        run,
        ModuleFailure,
        "brought no names for run 91, iteration 1.*holds run 3, iteration 1: 10 rows",
    )


def test_fault_two_rows_of_metrics(run: Labeller) -> None:
    work(run)
    learn(run, 1, "0.8", fresh(run))
    run.put(
        METRICS, run.get(METRICS) + f"{RUN},1,0.5,0.9,0.8,0.7,0.1,0.7,0.9,1,2026-01-02 03:04:05\n"
    )
    refuses(run, InvalidInput, "2 rows of run 91, iteration 1; expected one")


def test_fault_unknown_names_and_other_types(run: Labeller) -> None:
    work(run)
    learn(run, 1, "0.8", [*fresh(run), "XX0000001", "x'; DROP TABLE kml_data; --"])
    refuses(run, InvalidInput, "2 names are not in master_grid.*XX0000001")
    ((quality,),) = run.sql("SELECT name FROM kml_data WHERE kml_type = 'Q' LIMIT 1")
    learn(run, 1, "0.8", [*fresh(run), quality])
    refuses(run, InvalidInput, rf"{quality} \(Q\)")


def test_fault_names_twice_or_mapped_before_are_left_out(run: Labeller) -> None:
    old = sites(run, 0)[0]
    work(run)
    names = fresh(run)
    learn(run, 1, "0.8", [*names, names[0], old])
    done = module(run, "advanced")
    assert sites(run, 1) == names
    assert run.sql("SELECT count(*) FROM incoming_names WHERE run = %s AND iteration = 1", RUN) == [
        (10,)
    ]
    assert "left out" in done["warnings"][0]


def test_fault_names_twice_that_the_cluster_wrote(run: Labeller) -> None:
    work(run)
    names = fresh(run)
    run.sql("INSERT INTO iteration_metrics (run, iteration, accuracy) VALUES (%s, 1, 0.7)", RUN)
    run.sql(
        "INSERT INTO incoming_names (name, run, iteration, usage) SELECT unnest(%s::text[]), %s, 1, 'train'",
        names * 2, RUN,
    )  # fmt: skip
    module(run, "advanced")
    assert sites(run, 1) == names


def test_fault_only_names_that_were_mapped(run: Labeller) -> None:
    old = sites(run, 0)
    work(run)
    learn(run, 1, "0.8", old)
    refuses(run, ModuleFailure, "all sites that were mapped before")


def test_an_open_iteration_is_not_advanced(run: Labeller) -> None:
    work(run, limit=49)
    learn(run, 1, "0.8", fresh(run))
    refuses(run, Refused, r"iteration 0 is not complete \(49 of 50")


def test_criteria_that_are_missing_or_no_numbers(run: Labeller) -> None:
    work(run)
    learn(run, 1, "0.8", fresh(run))
    run.sql("UPDATE configuration SET value = 'many' WHERE key = 'StoppingFunc_MaxIterations'")
    refuses(run, InvalidInput, "StoppingFunc_MaxIterations is 'many'; expected a whole number")
    run.sql("DELETE FROM configuration WHERE key LIKE 'StoppingFunc%%'")
    assert len(module(run, "advanced", check=True)["warnings"]) == 3


def test_a_missing_counter_is_named(run: Labeller) -> None:
    run.sql("DELETE FROM system_data WHERE key = 'IterationCounter'")
    with pytest.raises(InvalidInput, match="IterationCounter is missing"):
        module(run, "read")


def test_one_connection_to_read(run: Labeller, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg2

    made = []
    connect = psycopg2.connect
    monkeypatch.setattr(psycopg2, "connect", lambda **options: made.append(1) or connect(**options))
    module(run, "read")
    assert made == [1]
