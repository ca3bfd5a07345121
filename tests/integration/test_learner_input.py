"""The learner's input for a run: exactly that run's names, or no cluster is started."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import learner_filter
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import transaction
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput, Refused
from ansible_collections.labeller.runbook.plugins.module_utils.steps import iteration

if TYPE_CHECKING:
    from labeller_support import Labeller

EXPORT = "planet/incoming.csv"


def export(labeller: Labeller, run_id: int, *, check: bool = False, **changes: Any) -> Any:
    return iteration.logic(
        {
            **labeller.options, "state": "exported", "aoi_name": "ghana", "aoi_index": 1,
            "run_id": run_id, "iteration": 0, "incoming_names": EXPORT, "metrics": None,
            "outgoing": None, "training_names": support.TRAINING, "pool": support.POOL,
            "image_catalog": support.CATALOG, "labels": "labels/ghana/", **changes,
        },
        check,
    )  # fmt: skip


def verified(labeller: Labeller, run_id: int, **options: Any) -> None:
    """The first task of a run mode, before it changes anything."""
    marker = support.step(
        "run_marker", state="checked", mode="regular", aoi_name="ghana", aoi_index=1,
        run_id=run_id, **options,
    )  # fmt: skip
    assert not transaction.read(marker, labeller.options)["in_place"]


def learner_reads(labeller: Labeller, run_id: int) -> learner_filter.Read:
    """The names that the real learner reads after the run's sites are mapped and exported."""
    support.label(labeller, run_id)
    export(labeller, run_id)
    learner = {
        "prefix": "planet", "runid": run_id, "incoming_names": "incoming.csv",
        "incoming_names_static": "training.csv", "pool": "pool.csv",
    }  # fmt: skip
    return learner_filter.read(labeller.get, learner)


def static(labeller: Labeller) -> list[str]:
    """The operator's list, of names with scenes of both seasons."""
    paired = {
        name for (name,) in labeller.sql(
            "SELECT name::text FROM master_grid g WHERE (SELECT count(DISTINCT season)"
            " FROM scenes_data s WHERE s.cell_id = g.id) = 2"
        )
    }  # fmt: skip
    rows = csv.DictReader(io.StringIO(labeller.get(support.STATIC)))
    return sorted(row["name"] for row in rows if row["name"] in paired)


def drawn(labeller: Labeller, run_id: int) -> list[str]:
    rows = labeller.sql(
        "SELECT name FROM incoming_names WHERE run = %s AND usage = 'validate' ORDER BY 1", run_id
    )
    return [name for (name,) in rows]


def test_each_run_trains_on_the_static_names_and_validates_on_its_own(labeller: Labeller) -> None:
    """Initial drawing, regular production under the same number, and the two runs after it."""
    support.apply(labeller, *support.initial())
    support.label(labeller, 0)
    names = static(labeller)
    assert len(names) > 3
    labeller.sql("UPDATE incoming_names SET label = false WHERE run = 0 AND name = %s", names[0])
    export(labeller, 0, incoming_names=support.STATIC)
    rows = list(csv.DictReader(io.StringIO(labeller.get(support.STATIC))))
    assert {(row["run"], row["usage"]) for row in rows} == {("0", "train")}, "of the drawing alone"
    operators = labeller.get(support.STATIC)

    validated = []
    with pytest.raises(Refused, match="run_id 0 was used before: incoming_names has"):
        verified(labeller, 0)
    for run_id in (0, 1, 2):
        verified(labeller, run_id, static_names=support.STATIC)
        support.apply(labeller, *support.regular(run_id))
        read = learner_reads(labeller, run_id)
        assert read.train == names[1:], "all but the one that has no label"
        assert read.validate == drawn(labeller, run_id)
        validated.append(len(read.validate))
    assert validated == [50, 50, 50]
    assert labeller.get(support.STATIC) == operators


def test_a_number_that_was_a_runs_is_refused_unless_all_is_cleared(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular(0))
    support.label(labeller, 0)
    labeller.sql("INSERT INTO iteration_metrics (run, iteration, accuracy) VALUES (0, 1, 0.8)")
    support.apply(labeller, *support.regular(1))
    before = support.state(labeller)
    said = "run_id 0 was used before: .* goes to its iteration 1.* choose a new run_id"
    with pytest.raises(Refused, match=said):
        support.check(labeller, *support.regular(0, replaced_run="1"))
    with pytest.raises(Refused, match=said):
        verified(labeller, 0, static_names=support.STATIC, replaced_run="1")
    assert support.state(labeller) == before
    verified(labeller, 0, replaced_run="1", earlier_metrics="clear")
    chain = support.regular(0, replaced_run="1")
    chain[1] = support.clear(run_id=0, static_names=support.STATIC, metrics="clear")
    support.apply(labeller, *chain)
    assert learner_reads(labeller, 0).train == static(labeller)


def test_the_names_of_a_drawing_go_only_when_a_backup_proves_them(labeller: Labeller) -> None:
    support.apply(labeller, *support.initial())
    support.label(labeller, 0)
    export(labeller, 0, incoming_names=support.STATIC)
    chain = support.regular(0)
    chain[1] = support.clear(run_id=0, static_names=support.STATIC, unprotected=False)
    with pytest.raises(Refused, match="of incoming_names, .* of iteration_metrics"):
        support.check(labeller, *chain)


#: A statement, or an object's key and what becomes of its text; and what is said.
FAULTS = {
    "no name to train": (
        (support.TRAINING, lambda text: text.splitlines()[0] + "\n"),
        "there is no name to train",
    ),
    "no name to validate": (
        "UPDATE incoming_names SET label = false WHERE run = 91",
        "there is no name to validate",
    ),
    "a static list of another run": (
        (support.TRAINING, lambda text: text.replace(",91,0,", ",90,0,")),
        r"rows are not of run 91 with a true label.*put that version back",
    ),
    "a static list in another order": (
        (support.TRAINING, lambda text: text.replace("run,iteration", "iteration,run")),
        "begins with 'name,iteration,run,processed,usage,label'",
    ),
    "a static name that is a site too": (
        (support.TRAINING, lambda text: text + text.splitlines()[-1] + "\n"),
        r"1 names \(\w+\) are there more than once",
    ),
    "a name outside the pool": (
        """
        UPDATE incoming_names SET name = (SELECT min(name) FROM kml_data WHERE kml_type = 'Q')
        WHERE name = (SELECT min(name) FROM incoming_names WHERE run = 91)
        """,
        r"1 names \(\w+\) are not in the pool, s3://\S+/planet/pool.csv",
    ),
    "a label image": (
        ("labels/ghana/", None),
        r"names \(.*\) have no label image below s3://\S+/labels/ghana/",
    ),
    "a season": (
        (support.CATALOG, lambda text: text.replace(",OS,", ",XX,")),
        r"names \(.*\) do not have one scene of each season",
    ),
    "metrics of an earlier run": (
        "INSERT INTO iteration_metrics (run, iteration, iteration_time) VALUES (91, 1, '2019-01-01')",
        "has iteration 1 of an earlier run 91",
    ),
    "names of the iteration to come": (
        """
        INSERT INTO incoming_names
        SELECT name, 91, 1, false, 'train', false FROM incoming_names WHERE run = 91 LIMIT 1
        """,
        "has 1 names of iteration 1 already, without metrics",
    ),
    "no label in the last iteration": (
        """
        UPDATE incoming_names SET iteration = 1 WHERE run = 91 AND NOT label;
        UPDATE system_data SET value = '1' WHERE key = 'IterationCounter'
        """,
        "iteration 1 is complete, and 0 is the last with a label",
    ),
    "an area that is mapped": (
        (support.POOL, lambda text: "name,col,row\nGH0000001,1,1\n"),
        "cells of the pool are left to ask for",
    ),
}  # fmt: skip


@pytest.mark.campaign
def test_what_the_learner_could_not_work_with_is_named_before_a_cluster(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular())
    support.label(labeller, 91)
    labeller.sql(
        "ALTER TABLE incoming_names DROP CONSTRAINT IF EXISTS incoming_names_run_iteration_fkey"
    )
    export(labeller, 91, check=True)
    tables = ("incoming_names", "iteration_metrics", "system_data")
    for table in tables:
        labeller.sql(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
    for name, (fault, said) in FAULTS.items():
        if isinstance(fault, str):
            labeller.sql(fault)
        else:
            key = next(key for key in sorted(labeller.keys()) if key.startswith(fault[0]))
            text = labeller.get(key)
            if fault[1] is None:
                labeller.s3.delete_object(Bucket=labeller.bucket, Key=key)
            else:
                labeller.put(key, fault[1](text))
        before = support.state(labeller)
        later = int("last iteration" in name)
        for check in (True, False):
            with pytest.raises(InvalidInput, match=f"(?s)no cluster is started.*{said}"):
                export(labeller, 91, check=check, iteration=later)
        assert support.state(labeller) == before, name
        if isinstance(fault, str):
            for table in tables:
                labeller.sql(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}")
        else:
            labeller.put(key, text)
