"""The active-learning loop, closed in the sandbox, as `runbook sandbox loop` plays it."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import learner_filter
import pytest
import yaml
from command_line import Sandbox

from runbook.sandbox import processes
from runbook.sandbox.state import Home

if TYPE_CHECKING:
    from pathlib import Path


def reads_its_own(box: Sandbox, run_id: int) -> bool:
    """Whether the real learner reads exactly this run's names: the static ones and the sites."""
    learner = yaml.safe_load(box.text("config_ghana_1.yaml"))["learner"]
    read = learner_filter.read(box.text, learner)
    usages = [
        [name for (name,) in box.query(
            "SELECT name FROM incoming_names WHERE run = %s AND usage = %s AND label", run_id, usage
        )] for usage in ("train", "validate")
    ]  # fmt: skip
    rows = csv.DictReader(io.StringIO(box.text("planet/incoming_names_static_cluster1.csv")))
    paired = box.query(
        "SELECT name::text FROM master_grid g WHERE (SELECT count(DISTINCT season)"
        " FROM scenes_data s WHERE s.cell_id = g.id) = 2 AND name = ANY (%s::bpchar[])",
        [row["name"] for row in rows],
    )
    return read == (sorted(usages[0] + [name for (name,) in paired]), sorted(usages[1]))


@pytest.mark.campaign
def test_from_nothing_to_a_stopping_criterion(tmp_path: Path) -> None:
    box = Sandbox(tmp_path)
    try:
        done = box.run("sandbox", "loop")
        last = int(re.search(r"The loop ended after iteration (\d+): criterion 2", done.stdout)[1])
        assert last >= 5
        rows = box.query(
            "SELECT accuracy FROM iteration_metrics WHERE run = 0 AND iteration > 0 ORDER BY iteration"
        )
        accuracies = [accuracy for (accuracy,) in rows]
        assert len(accuracies) == last
        assert accuracies[0] + 0.02 < accuracies[-1], "the learner has learned"
        assert min(accuracies[-3:]) > 0.85
        assert box.query("SELECT count(*) FROM incoming_names WHERE run = 0 AND NOT processed") == [
            (0,)
        ]
        assert reads_its_own(box, 0)
        assert "daemonNanny" not in (tmp_path / "sandbox/crontab").read_text()
        assert not processes.daemons(Home(tmp_path / "sandbox"))

        before = box.snapshot()
        again = box.run("sandbox", "loop")
        assert "it had ended before" in again.stdout
        assert box.snapshot() == before

        # Poor mappers, and a learner that fails; repeated by hand, it ends by the number of iterations.
        box.run("sandbox", "fault", "step")
        with box.database() as cursor:
            cursor.execute(
                "UPDATE configuration SET value = '1' WHERE key = 'StoppingFunc_MaxIterations'"
            )
        failed = box.run("sandbox", "loop", "-e", "run_id=1", "--quality", "0.4", exit_code=1)
        assert "MemoryError: Java heap space" in failed.stderr, "the learner says so itself, on S3"
        assert "daemonNanny" in (tmp_path / "sandbox/crontab").read_text()
        box.run(
            "apply", "iterate.yml", "-i", "sandbox", "--yes", "-e", "run_id=1",
            "-e", "learner_retry=true",
        )  # fmt: skip
        assert reads_its_own(box, 1)
        assert "daemonNanny" not in (tmp_path / "sandbox/crontab").read_text()
    finally:
        box.run("sandbox", "down")
