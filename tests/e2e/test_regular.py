"""Regular production on the sandbox, as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import PROJECT, Sandbox, events, require_equal_ways
from waiting import until

from runbook.load import schemas

#: What a check and the apply after it must agree on: every plan item and every diff.
Steps = dict[str, tuple[Any, Any]]


def steps(run: Iterable[Mapping[str, Any]]) -> Steps:
    """Plan and diff of each task that has them, without what only a clock decides."""
    return {
        event["task"]: (event.get("plan"), event.get("diff"))
        for event in run
        if event["event"] == "task_result" and event["status"] in ("ok", "changed")
    }


def test_regular_production_from_its_check_to_the_run_after_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    before, plan = sandbox.snapshot(), tmp_path / "next.plan"
    check = sandbox.apply("--check", "--json")
    assert sandbox.snapshot() == before
    # Without a report nothing looks where the sites would lie.
    assert not [event for event in events(check) if event.get("map")]
    reports = [tmp_path / "report.html", tmp_path / "report.md"]
    first = sandbox.apply("-vvv", "--diff", *(f"--report={file}" for file in reports))
    assert "failed=0" in first.stdout
    assert "Play: Set up a run in mode regular\n" in first.stdout
    assert steps(events(check)) == steps(journal(sandbox))
    written = [file.read_text() for file in reports]
    assert all("hit_data" in text and "f_pool" in text for text in written)
    assert "Where the sites lie" in written[0]
    the_same_reports_can_be_had_afterwards(sandbox, tmp_path, written)
    shown = a_new_run_is_planned(sandbox, plan)
    no_secret_is_shown_or_kept(sandbox, first.stdout + first.stderr + "".join(written))
    applied = sandbox.snapshot()
    assert applied != before
    the_pool_holds_the_aoi_and_nothing_else(sandbox)
    a_second_apply_changes_nothing(sandbox)
    assert sandbox.snapshot() == applied
    the_targets_journal_has_the_first_apply_alone(sandbox)
    a_new_run_resets_and_the_old_one_is_backed_up(sandbox, plan, shown)


def the_same_reports_can_be_had_afterwards(
    sandbox: Sandbox, folder: Path, written: list[str]
) -> None:
    for name, text in zip(("again.html", "again.md"), written, strict=True):
        sandbox.run("report", "newest", "-o", str(folder / name))
        assert (folder / name).read_text() == text
    sandbox.run("report", "newest", "-i", "sandbox", "-o", str(folder / "asked.html"))
    assert (folder / "asked.html").read_text() == written[0]
    runs = sandbox.home / "runs"
    runs.rename(sandbox.home / "kept")  # as on another machine
    sandbox.run("report", "newest", "-i", "sandbox", "-o", str(folder / "other.md"))
    assert "Done: 7 steps changed something." in (folder / "other.md").read_text()
    (sandbox.home / "kept").rename(runs)


def a_new_run_is_planned(sandbox: Sandbox, plan: Path) -> str:
    """The output of the plan of run 1, made beside the finished run 0; its report."""
    options = ("-e", "run_id=1", "-e", "replaced_run=0")
    done = sandbox.run("plan", "regular.yml", "-i", "sandbox", *options, "-o", str(plan))
    page = plan.with_suffix(".html")
    sandbox.run("report", str(plan), "-o", str(page))
    assert "Where the sites would lie" in page.read_text()
    return done.stdout


def journal(sandbox: Sandbox) -> list[Mapping[str, Any]]:
    """The events of the newest run, without those of the check run before it."""
    newest = max((sandbox.home / "runs").glob("*/events.jsonl"))
    return events(newest.read_text())


def a_second_apply_changes_nothing(sandbox: Sandbox) -> None:
    until(lambda: len(running_daemons(sandbox)) >= 3, 30)  # cron's first calls are starting them
    daemons = running_daemons(sandbox)
    assert "changed=0" in sandbox.apply().stdout
    assert running_daemons(sandbox) == daemons


def the_targets_journal_has_the_first_apply_alone(sandbox: Sandbox) -> None:
    folder = sandbox.home / "sandbox" / "journal"
    filters = ("--playbook", "regular", "--since", "2020-01-01", "--operator", "@", "--last", "9")
    told = json.loads(sandbox.run("history", "-i", "sandbox", "--json", *filters).stdout)
    schemas.validator("history").validate(told)
    (run,) = told["hosts"]["sandbox"]
    assert (sandbox.home / "runs" / run["run"]).is_dir()
    assert (run["outcome"], run["playbook"]) == ("done", "regular.yml")
    assert run["operator"].endswith(f"@{os.uname().nodename}")
    assert [step["module"] for step in run["steps"]] == [
        "crontab_profile", "daemons", "s3_table_backup", "pg_transaction", "labeller_config",
        "emr_learner", "crontab_profile",
    ]  # fmt: skip
    assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    whole = json.loads(sandbox.run("report", run["run"][:12], "-i", "sandbox", "--json").stdout)
    schemas.validator("history").validate(whole)
    report = sandbox.run("report", "newest", "-i", "sandbox").stdout
    assert "Reset the database for the run (pg_transaction on sandbox" in report

    # Secrets: in the image of config.yaml and its copy alone.
    secrets = secrets_of(sandbox)
    kinds = set()
    for line in next(folder.iterdir()).read_text().splitlines():
        if any(secret in line for secret in secrets):
            kinds.add((json.loads(line)["image"] or {}).get("kind"))
    assert kinds <= {"configuration"}
    assert not [secret for secret in secrets if secret in report + json.dumps([whole, told])]


def running_daemons(sandbox: Sandbox) -> set[int]:
    """The processes of the sandbox's daemons; not the nannies that cron starts beside them."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_text().split("\0")
        except OSError:
            continue
        scripts = [part for part in command if part.startswith(f"{sandbox.home}/")]
        if scripts and scripts[0].endswith("_daemon.py"):
            found.add(int(entry.parent.name))
    return found


def a_new_run_resets_and_the_old_one_is_backed_up(sandbox: Sandbox, plan: Path, shown: str) -> None:
    before = sandbox.snapshot()
    refused = sandbox.apply("-e", "run_id=1", exit_code=7)
    assert "100 names are unprocessed. Give replaced_run=0" in refused.stdout
    ignored = sandbox.apply("-e", "initial_f_count=1000000", "--check")
    assert "initial_f_count is 1000000, the run was made with 100" in ignored.stdout
    assert sandbox.snapshot() == before
    done = sandbox.run("apply", str(plan))
    check = shown.partition("\n\n")[0].splitlines()
    assert check[0] == "Check regular.yml on sandbox"
    assert len(check) <= 50
    (replacing,) = (n for n, line in enumerate(check) if line.startswith("Another run: "))
    assert "regular run 1 on ghana, AOI 1 replaces regular run 0" in check[replacing]
    losses = check[replacing + 1 :]
    assert losses[0] == "Deleted, replaced or stopped:"
    assert "rows deleted: scenes_data " in losses[1]
    assert len(losses) <= 20
    assert "db_host=127.0.0.1" in "\n".join(check)
    assert "{{" not in shown + done.stdout
    assert sandbox.query("SELECT DISTINCT run FROM incoming_names WHERE NOT processed") == [(1,)]
    assert sandbox.query("SELECT mode, run_id FROM runbook.run_marker ORDER BY applied_at") == [
        ("regular", 0),
        ("regular", 1),
    ]
    manifests = [key for key in sandbox.objects() if key.endswith("/manifest.json")]
    assert len(manifests) == 2


def the_pool_holds_the_aoi_and_nothing_else(sandbox: Sandbox) -> None:
    status = sandbox.status()
    names = {
        row["name"]
        for row in csv.DictReader(io.StringIO(sandbox.text("planet/f_pool_ghana_1.csv")))
    }
    static = {
        row["name"]
        for key in sandbox.objects()
        if key.startswith("planet/incoming_names_static")
        for row in csv.DictReader(io.StringIO(sandbox.text(key)))
    }
    aois = json.loads(sandbox.text("grid/image_target_aois.geojson"))
    ring = aois["features"][0]["geometry"]["coordinates"][0]
    west, east = min(x for x, _ in ring), max(x for x, _ in ring)
    south, north = min(y for _, y in ring), max(y for _, y in ring)
    inside_query = "x BETWEEN %s AND %s AND y BETWEEN %s AND %s"
    paired = "(SELECT count(DISTINCT season) FROM scenes_data s WHERE s.cell_id = g.id) = 2"
    inside = {
        name
        for (name,) in sandbox.query(
            f"SELECT name FROM master_grid g WHERE {inside_query} AND {paired} "
            "AND name NOT IN (SELECT name FROM kml_data_static)",
            west,
            east,
            south,
            north,
        )
    }
    outside = {
        name
        for (name,) in sandbox.query(
            f"SELECT name FROM master_grid g WHERE NOT ({inside_query}) AND {paired}",
            west,
            east,
            south,
            north,
        )
    }
    assert status["bucket"]
    assert static & outside, "the sandbox has static names outside the AOI"
    assert static & inside, "and inside it, which the learner must find in its pool too"
    assert names == inside | (static & outside)


def no_secret_is_shown_or_kept(sandbox: Sandbox, printed: str) -> None:
    secrets = secrets_of(sandbox)
    for secret in secrets:
        assert secret not in printed
    kept = [path for path in (sandbox.home / "runs").rglob("*") if path.is_file()]
    for path in kept:
        content = path.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in content], path


def secrets_of(sandbox: Sandbox) -> set[str]:
    state = json.loads((sandbox.home / "sandbox" / "state.json").read_text())
    secrets = {value for value in _leaves(state.get("secrets", {})) if len(value) >= 8}
    assert len(secrets) >= 5
    return secrets


def _leaves(value: object) -> list[str]:
    if isinstance(value, dict):
        return [leaf for child in value.values() for leaf in _leaves(child)]
    return [str(value)]


@pytest.mark.campaign
def test_stock_ansible_playbook_does_the_same(sandbox: Sandbox, tmp_path: Path) -> None:
    from runbook import collection

    environment = {
        **sandbox.environment,
        "ANSIBLE_COLLECTIONS_PATH": str(collection.link(tmp_path)),
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/regular.yml", "-i", "inventories/sandbox",
    ]  # fmt: skip
    first = subprocess.run(command, env=environment, cwd=PROJECT, text=True, capture_output=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert " changed=0 " not in first.stdout
    second = subprocess.run(command, env=environment, cwd=PROJECT, text=True, capture_output=True)
    assert " changed=0 " in second.stdout
    assert "changed=0" in sandbox.apply().stdout
    # What is refused without a check before it is refused before the first change.
    with sandbox.database() as cursor:
        cursor.execute("INSERT INTO iteration_metrics (run, iteration, aoi) VALUES (5, 1, 1)")
    before = sandbox.snapshot()
    used = [*command, "-e", "run_id=5", "-e", "replaced_run=0"]
    refused = subprocess.run(used, env=environment, cwd=PROJECT, text=True, capture_output=True)
    assert refused.returncode != 0
    assert "run_id 5 was used before" in refused.stdout + refused.stderr
    assert sandbox.snapshot() == before


#: Arguments, the exit code and what the messages say; first what is refused before a connection.
BAD_INPUT = (
    (["-e", "aoi_idnex=2", "-e", "run_id=one", "--start-at-task", "Nope"], 3,
     ("did you mean aoi_index", "run_id", "no task of regular.yml has this name")),
    (["--start-at-task", "Set labeller's settings"], 3, ("Safe to start at: Read the run",)),
    (["-e", "aoi_index=99"], 3, ("99",)),
    (["-e", "db_port=1"], 4, ("PostgreSQL",)),
)  # fmt: skip
MORE_BAD_INPUT = (
    (["-e", "bucket=no-such-bucket-here"], 3, ("no-such-bucket-here",)),
    (["-e", "db_pwd=wrong"], 3, ("db_pwd",)),
    (["-e", "ec2_instance=nobody"], 3, ("nobody",)),
    (["-e", "aoi_s3_object=none.geojson"], 3, ("none.geojson",)),
    (["-e", "incoming_names_static_path=none.csv"], 3, ("none.csv",)),
)


@pytest.mark.parametrize(
    "cases", [BAD_INPUT, pytest.param(MORE_BAD_INPUT, marks=pytest.mark.campaign)], ids=["", "more"]
)
def test_bad_input_is_a_clear_error_and_changes_nothing(
    sandbox: Sandbox, cases: tuple[tuple[list[str], int, tuple[str, ...]], ...]
) -> None:
    before = sandbox.snapshot()
    for arguments, exit_code, said in cases:
        done = sandbox.apply(*arguments, exit_code=exit_code)
        for each in said:
            assert each in done.stdout + done.stderr, arguments
        assert "Traceback" not in done.stdout + done.stderr, arguments
    assert sandbox.snapshot() == before


@pytest.mark.campaign
def test_the_fast_way_and_ansibles_own_give_the_same(sandbox: Sandbox) -> None:
    require_equal_ways(sandbox, "sandbox")
