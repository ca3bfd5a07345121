"""``runbook drift``: everything that is changed by hand is named, and an apply ends it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from command_line import Sandbox
from waiting import until

from runbook.load import schemas

PARAMETERS = (
    "-e", json.dumps({"labeller_settings": {"KMLMapHeight": 700}, "start_notifier": True}),
)  # fmt: skip

#: What makes the tables inconsistent.
MISSING_SCENE = (
    "DELETE FROM scenes_data s USING master_grid g WHERE s.cell_id = g.id AND g.name ="
    " (SELECT min(name)::bpchar FROM kml_data WHERE kml_type = 'F')"
)


def drift(sandbox: Sandbox, *arguments: str, exit_code: int = 2) -> dict[str, Any]:
    """The object that ``drift --json`` prints."""
    call = ("drift", "regular.yml", "-i", "sandbox", *PARAMETERS, *arguments)
    found: dict[str, Any] = json.loads(sandbox.run(*call, "--json", exit_code=exit_code).stdout)
    schemas.validator("drift").validate(found)
    return found


def runs_still(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.campaign
def test_what_was_changed_by_hand(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.apply(*PARAMETERS)
    runs = sorted(path.name for path in (sandbox.home / "runs").iterdir())
    found = drift(sandbox, exit_code=0)
    assert (found["drifted"], found["since"]["run_id"]) == (False, runs[-1])
    assert found["hosts"]["sandbox"] == {
        "run": "regular run 0 on ghana, AOI 1", "changes": [], "inconsistencies": [], "refused": "",
    }  # fmt: skip

    status = sandbox.status()
    crontab, home = Path(status["crontab"]), Path(status["home"]) / "labeller"
    lines = crontab.read_text().splitlines(keepends=True)
    crontab.write_text("".join(line for line in lines if "create_hit_daemon" not in line))
    notifier = int((home / "log/worker_notification_daemon.pid").read_text())
    os.kill(notifier, signal.SIGKILL)
    until(lambda: not runs_still(notifier))
    config = home / "common/config.yaml"
    config.write_text(config.read_text().replace("aoiid: 1", "aoiid: 2"))
    s3, bucket = sandbox.s3(), status["bucket"]
    (definition,) = [key for key in sandbox.objects() if "cluster" in key and key.endswith("json")]
    s3.put_object(Bucket=bucket, Key=definition, Body=b"{}")
    with sandbox.database() as cursor:
        cursor.execute("UPDATE configuration SET value = '1' WHERE key = 'KMLMapHeight'")
        cursor.execute(MISSING_SCENE)
    before = sandbox.snapshot()
    report = tmp_path / "drift.md"
    host = drift(sandbox, "--report", str(report))["hosts"]["sandbox"]
    named = {change["task"]: change for change in host["changes"]}
    assert set(named) == {
        "Install the crontab", "Set labeller's settings", "Write and upload the configuration",
        "Define the learner cluster", "Start the worker notification",
    }  # fmt: skip
    assert any("create_hit_daemon" in line for line in named["Install the crontab"]["diff"])
    assert {"-KMLMapHeight = 1", "+KMLMapHeight = 700"} <= set(
        named["Set labeller's settings"]["diff"]
    )
    (inconsistency,) = host["inconsistencies"]
    assert "OS scenes" in inconsistency
    assert "Install the crontab" in report.read_text()
    shown = json.loads(sandbox.run("status", "-i", "sandbox", "--json").stdout)["hosts"]["sandbox"]
    schemas.validator("status").validate({"hosts": {"sandbox": shown}, "failed": {}})
    assert set(shown["drift"]["differences"]) == {*named, inconsistency}
    # It changes nothing, and is no run of the journal.
    assert sandbox.snapshot() == before
    assert sorted(path.name for path in (sandbox.home / "runs").iterdir()) == runs


@pytest.mark.campaign
def test_what_people_read_and_what_nothing_can_be_said_of(sandbox: Sandbox) -> None:
    found = drift(sandbox)
    assert (found["drifted"], found["hosts"]["sandbox"]["run"]) == (True, "no run")
    sandbox.apply(*PARAMETERS)
    (newest, *_) = sorted((path.name for path in (sandbox.home / "runs").iterdir()), reverse=True)
    call = ("drift", "regular.yml", "-i", "sandbox", *PARAMETERS)
    done = sandbox.run(*call, "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    sandbox.query("UPDATE configuration SET value = '1' WHERE key = 'KMLMapHeight' RETURNING 1")
    text = sandbox.run(*call, exit_code=2).stdout
    assert f"drifted since run {newest}, which ended 20" in text
    for said in ("in place [sandbox]: regular run 0", "KMLMapHeight = 700"):
        assert said in text, said
    with sandbox.database() as cursor:
        cursor.execute(MISSING_SCENE)
    sandbox.apply(*PARAMETERS)
    host = drift(sandbox)["hosts"]["sandbox"]
    assert (host["changes"], len(host["inconsistencies"])) == ([], 1), "which an apply leaves alone"

    # Tables that are not those of the run marker: an apply would refuse them.
    sandbox.query("UPDATE runbook.run_marker SET run_id = 5 RETURNING 1")
    text = sandbox.run(*call, exit_code=2).stdout
    assert "an apply would be refused" in text

    # Nothing can be said: other exit codes, and nothing on stdout.
    sandbox.query("UPDATE runbook.run_marker SET run_id = 0 RETURNING 1")
    held = "UPDATE runbook.lease SET holder = %s, seen = clock_timestamp() RETURNING 1"
    sandbox.query(held, "olli@laptop")
    for code, arguments, said in (
        (6, (), "olli@laptop is changing the target"),
        (4, ("-e", "db_port=1"), "Connection refused"),
        (3, ("-e", "run_id=x"), "run_id"),
    ):
        done = sandbox.run(*call, *arguments, exit_code=code)
        assert (done.stdout, said in done.stderr) == ("", True), done.stderr
    # A person's lock is no reason not to look.
    sandbox.query("UPDATE runbook.lease SET holder = NULL RETURNING 1")
    sandbox.run("lock", "-i", "sandbox", "--reason", "looking")
    drift(sandbox)
