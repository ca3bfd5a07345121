"""The journal: the backups that runs point to which did not end well."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runbook.errors import ExitCode, InvalidInputError
from runbook.events import journal
from runbook.events.model import HostCounts, Result, RunStarted, Status, TaskResult

Run = Callable[..., None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))

    def write(
        run_id: str, *backups: str, exit_code: ExitCode | None = None,
        playbook: str = "reset.yml", check: bool = False, changed: bool = True,
        hosts: tuple[str, ...] = ("h",),
    ) -> None:  # fmt: skip
        """A run as apply keeps it: a check, then it; without an exit code it was killed."""
        kept = journal.Journal(run_id)
        kept(RunStarted(run_id, playbook, "labeller3", check=True))
        kept(TaskResult("h", "Back up", "m", Status.OK, backup_id="planned"))
        if not check:
            kept(RunStarted(run_id, playbook, "labeller3", check=False))
            for backup_id in backups:
                kept(TaskResult("h", "Back up", "m", Status.CHANGED, backup_id=backup_id))
            kept(TaskResult("h", "Clear", "m", Status.FAILED))
        if exit_code is not None:
            about = (exit_code, run_id, playbook, "labeller3", check, changed)
            kept(Result(*about, hosts={host: HostCounts() for host in hosts}))

    return write


def test_runs_that_ended_well_point_to_no_backup(run: Run) -> None:
    assert journal.needed_backups() == {}
    run("1", "A", exit_code=ExitCode.OK)
    run("2", check=True, exit_code=ExitCode.FAILED)
    assert journal.needed_backups() == {}


def test_killed_and_failed_runs_point_to_theirs_until_the_playbook_ends_well(run: Run) -> None:
    run("1", "A")
    run("2", "B", "C", exit_code=ExitCode.FAILED)
    run("3", "D", exit_code=ExitCode.FAILED, playbook="backup.yml")
    run("4", check=True, exit_code=ExitCode.OK)
    assert journal.needed_backups() == {"A": "1", "B": "2", "C": "2", "D": "3"}
    run("5", "E", exit_code=ExitCode.OK)
    assert journal.needed_backups() == {"D": "3"}


def test_a_run_on_some_hosts_says_nothing_of_the_others(run: Run) -> None:
    run("20260101T000000-000000", "A", exit_code=ExitCode.FAILED)
    run("20260101T000001-000001", exit_code=ExitCode.OK, hosts=("other",))
    assert journal.needed_backups() == {"A": "20260101T000000-000000"}
    assert journal.last_as_declared("reset", "labeller3", ["h", "other"]) is None
    assert journal.last_as_declared("reset", "labeller3", ["other"]) is not None


def test_the_last_run_that_left_a_target_as_its_playbook_says(run: Run) -> None:
    def last(playbook: str = "reset", target: str = "labeller3") -> str | None:
        found = journal.last_as_declared(playbook, target)
        return found and found["run_id"].rpartition("-")[2]

    assert last() is None
    for number, end in enumerate((
        {"exit_code": ExitCode.OK},
        {"exit_code": ExitCode.OK, "check": True, "changed": False},
        {"exit_code": ExitCode.OK, "check": True},
        {"exit_code": ExitCode.FAILED},
        {"exit_code": ExitCode.OK, "playbook": "backup.yml"},
        {},
    )):  # fmt: skip
        run(f"20260101T00000{number}-00000{number}", **end)
    assert (last(), last("playbooks/reset.yml"), last("backup")) == ("000001", "000001", "000004")
    assert last(target="labeller4") is None


def test_a_full_disk_names_the_folder_of_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = journal.Journal("1")
    monkeypatch.setattr(os, "fdatasync", full)
    monkeypatch.setattr(os, "fsync", full)
    for event in (TaskResult("h", "Clear", "m", Status.OK), Result(ExitCode.OK, "1")):
        with pytest.raises(OSError, match="No space") as caught:
            kept(event)
        assert caught.value.filename == str(tmp_path / "runs" / "1")


def test_a_run_killed_while_it_wrote(run: Run, tmp_path: Path) -> None:
    run("1", "A")
    events = tmp_path / "runs" / "1" / "events.jsonl"
    events.write_bytes(events.read_bytes() + b'{"event": "task_res')
    (tmp_path / "runs" / "2").mkdir()
    assert journal.needed_backups() == {"A": "1"}


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "runs").iterdir()}


def test_old_runs_are_removed_except_those_whose_backups_are_needed(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = datetime.now(UTC)

    def old(days: float) -> str:
        return f"{now - timedelta(days=days):%Y%m%dT%H%M%S}-{int(days * 100):06x}"

    run(old(9), "A", exit_code=ExitCode.FAILED)  # needed until old(8)
    run(old(8), "B", exit_code=ExitCode.OK)
    run(old(7), "C", exit_code=ExitCode.FAILED)
    run(old(6), "D", playbook="backup.yml")  # killed
    run(old(5), check=True, exit_code=ExitCode.OK)
    (tmp_path / "runs" / old(4.5)).mkdir()  # killed before it could write
    still = journal.Journal(old(4))
    run(old(3), "E", exit_code=ExitCode.OK, playbook="geography.yml")
    run(old(1.5), "F", exit_code=ExitCode.OK, playbook="geography.yml")
    run(old(0.5), "G", exit_code=ExitCode.OK, playbook="geography.yml")
    (tmp_path / "runs" / "mine").mkdir()
    everything, needed = names(tmp_path), journal.needed_backups()
    assert journal.prune() == []
    monkeypatch.setenv("RUNBOOK_KEEP_DAYS", "2")
    assert journal.prune() == []  # they are fewer than the runs to keep
    monkeypatch.setenv("RUNBOOK_KEEP_RUNS", "1")
    gone = [old(days) for days in (9, 8, 5, 4.5, 3)]
    assert journal.prune() == gone
    assert names(tmp_path) == everything - set(gone)
    assert journal.needed_backups() == needed == {"C": old(7), "D": old(6)}
    ended = Result(ExitCode.OK, old(4), "reset.yml", "labeller3", hosts={"h": HostCounts()})
    still(ended)
    assert journal.prune() == [old(7), old(4)]  # C is needed no longer, and old(4) has ended
    monkeypatch.setenv("RUNBOOK_KEEP_RUNS", "9")
    monkeypatch.setenv("RUNBOOK_KEEP_DAYS", "1")
    assert journal.prune() == []


def test_of_quiet_calls_that_find_nothing_to_do_only_the_last_is_kept(
    run: Run, tmp_path: Path
) -> None:
    """As cron makes 288 a day; what they found counts all the same."""

    def call(number: int, *, target: str = "labeller3", changed: bool = False) -> str:
        run_id = f"20260101T0000{number:02}-000000"
        kept = journal.Journal(run_id, quiet=True)
        kept(RunStarted(run_id, "iterate.yml", target, check=True))
        hosts = {"h": HostCounts()}
        kept(
            Result(
                ExitCode.OK, run_id, "iterate.yml", target, check=True, changed=changed, hosts=hosts
            )
        )
        return run_id

    call(1)
    stays = [call(2), call(3, changed=True), call(4, target="other")]
    call(5)
    call(6)
    stays.append(call(7))
    assert names(tmp_path) == {*stays}
    assert journal.last_as_declared("iterate", "labeller3", ["h"])["run_id"] == stays[-1]  # type: ignore[index]
    run("20260101T000009-000000", check=True, changed=False, exit_code=ExitCode.OK)
    run("20260101T000010-000000", check=True, changed=False, exit_code=ExitCode.OK)
    assert len(names(tmp_path)) == len(stays) + 2


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_a_wrong_number_of_runs_to_keep_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_KEEP_RUNS", value)
    with pytest.raises(InvalidInputError, match=f"RUNBOOK_KEEP_RUNS is '{value}'"):
        journal.prune()


def test_the_names_of_a_runs_files_are_synced(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)),
    )
    run("1", exit_code=ExitCode.OK)
    folder = str(journal.path("1"))
    assert synced == [folder, str(journal.path("1").parent), f"{folder}/result.json.new", folder]
