"""A run that was killed is resumed with what it was given, or refused, naming what has moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import PROJECT, Sandbox
from faulty import gate
from killed import begun, history, kill, kill_at, wait_for_end

PLAYBOOK = f"- name: Regular production\n  ansible.builtin.import_playbook: {PROJECT}/playbooks/regular.yml\n"
IN_THE_BACKUP = r"(PUT|POST) /\w+/backups/"


@pytest.mark.campaign
def test_a_killed_run_is_resumed(sandbox: Sandbox, tmp_path: Path) -> None:
    secrets = json.loads((sandbox.home / "sandbox/state.json").read_text())["secrets"]
    play = tmp_path / "play.yml"
    play.write_text(PLAYBOOK)
    crontab = Path(sandbox.status()["crontab"])
    old = crontab.read_text()
    secret = ("-e", f"db_pwd={secrets['db_pwd']}")
    given = ("-e", "initial_f_count=12", *secret)

    def refused(*arguments: str, exit_code: int) -> str:
        done = sandbox.run("resume", "-i", "sandbox", *arguments, exit_code=exit_code)
        return done.stdout + done.stderr

    shutil.rmtree(sandbox.home / "runs", ignore_errors=True)  # of other tests
    now = sandbox.snapshot()
    assert "is unfinished" in refused("--yes", exit_code=3)
    assert sandbox.snapshot() == now
    with gate(sandbox.status()["s3_endpoint_url"], IN_THE_BACKUP) as gated:
        kill_at(sandbox, gated, str(play), *given)
        gated.drop()
        run = history(sandbox)[0]["run"]
        down, now = crontab.read_text(), sandbox.snapshot()

        assert f"{run} ({play} on sandbox) was given db_pwd on the command line" in refused(
            exit_code=3
        )
        assert "-e gives aoi_index" in refused(*secret, "-e", "aoi_index=1", exit_code=3)
        play.write_text(f"{PLAYBOOK}# more\n")
        assert f"- {play} was changed" in refused(*secret, exit_code=3)
        play.write_text(PLAYBOOK)
        crontab.write_text(old)
        assert "- step 'Remove the crontab' is done on sandbox and would" in refused(
            *secret, "--yes", exit_code=5
        )
        crontab.write_text(down)
        assert sandbox.snapshot() == now
        done = sandbox.run("resume", run[:15], "-i", "sandbox", "--yes", *secret)
        assert "as it left it: Remove the crontab." in done.stderr
        assert [each["outcome"] for each in history(sandbox)] == ["done", "unfinished"]
        assert sandbox.query("SELECT count(*) FROM kml_data WHERE kml_type = 'F'") == [(12,)]
        now = sandbox.snapshot()
        assert "is unfinished" in refused(exit_code=3)
        assert sandbox.snapshot() == now
        again = sandbox.run("apply", str(play), "-i", "sandbox", "--yes", "-e",
                            f"aws_endpoint_url={gated.url}", *given)  # fmt: skip
        assert "changed=0" in again.stdout
    kept = [path for path in (sandbox.home / "runs").rglob("*") if path.is_file()]
    assert {"input.json", "events.jsonl"} <= {path.name for path in kept}
    for path in kept:
        assert [each for each in secrets.values() if each in path.read_text()] == []


@pytest.mark.campaign
def test_a_plan_file_whose_run_was_killed_is_resumed(sandbox: Sandbox, tmp_path: Path) -> None:
    """It cannot be applied again. The newest run is resumed; then nothing is left of the first."""
    plan = tmp_path / "plan.json"
    sandbox.run("plan", "regular.yml", "-i", "sandbox", "-o", str(plan))
    with begun(sandbox, (str(plan),), target=()) as run:
        run.wait(14)
        family = kill("all", run.process.pid)
    wait_for_end(family)
    assert "applied already" in sandbox.run("apply", str(plan), exit_code=5).stdout
    check = sandbox.run("resume", "-i", "sandbox", "--check", "--detailed-exitcode", exit_code=2)
    assert f"Resuming {run.run_id} (regular.yml on sandbox)" in check.stderr
    assert (
        "there is no terminal to ask on"
        in sandbox.run("resume", "-i", "sandbox", exit_code=7).stderr
    )
    sandbox.run("resume", "-i", "sandbox", "--yes")
    assert "Nothing is left to do" in sandbox.run("resume", run.run_id, "-i", "sandbox").stderr
    assert "changed=0" in sandbox.apply().stdout
