"""The target's journal: what is written, by whom, and what is left of it after a kill at any byte."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import files, journal, journal_read
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
    Refused,
    Stale,
)
from ansible_collections.labeller.runbook.plugins.module_utils.module import (
    Module,
    Plan,
    composed,
)
from ansible_collections.labeller.runbook.plugins.module_utils.undo import record

RUN = "20260114T093012-3f9a1c"
CHANGE = Change("the shelf", "write", "vase\n", "book\n", {"rows_changed": 1})
SECRET = "hunter2-of-the-target"


def params(folder: Path, run: str = RUN, **more: Any) -> dict[str, Any]:
    about = {
        "run": run, "operator": "olli@laptop", "playbook": "regular.yml", "task": "Fill the shelf",
        "host": "labeller3", "module": "shelf", "folder": str(folder / "journal"),
    }  # fmt: skip
    return {"journal": {**about, **more}}


def file(folder: Path, run: str = RUN) -> Path:
    return folder / "journal" / f"{run}.jsonl"


def make(folder: Path, run: str = RUN, **more: Any) -> None:
    """One step that is done."""
    with journal.begun(params(folder, run, **more), [CHANGE], {"kind": "shelf", "before": SECRET}):
        pass


def rows(folder: Path, **filters: Any) -> list[dict[str, Any]]:
    return journal_read.history(str(folder / "journal"), **filters)


def test_a_step_is_written_before_and_after_its_change(tmp_path: Path) -> None:
    with journal.begun(params(tmp_path), [CHANGE], {"before": "vase\n"}, transaction=7) as entry:
        (row,) = rows(tmp_path)
        assert row["outcome"] == "unfinished"
        entry.facts["backup_id"] = "b1"
    told = journal_read.report(str(tmp_path / "journal"), "20260114")
    (step,) = told["steps"]
    assert told["outcome"] == "done"
    assert (told["operator"], told["playbook"], told["hosts"]) == (
        "olli@laptop", "regular.yml", ["labeller3"],
    )  # fmt: skip
    assert (step["task"], step["module"], step["transaction"], step["backup_id"]) == (
        "Fill the shelf", "shelf", 7, "b1",
    )  # fmt: skip
    assert step["resources"] == [
        {"resource": "the shelf", "action": "write", "counts": {"rows_changed": 1}}
    ]
    assert [(each["before"], each["after"]) for each in step["changes"]] == [("vase\n", "book\n")]
    assert datetime.fromisoformat(step["at"]).tzinfo is not None
    ((image,)) = [each["image"] for each in journal_read.images(str(tmp_path / "journal"), RUN)]
    assert image == {"before": "vase\n"}


def test_what_comes_and_goes_is_said_to(tmp_path: Path) -> None:
    daemons = Change("daemons", "stop", "3 processes\n", "", volatile=True)
    with journal.begun(params(tmp_path), [CHANGE, daemons]):
        pass
    shelf, found = rows(tmp_path)[0]["steps"][0]["resources"]
    assert (shelf.get("volatile"), found.get("volatile")) == (None, True)


def test_an_error_is_the_outcome(tmp_path: Path) -> None:
    with pytest.raises(Stale), journal.begun(params(tmp_path), [CHANGE]):
        raise Stale("another session was faster")
    (row,) = rows(tmp_path)
    assert row["outcome"] == "failed"
    assert (row["steps"][0]["kind"], row["steps"][0]["message"]) == (
        "stale",
        "another session was faster",
    )


def test_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    with journal.begun(params(tmp_path), [Change("the shelf", "write", "a\n", "a\n")]):
        pass
    with journal.begun({}, [CHANGE]):
        pass
    journal.ended(params(tmp_path))
    assert not (tmp_path / "journal").exists()


def test_a_run_that_has_not_given_its_lease_back_stopped_in_the_middle(tmp_path: Path) -> None:
    leased = {**params(tmp_path), "lease": 3}
    with journal.begun(leased, [CHANGE]):
        pass
    assert rows(tmp_path)[0]["outcome"] == "stopped"
    journal.ended(leased)
    assert rows(tmp_path)[0]["outcome"] == "done"
    with journal.begun(leased, [CHANGE]):  # the lease was taken again
        pass
    assert rows(tmp_path)[0]["outcome"] == "stopped"
    make(tmp_path, "20260115T093012-3f9a1c")  # of a playbook without a lease
    assert rows(tmp_path)[0]["outcome"] == "done"


# Killed at any byte


def test_a_file_that_ends_at_any_byte_is_read_and_gone_on_with(tmp_path: Path) -> None:
    make(tmp_path)
    whole = file(tmp_path).read_bytes()
    ends = {whole.index(b'"intent"'), whole.index(b'"outcome"')}
    assert whole.count(b"\n") == 4
    for size in range(len(whole) + 1):
        file(tmp_path).write_bytes(whole[:size])
        found = rows(tmp_path)
        lines = whole[:size].count(b"\n") + (size > 0 and whole[size : size + 1] == b"\n")
        assert [row["outcome"] for row in found] == (
            [] if lines < 3 else ["unfinished"] if lines < 4 else ["done"]
        )
        make(tmp_path, task="Next")
        text = file(tmp_path).read_bytes()
        assert text.startswith(
            whole[:size] + b"\n" * (size > 0 and whole[size - 1 : size] != b"\n")
        )
        (row,) = rows(tmp_path)
        assert [s["outcome"] for s in row["steps"]][-1] == "done"
        assert row["steps"][-1]["task"] == "Next"
        whole_line = size == 0 or whole[size - 1 : size] == b"\n" or whole[size : size + 1] == b"\n"
        report = journal_read.report(str(tmp_path / "journal"), RUN)
        assert report["torn_lines"] == (not whole_line)
    assert ends


KILLED = """
import sys, json
sys.path.insert(0, {path!r})
from ansible_collections.labeller.runbook.plugins.module_utils import journal
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
params = json.loads({params!r})
print("up", flush=True)
while True:
    with journal.begun(params, [Change("s", "write", "", "x" * 3000)], "y" * 5000):
        pass
"""


def test_writers_that_are_killed_leave_a_journal_that_is_read(tmp_path: Path) -> None:
    """Three at once, killed once the file has grown so far; then another goes on."""
    path = next(p for p in sys.path if p.endswith("collections") and ".build" in p)
    for size in (1, 60_000, 200_000):
        text = KILLED.format(path=path, params=json.dumps(params(tmp_path)))
        writers = [
            subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) for _ in range(3)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"up\n"
        while not file(tmp_path).exists() or file(tmp_path).stat().st_size < size:
            pass
        for writer in writers:
            writer.kill()
            writer.communicate()
        make(tmp_path, task="Next")
        (row,) = rows(tmp_path)
        assert row["steps"][-1]["outcome"] == "done"
        assert row["torn_lines"] <= 3
        assert {s["outcome"] for s in row["steps"]} <= {"done", "unfinished"}


# Permissions, and what the disk refuses


@pytest.mark.parametrize("umask", [0, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make(tmp_path / "some" / "where")
        make(tmp_path / "some" / "where", task="again")
    finally:
        os.umask(before)
    for path, mode in ((file(tmp_path / "some/where"), 0o600), (tmp_path / "some", 0o700)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE(file(tmp_path / "some/where").parent.stat().st_mode) == 0o700


def test_a_folder_that_others_can_enter_is_closed(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal").chmod(0o755)
    make(tmp_path)
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700


def refused(folder: Path, why: str) -> None:
    """A module on this journal changes nothing, and its check fails too."""
    shelf: list[str] = []
    run = composed(
        lambda _: "vase\n",
        lambda state, _: Plan([Change("the shelf", "write", state, "book\n" * 2000)]),
        lambda _plan, _params: shelf.append("book"),
    )
    for check in (True, False):
        with pytest.raises(ModuleFailure, match=why) as caught:
            run(params(folder), check)
        assert "nothing was changed" in str(caught.value)
    assert not shelf


def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def test_another_users_folder(tmp_path: Path) -> None:
    root()
    (tmp_path / "journal").mkdir()
    os.chown(tmp_path / "journal", 65534, 65534)
    refused(tmp_path, "belongs to another user")


def test_another_users_file(tmp_path: Path) -> None:
    root()
    make(tmp_path)
    os.chown(file(tmp_path), 65534, 65534)
    refused(tmp_path, "belongs to another user")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("")
    refused(tmp_path, "is no folder")


def mounted(folder: Path, *options: str) -> None:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not permitted")


@pytest.mark.parametrize("exists", [False, True])
def test_a_read_only_home(tmp_path: Path, exists: bool) -> None:
    root()
    home = tmp_path / "home"
    mounted(home)
    try:
        if exists:
            make(home)
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        refused(home, "Read-only file system|cannot write")
    finally:
        subprocess.run(["umount", home], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    root()
    home = tmp_path / "home"
    mounted(home, "-o", "size=1m")
    try:
        make(home)
        before = file(home).read_bytes()
        filler = os.open(home / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(filler, b"x" * 4096):
                pass
        refused(home, "No space left on device")
        with pytest.raises(
            ModuleFailure, match="config.yaml: No space left on device; nothing was"
        ):
            files.check_writable(str(home / "config.yaml"))
        # Not even the part that there was room for: one page is left.
        os.ftruncate(filler, os.fstat(filler).st_size - 4096)
        big = [Change("s", "write", "", "x" * 9000)]
        with pytest.raises(ModuleFailure, match="No space left"):
            journal.begun(params(home), big)
        assert file(home).read_bytes() == before
        # The change was made, and its outcome finds no room.
        with pytest.raises(ModuleFailure, match="is done, and the journal .* does not say so"):
            with journal.begun(params(home), [CHANGE]) as entry:
                entry.facts["much"] = "x" * 9000
        assert rows(home)[0]["outcome"] == "unfinished"
    finally:
        os.close(filler)
        subprocess.run(["umount", home], check=True)


def test_the_default_place_is_the_passwd_databases_whatever_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pwd

    for name in ("HOME", "XDG_STATE_HOME", "RUNBOOK_HOME"):
        monkeypatch.setenv(name, "/elsewhere")
    home = pwd.getpwuid(os.geteuid()).pw_dir
    assert journal.location("") == f"{home}/.local/state/runbook/journal"


def test_a_run_id_is_no_path() -> None:
    with pytest.raises(InvalidInput, match="expected a run's id"):
        journal.begun(params(Path("/tmp"), run="../../etc/passwd"), [CHANGE])


# Secrets


def test_secrets_are_in_the_image_alone(tmp_path: Path) -> None:
    def apply(_plan: Plan, _params: Any) -> None:
        raise ModuleFailure(f"cannot log in with {SECRET}")

    logic = composed(
        lambda _: SECRET,
        lambda _state, _: Plan(
            [Change("the shelf", "write", "", f"with {SECRET}\n")], image={"before": SECRET}
        ),
        apply,
    )
    module = Module({"key": {"type": "str", "no_log": True}, **journal.ARGUMENT}, logic)
    given = params(tmp_path)["journal"]
    done = module.call("shelf", {"key": SECRET, "journal": given}, check_mode=False)
    assert done["failed"]
    with_secret = [line for line in file(tmp_path).read_text().splitlines() if SECRET in line]
    assert [json.loads(line)["image"] for line in with_secret] == [{"before": SECRET}]
    assert SECRET not in json.dumps(journal_read.report(str(tmp_path / "journal"), RUN))
    assert SECRET not in json.dumps(rows(tmp_path))


def test_record_and_name_are_synced_before_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, write = os.fsync, os.write

    def written(fd: int, content: bytes) -> int:
        done.append(f"write {content.count(b'intent') + content.count(b'outcome')}")
        return write(fd, content)

    monkeypatch.setattr(os, "write", written)
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (done.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)),
    )
    with journal.begun(params(tmp_path), [CHANGE]):
        done.append("the change")
    name, folder = str(file(tmp_path)), str(tmp_path / "journal")
    assert done == [str(tmp_path), "write 1", name, folder, "the change", "write 1", name]


# Many runs


def run_id(age: timedelta, number: int = 0) -> str:
    return f"{datetime.now(UTC) - age:%Y%m%dT%H%M%S}-{number:06x}"


def made_then(
    folder: Path, run: str, monkeypatch: pytest.MonkeyPatch, when: str = "", **more: Any
) -> None:
    """A run that began at the time of its id, or at another by the host's clock."""
    with monkeypatch.context() as patch:
        begun = datetime.strptime((when or run)[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        patch.setattr(journal, "_now", lambda: begun.isoformat(timespec="milliseconds"))
        make(folder, run, **more)


def test_old_runs_are_pruned_by_a_new_one_but_none_that_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEEP_RUNS", 3)
    old = [run_id(timedelta(days=500 + n), n) for n in range(5)]
    for run in old:
        made_then(tmp_path, run, monkeypatch)
    journal.begun(params(tmp_path, old[4]), [CHANGE])  # unfinished
    slow = run_id(timedelta(days=10000))  # by the operator's clock, not by this host's
    make(tmp_path, slow)
    recent = run_id(timedelta(days=300))
    made_then(tmp_path, recent, monkeypatch)
    new = run_id(timedelta())
    make(tmp_path, new)
    # The newest three, what is younger than 400 days, and what did not end.
    assert journal_read.runs(str(tmp_path / "journal")) == [new, recent, old[0], old[4], slow]
    make(tmp_path, new)
    assert len(rows(tmp_path)) == 5


def test_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [f"2026011{n}T093012-3f9a1c" for n in range(4)]
    for number, run in enumerate(runs):
        made_then(
            tmp_path, run, monkeypatch, operator=f"{'anna' if number % 2 else 'olli'}@laptop",
            playbook="regular.yml" if number < 2 else "iterate.yml",
        )  # fmt: skip

    def ids(**filters: Any) -> list[str]:
        return [row["run"][:8] for row in rows(tmp_path, **filters)]

    assert ids() == ["20260113", "20260112", "20260111", "20260110"]
    assert ids(limit=2) == ["20260113", "20260112"]
    assert ids(operator="anna") == ["20260113", "20260111"]
    assert ids(playbook="regular") == ids(playbook="regular.yml") == ["20260111", "20260110"]
    assert ids(since="2026-01-12") == ids(since="2026-01-11T10:00") == ["20260113", "20260112"]
    assert ids(limit=1, operator="olli") == ["20260112"]
    assert ids(ids=[runs[2], runs[0], "20260114T093012-3f9a1c"]) == ["20260112", "20260110"]
    for wrong in ("yesterday", "2026-13-01", "2026-01-12T25:00"):
        with pytest.raises(InvalidInput, match="expected a date"):
            ids(since=wrong)
    assert journal_read.named(str(tmp_path / "journal"), "newest") == runs[3]
    for wrong in ("", "2027", "202601"):
        with pytest.raises(InvalidInput, match="runbook history"):
            journal_read.report(str(tmp_path / "journal"), wrong)
    assert journal_read.history(str(tmp_path / "nowhere")) == []


def test_the_newest_run_is_the_one_that_last_began_to_change_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the clock of an operator's machine says, and however long the question stood."""
    ids = ["20260114T093012-aaaaaa", "20260114T040000-bbbbbb", "20260113T170000-cccccc"]
    for minute, run in enumerate(ids):
        monkeypatch.setattr(journal, "_now", lambda: f"2026-01-14T09:3{minute}:00.000+00:00")  # noqa: B023
        make(tmp_path, run)
    folder = str(tmp_path / "journal")
    file(tmp_path, "20260112T000000-dddddd").write_text('{"image"')
    assert [row["run"] for row in rows(tmp_path)] == ids[::-1]
    assert [row["run"] for row in rows(tmp_path, limit=1)] == [ids[2]]
    assert journal_read.named(folder, "newest") == ids[2]
    about = {"journal": {"folder": folder, "host": "labeller3"}}
    with pytest.raises(Refused, match=ids[2]):  # of an image that undo does not know
        record.of({**about, "run": "newest"})
    later = record._since(folder, ids[0], "labeller3")
    assert [row["run"] for row in later] == [ids[2], ids[1]]
    assert record._since(folder, ids[2], "labeller3") == []


def test_since_is_by_the_clock_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the order and the times of the list are, not by the operator's, which the ids have."""
    early, late = "20250101T000000-aaaaaa", "20270101T000000-bbbbbb"
    for run, when in ((early, "20260114T120000"), (late, "20260113T120000")):
        made_then(tmp_path, run, monkeypatch, when)
    assert [row["run"] for row in rows(tmp_path)] == [early, late]
    assert [row["run"] for row in rows(tmp_path, since="2026-01-14")] == [early]
    assert [row["run"] for row in rows(tmp_path, since="2026-01-14T12:00:01")] == []
    assert [row["run"] for row in rows(tmp_path, since="2026-01-13T12:00")] == [early, late]


def test_a_folder_that_holds_other_files_keeps_its_mode(tmp_path: Path) -> None:
    """As labeller's own, which the web server reads."""
    folder = tmp_path / "journal"
    folder.mkdir()
    page = folder / "index.html"
    page.touch()
    folder.chmod(0o750)
    make(tmp_path)
    assert (folder.stat().st_mode & 0o777, file(tmp_path).stat().st_mode & 0o777) == (0o750, 0o600)
    page.unlink()
    make(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
