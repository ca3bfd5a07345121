"""Progress of a backup and a restore, as a user sees it while they run."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import threading
from pathlib import Path

import pytest
from command_line import RUNBOOK, Sandbox
from faulty import gate
from held import DOWNLOAD, PATIENCE, ROWS, UPLOAD, fill, halfway, play, progress, until_told

from runbook.load import schemas


@pytest.fixture
def filled(shared_sandbox: Sandbox) -> Sandbox:
    fill(shared_sandbox)
    return shared_sandbox


@pytest.mark.campaign
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


@pytest.mark.campaign
def test_an_interrupted_backup_leaves_nothing(filled: Sandbox, tmp_path: Path) -> None:
    backup = str(play(tmp_path, "present"))
    lines = until_told(
        filled, UPLOAD, halfway("back up"), backup, "-i", "sandbox", "--yes", "--json",
        interrupt=True,
    )  # fmt: skip
    assert json.loads(lines[-1])["exit_code"] == 130
    assert not list((filled.home / "private").iterdir())
    assert not running_below(filled.home)


@pytest.mark.campaign
def test_a_deep_verification_tells_how_far_it_is(filled: Sandbox, tmp_path: Path) -> None:
    prefix = "backups/database/sandbox"
    filled.run("apply", str(play(tmp_path, "present", prefix)), "-i", "sandbox", "--yes")
    with gate(
        filled.status()["s3_endpoint_url"], rf"GET /\w+/{prefix}/.*/long_table/0002"
    ) as gated:
        terminal, inner = pty.openpty()
        verify = subprocess.Popen(
            [RUNBOOK, "backups", "-i", "sandbox", "-e", f"aws_endpoint_url={gated.url}",
             "verify", "--deep"],
            env={**filled.environment, "TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=inner, text=True,
        )  # fmt: skip
        os.close(inner)
        ending = threading.Timer(PATIENCE, verify.terminate)
        ending.start()
        shown = ""
        with contextlib.suppress(OSError):  # a terminal reports its last writer's exit so
            while part := os.read(terminal, 4096).decode(errors="replace"):
                shown += part
                if re.search(r"long_table.*verify: [\d,]+ of 30,000 rows", shown):
                    assert gated.reached.is_set()
                    gated.open()
        os.close(terminal)
        answer, _ = verify.communicate()
        ending.cancel()
    assert verify.returncode == 0, shown
    assert "Read the backups" in shown
    assert gated.reached.is_set()
    assert answer.splitlines()[2].endswith("yes")


def running_below(home: Path) -> list[str]:
    """Command lines of processes of a run in a sandbox's home, other than its servers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"RUNBOOK_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if "ansible" in line or "runbook.execute.child.launch" in line]
