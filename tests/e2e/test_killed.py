"""A run that is killed at any point: nothing lost, and the next apply finishes the job."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from command_line import Sandbox
from faulty import gate
from killed import history, kill_at

pytestmark = pytest.mark.campaign

#: Where the run is cut: a request that only the real run makes, whether the reset is then done, and
#: the last step that the target's journal has, with the outcome of the run.
CUTS = {
    "before the transaction, in the backup": (
        r"(PUT|POST) /\w+/backups/", False, "s3_table_backup", "unfinished",
    ),
    "inside the transaction": (
        r"POST /\w+/planet/f_pool_ghana_1.csv\?uploads", False, "s3_table_backup", "stopped",
    ),
    "after the commit, before its objects": (
        r"POST /\w+/planet/.*\?uploadId=", True, "pg_transaction", "unfinished",
    ),
    "after the transaction, in the configuration": (
        r"PUT /\w+/config_ghana_1.yaml", True, "labeller_config", "unfinished",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", CUTS)
def test_killed_run_is_finished_by_the_next(sandbox: Sandbox, where: str) -> None:
    pattern, committed, module, outcome = CUTS[where]
    before = sandbox.snapshot()["database"]
    with gate(sandbox.status()["s3_endpoint_url"], pattern) as gated:
        kill_at(sandbox, gated)
    assert bool(marker(sandbox)) == committed
    (killed,) = history(sandbox)
    assert (killed["steps"][-1]["module"], killed["outcome"]) == (module, outcome)
    if not committed:
        assert sandbox.snapshot()["database"] == before
    sandbox.apply()
    assert [run["outcome"] for run in history(sandbox)] == ["done", outcome]
    assert marker(sandbox) == [("regular", 0, None)]
    pool = csv.DictReader(io.StringIO(sandbox.text("planet/f_pool_ghana_1.csv")))
    drawable = {name for (name,) in sandbox.query("SELECT name FROM master_grid WHERE avail = 'F'")}
    assert {row["name"] for row in pool} <= drawable
    assert sandbox.query("SELECT count(*) FROM incoming_names WHERE NOT processed") == [(100,)]
    assert sandbox.query("SELECT count(*) FROM kml_data WHERE kml_type = 'F'") == [(100,)]
    assert "daemonNanny.sh" in Path(sandbox.status()["crontab"]).read_text()
    assert "changed=0" in sandbox.apply().stdout
    assert not list((sandbox.home / "private").glob("*"))


def marker(sandbox: Sandbox) -> list[tuple[object, ...]]:
    if sandbox.query("SELECT to_regclass('runbook.run_marker')::text") == [(None,)]:
        return []
    return sandbox.query("SELECT mode, run_id, pending_uploads FROM runbook.run_marker ORDER BY id")
