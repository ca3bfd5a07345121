"""Progress of a backup and a restore, as a user sees it while they run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from command_line import Sandbox
from held import DOWNLOAD, ROWS, UPLOAD, fill, halfway, play, progress, until_told

from runbook.validate import schemas


@pytest.fixture
def filled(shared_sandbox: Sandbox) -> Sandbox:
    fill(shared_sandbox)
    return shared_sandbox


def test_a_backup_and_a_restore_tell_how_far_they_are(filled: Sandbox, tmp_path: Path) -> None:
    backup = str(play(tmp_path, "present"))
    lines = until_told(
        filled, UPLOAD, halfway("back up"), backup, "-i", "sandbox", "--yes", "--json"
    )
    copied = list(progress(lines))
    validator = schemas.validator("event")
    for event in copied:
        assert not list(validator.iter_errors(event))
    assert {(event["host"], event["task"], event["table"]) for event in copied} == {
        ("sandbox", "Copy the table", "long_table")
    }
    assert "rows" in copied[-1]["message"]

    with filled.database() as cursor:
        cursor.execute("DELETE FROM long_table")
    restore = str(play(tmp_path, "restored"))
    lines = until_told(
        filled, DOWNLOAD, halfway("restore"), restore, "-i", "sandbox", "--yes", "--json"
    )
    loaded = [event for event in progress(lines) if event["phase"] == "restore"]
    assert {(event["total_rows"], event["exact"]) for event in loaded} == {(ROWS, True)}
    assert filled.query("SELECT count(*) FROM long_table") == [(ROWS,)]

    assert not list((filled.home / "private").iterdir())
    for journal in (filled.home / "runs").glob("*/events.jsonl"):
        assert '"progress"' not in journal.read_text()


def test_an_interrupted_backup_leaves_nothing(filled: Sandbox, tmp_path: Path) -> None:
    backup = str(play(tmp_path, "present"))
    lines = until_told(
        filled, UPLOAD, halfway("back up"), backup, "-i", "sandbox", "--yes", "--json",
        interrupt=True,
    )  # fmt: skip
    assert json.loads(lines[-1])["exit_code"] == 130
    assert not list((filled.home / "private").iterdir())
    assert not running_below(filled.home)


def running_below(home: Path) -> list[str]:
    """Command lines of processes of a run in a sandbox's home, other than its servers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"RUNBOOK_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if "ansible" in line or "runbook.launch" in line]
