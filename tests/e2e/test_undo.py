"""``runbook undo``: a run's changes are put back, each held to what the run left."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import geographies
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import journal_read
from command_line import Sandbox
from faulty import gate
from killed import kill_at
from test_killed import CUTS

from runbook.sandbox import processes
from runbook.sandbox.state import Home

#: Another area than that of run 0, so that the grid's codes and other objects change.
RUN_1 = ("-e", "run_id=1", "-e", "aoi_index=2", "-e", "initial_f_count=20")
POOL = "planet/f_pool_ghana_2.csv"


def state(sandbox: Sandbox) -> dict[str, Any]:
    """All that a run may change: rows of every table, sequences, the run in place, files, objects.

    Rows without their order on disk; objects without backups and the copies beside them.
    """
    status = sandbox.status()
    tables = [
        name for (name,) in sandbox.query(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
    ]  # fmt: skip
    rows = {
        name: sandbox.query(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t")
        for name in tables
    }
    sequences = sandbox.query(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"
    )
    marked = sandbox.query("SELECT to_regclass('runbook.run_marker') IS NOT NULL") == [(True,)]
    crontab = Path(status["crontab"])
    common = Path(status["home"]) / "labeller/common"
    files = {
        path.name: (path.stat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(common.iterdir())
        if path.is_file()
    }
    return {
        **rows,
        "sequences": sequences,
        "marker": marked
        and sandbox.query(
            "SELECT mode, aoi_name, aoi_index, run_id, applied_at, made_with"
            " FROM runbook.run_marker ORDER BY id DESC LIMIT 1"
        ),
        "files": files,
        "crontab": crontab.read_bytes() if crontab.exists() else b"",
        "objects": {k: v for k, v in sandbox.objects().items() if not k.startswith("backups/")},
    }


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def newest(sandbox: Sandbox) -> str:
    """The id of the last run in the target's journal."""
    return journal_read.runs(str(sandbox.home / "sandbox" / "journal"))[0]


def undo(sandbox: Sandbox, run: str, *options: str, exit_code: int = 0) -> str:
    done = sandbox.run("undo", run, "-i", "sandbox", "--yes", *options, exit_code=exit_code)
    return done.stdout + done.stderr


def put(sandbox: Sandbox, key: str, body: str) -> None:
    sandbox.s3().put_object(Bucket=sandbox.status()["bucket"], Key=key, Body=body.encode())


def worked(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run 0, at which mappers have worked; an object that run 1 will replace."""
    sandbox.apply("-e", "initial_f_count=12")
    monkeypatch.setenv("RUNBOOK_HOME", str(sandbox.home))
    sandbox.run("sandbox", "work", "--names", "5")
    put(sandbox, POOL, "what was there before\n")


def daemons(sandbox: Sandbox) -> list[object]:
    return [*processes.daemons(Home(sandbox.home / "sandbox"))]


@pytest.mark.campaign
def test_undo_brings_the_run_before_back_and_undo_of_it_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked(sandbox, monkeypatch)
    run_0 = state(sandbox)
    sandbox.apply(*RUN_1, "-e", "replaced_run=0")
    run_1, reset = state(sandbox), newest(sandbox)
    changed = differing(run_0, run_1)
    assert {"master_grid", "user_maps", "kml_data", "sequences", "marker", "files", "crontab",
            "objects", "configuration"} - {*changed} <= {"crontab"}  # fmt: skip

    # The check says what undo does, and changes nothing.
    planned = undo(sandbox, reset[:19], "--check")
    assert "messages that were sent" in planned
    assert differing(run_1, state(sandbox)) == []

    done = undo(sandbox, reset)
    assert "Done, as planned" in done
    assert differing(run_0, state(sandbox)) == []
    assert "Nothing to change" in undo(sandbox, reset)

    # An undo is a run, and can be undone.
    undo(sandbox, newest(sandbox))
    assert differing(run_1, state(sandbox)) == []


def changes_since(sandbox: Sandbox, what: str) -> None:
    """Change one thing after the run."""
    status = sandbox.status()
    statements = {
        "row": "UPDATE worker_data SET last_time = now(); INSERT INTO incoming_names (name, run,"
        " iteration, processed, usage, label) SELECT name, 1, 0, true, 'train', true"
        " FROM master_grid WHERE avail = 'T' ORDER BY gid LIMIT 1",
        "cell": "UPDATE master_grid SET avail = 'N' WHERE gid = (SELECT min(g.gid)"
        " FROM master_grid g JOIN kml_data k USING (name) WHERE kml_type = 'F')",
        "setting": "UPDATE configuration SET value = '77' WHERE key = 'Hit_MaxAssignmentsF'",
    }
    if what in statements:
        with sandbox.database() as cursor:
            cursor.execute(statements[what])
    elif what == "file":
        path = Path(status["home"]) / "labeller/common/config.yaml"
        path.write_text(path.read_text() + "# mine\n")
        put(sandbox, POOL, "mine\n")
    else:
        path = Path(status["crontab"])
        path.write_text("1 2 * * * mine\n" + path.read_text())


#: What is changed, what the refusal names, and the part that is forced.
SINCE = {
    "row": (r"table incoming_names has \d+ rows, not \d+ rows", "tables"),
    "cell": ("the availability of 1 cells of master_grid", "grid"),
    "file": (f"{POOL}, .*common/config.yaml", "files"),
    "crontab": ("crontab", "crontab"),
}


@pytest.mark.campaign  # each part alone: tests/integration/test_undo_parts.py
def test_what_was_changed_since_is_named_and_nothing_is_changed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked(sandbox, monkeypatch)
    run_0 = state(sandbox)
    sandbox.apply(*RUN_1, "-e", "replaced_run=0")
    run = newest(sandbox)
    forced: list[str] = []
    for what, (named, part) in SINCE.items():
        changes_since(sandbox, what)
        before = state(sandbox)
        refused = undo(sandbox, run, *forced, exit_code=7)
        assert re.search(named, refused), f"{what}: {refused}"
        assert f"--force-step {part}" in refused
        assert differing(before, state(sandbox)) == []
        forced += ["--force-step", part] if part not in forced else []
    undo(sandbox, run, *forced)
    assert differing(run_0, state(sandbox)) == ["worker_data"], "which the run did not write"


def test_an_unknown_run_is_wrong_input(sandbox: Sandbox) -> None:
    assert "no run of the target's journal" in undo(sandbox, "20260101", exit_code=3)
    assert "has no run to undo" in undo(sandbox, "newest", exit_code=3)


@pytest.mark.campaign
@pytest.mark.parametrize("where", CUTS)
def test_a_run_that_was_killed_is_undone(sandbox: Sandbox, where: str) -> None:
    before = state(sandbox)
    with gate(sandbox.status()["s3_endpoint_url"], CUTS[where][0]) as gated:
        kill_at(sandbox, gated)
    run = newest(sandbox)
    assert "Done, as planned" in undo(sandbox, run)
    # There was no run before this one, which a marker cannot say.
    assert set(differing(before, state(sandbox))) <= {"marker"}
    assert "Nothing to change" in undo(sandbox, run)


#: Where an undo is cut: a request that only the real run makes.
UNDO_CUTS = {
    "in its backup": r"(PUT|POST) /\w+/backups/database/sandbox-before-restore/",
    "in the objects": r"PUT /\w+/planet/f_pool_ghana_2.csv",
    "in the configuration": r"PUT /\w+/config_ghana_2.yaml",
}


@pytest.mark.campaign
@pytest.mark.parametrize("where", UNDO_CUTS)
def test_an_undo_that_was_killed_is_completed_by_the_same_command(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    worked(sandbox, monkeypatch)
    put(sandbox, "config_ghana_2.yaml", "labeller: {}\nlearner: {}\n")
    run_0 = state(sandbox)
    sandbox.apply(*RUN_1, "-e", "replaced_run=0")
    run = newest(sandbox)
    with gate(sandbox.status()["s3_endpoint_url"], UNDO_CUTS[where]) as gated:
        kill_at(sandbox, gated, "undo.yml", "-e", f"undo_run={run}")
    assert newest(sandbox) != run
    assert "Done, as planned" in undo(sandbox, "newest")
    assert differing(run_0, state(sandbox)) == []


@pytest.mark.campaign
def test_an_undo_that_was_killed_between_its_two_transactions(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grid has its codes back, and the tables are not restored: completed, or resumed."""
    worked(sandbox, monkeypatch)
    run_0 = state(sandbox)
    for complete in (["undo", "newest"], ["resume"]):
        sandbox.apply(*RUN_1, "-e", "replaced_run=0")
        run_1, run = state(sandbox), newest(sandbox)
        # The restore reads its manifest after the backup of what it replaces, before its transaction.
        with gate(
            sandbox.status()["s3_endpoint_url"],
            r"GET /\w+/backups/database/sandbox/.*manifest",
            after=r"PUT /\w+/backups/database/sandbox-before-restore/.*manifest",
        ) as gated:
            kill_at(sandbox, gated, "undo.yml", "-e", f"undo_run={run}")
            gated.drop()
            left = state(sandbox)
            assert "master_grid" not in differing(run_0, left)
            assert set(differing(run_1, left)) == {"master_grid", "crontab"}
            sandbox.run(*complete, "-i", "sandbox", "--yes")
        assert differing(run_0, state(sandbox)) == []


@pytest.mark.campaign
def test_runs_without_a_backup_are_undone(sandbox: Sandbox) -> None:
    few = ("-e", "initial_f_count=12")
    sandbox.apply(*few)
    started = state(sandbox)

    def run(playbook: str, *options: str) -> None:
        sandbox.run("apply", playbook, "-i", "sandbox", "--yes", *options)

    # Out of service, and back.
    run("shutdown.yml")
    assert not daemons(sandbox)
    undo(sandbox, "newest")
    assert differing(started, state(sandbox)) == []

    # Another profile, other settings, of which one has no row yet.
    with sandbox.database() as cursor:
        cursor.execute("DELETE FROM configuration WHERE key = 'Hit_MaxAssignmentsF'")
    before = state(sandbox)
    run("start.yml", "-e", "crontab_profile=maintenance", "-e",
        '{"labeller_settings": {"Hit_MaxAssignmentsF": 7, "Hit_MaxAssignmentsN": 8},'
        ' "labeller_secrets": {"instanceF": "0f0f0f0f-0000-4000-8000-00000000000f"}}')  # fmt: skip
    changed, started_run = state(sandbox), newest(sandbox)
    assert {"configuration", "crontab"} <= set(differing(before, changed))
    changes_since(sandbox, "setting")
    assert "Hit_MaxAssignmentsF = 77" in undo(sandbox, started_run, exit_code=7)
    with sandbox.database() as cursor:
        cursor.execute("UPDATE configuration SET value = 7 WHERE key = 'Hit_MaxAssignmentsF'")
    done = undo(sandbox, started_run)
    assert "the secret settings instanceF, which no journal holds" in done
    assert differing(before, state(sandbox)) == ["configuration"]
    undo(sandbox, newest(sandbox))
    assert differing(changed, state(sandbox)) == []


@pytest.mark.campaign
def test_another_geography_is_undone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    worked(sandbox, monkeypatch)
    for key, body in geographies.TOGO.items():
        put(sandbox, key, body)
    before = state(sandbox)
    sandbox.run("apply", "geography.yml", "-i", "sandbox", "--yes")
    togo = state(sandbox)
    assert {"master_grid", "kml_data_static", "qaqcfields"} <= {*differing(before, togo)}
    undo(sandbox, "newest")
    assert differing(before, state(sandbox)) == []
    undo(sandbox, newest(sandbox))
    assert differing(togo, state(sandbox)) == []


@pytest.mark.campaign
def test_a_restore_is_undone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    worked(sandbox, monkeypatch)
    sandbox.run("apply", "backup.yml", "-i", "sandbox", "--yes")
    sandbox.run("sandbox", "work", "--names", "3")
    before = state(sandbox)
    sandbox.run("apply", "restore.yml", "-i", "sandbox", "--yes")
    assert "user_maps" in differing(before, state(sandbox))
    undo(sandbox, "newest")
    assert differing(before, state(sandbox)) == []


@pytest.mark.campaign
def test_an_undo_is_saved_and_applied(sandbox: Sandbox, tmp_path: Path) -> None:
    before = state(sandbox)
    sandbox.apply("-e", "initial_f_count=12")
    plan = tmp_path / "undo.plan"
    undo(sandbox, "newest", "-o", str(plan))
    shown = sandbox.run("show", str(plan)).stdout
    assert "messages that were sent" in shown
    done = sandbox.run("apply", str(plan))
    assert "Done, as planned" in done.stdout
    assert set(differing(before, state(sandbox))) == {"marker"}
