"""When the sandbox's cron runs what (engine/runbook/sandbox/cron.py)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from waiting import until

from runbook import processes
from runbook.sandbox import checkout, cron

if TYPE_CHECKING:
    from pathlib import Path

SUNDAY = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)


def due(line: str, now: datetime) -> bool:
    [entry] = cron.parse(line + " command\n")
    return entry.due(now)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("* * * * *", True),
        ("30 3 * * 0", True),
        ("30 3 * * 7", True),
        ("30 3 * * 1", False),
        ("0,5,10,15,20,25,30,35,40,45,50,55 * * * *", True),
        ("*/7 * * * *", False),
        ("*/15 1-4 * * *", True),
        ("20/5 * * * *", True),
        ("31 3 * * *", False),
        ("30 3 1 * 5", True),  # the day of the month or of the week
        ("30 3 2 * 0", True),
        ("30 3 2 * 5", False),
        ("30 3 2 * *", False),
        ("30 3 * 2 *", False),
    ],
)
def test_an_entry_is_due_as_in_cron(fields: str, expected: bool) -> None:
    assert due(fields, SUNDAY) is expected


def test_lines_that_are_no_entries_are_left_out_and_assignments_hold_below() -> None:
    text = (
        "# comment\n\n* * * * *\n61 * * * * no\n* * * * * first\n"
        "A=1\n'B' = \"two words\"\n5-3 * * * * no\n* * * * * second %given%more\\%\nC=3\n"
    )
    first, second = cron.parse(text)
    assert (first.command, first.environment) == ("first", ())
    assert second.environment == (("A", "1"), ("B", "two words"))
    assert cron.command_line(second) == (["/bin/sh", "-c", "second "], "given\nmore%")


def wait_for_text(path: Path, text: str) -> None:
    limit = time.monotonic() + 10
    while not path.exists() or path.read_text() != text:
        assert time.monotonic() < limit, path.read_text() if path.exists() else "no file"
        time.sleep(0.01)


def test_new_entries_run_at_once_and_then_by_schedule(tmp_path: Path) -> None:
    crontab, out = tmp_path / "crontab", tmp_path / "out"
    daemon = cron.Cron(crontab, tmp_path / "log")
    now = SUNDAY
    daemon.step(now)  # no crontab
    crontab.write_text(f"SHELL=/bin/bash\n0 0 * * * echo -n a >>{out}\n")
    daemon.step(now)
    wait_for_text(out, "a")
    daemon.step(now)
    crontab.write_text(crontab.read_text() + f"*/2 * * * * printf b >>{out}\n")
    daemon.step(now)
    wait_for_text(out, "ab")
    daemon.step(now + timedelta(seconds=30))
    daemon.step(now + timedelta(minutes=1))
    daemon.step(now + timedelta(minutes=2))
    daemon.step(now + timedelta(minutes=2, seconds=1))
    wait_for_text(out, "abb")
    crontab.write_text("")
    daemon.step(now + timedelta(minutes=4))
    for process in daemon.running:
        process.wait()
    assert out.read_text() == "abb"
    assert (tmp_path / "log").read_text() == ""


def test_a_nanny_starts_a_daemon_once_also_without_ps(tmp_path: Path) -> None:
    """A Debian without procps has none."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("basename", "cat", "date", "dirname", "env", "nohup", "readlink", "sleep"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "python3").symlink_to(sys.executable)
    common = tmp_path / "labeller" / "common"
    shutil.copytree(checkout.FILES / "common", common)
    (tmp_path / "labeller" / "log").mkdir()
    script = common / "create_hit_daemon.py"
    shutil.copy(checkout.FILES / "daemon.py", script)
    script.chmod(0o755)

    def running() -> list[int]:
        return [pid for pid, arguments in processes.commands() if str(script) in arguments]

    try:
        for _ in range(2):
            nanny = ["/bin/bash", common / "daemonNanny.sh", script]
            subprocess.run(nanny, env={"PATH": str(tools)}, check=True)
            assert len(running()) == 1
    finally:
        script.unlink()  # which ends it
        until(lambda: not running())
