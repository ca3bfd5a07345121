"""Which run is resumed, with what, and what refuses it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.shell_completion import ShellComplete

from runbook import __version__
from runbook.cli import cli, run
from runbook.errors import ExitCode, InvalidInputError, LockedError, StaleError
from runbook.events.journal import Journal
from runbook.events.model import Event, HostCounts, Recap, Result, RunFinished, Status, TaskResult
from runbook.events.redaction import Redactor
from runbook.execute.runner import Outcome
from runbook.flow import query, resume, saved
from runbook.flow.confirm import Passwords
from runbook.load.run_input import RunInput, examined
from runbook.load.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

FILES = {
    "playbooks/p.yml": "- name: Play\n  hosts: all\n  tasks:\n"
    "    - ansible.builtin.import_tasks: tasks/more.yml\n",
    "playbooks/tasks/more.yml": "- name: Say\n  ansible.builtin.debug: {msg: '{{ run_id }}'}\n",
    "inventories/t/hosts.yml": "all: {hosts: {one: }}\n",
    "inventories/other/hosts.yml": "all: {hosts: {one: }}\n",
    "more.yml": "run_id: 7\n",
    "secret.yml": "db_pwd: hunter2-canary\n",
}
EXTRA = ("@more.yml", "aoi_index=2 db_pwd=hunter2-canary", "api_token=x", "note=of-canary-4711")
SELECTION = {"limit": "", "tags": ("a", "b"), "skip_tags": (), "start_at_task": "", "become": False}
DATABASE = {"resource": "database Africa", "action": "none", "counts": {},
            "before_fingerprint": "system identifier 7, oid 5"}  # fmt: skip
WHOLE = ("db_pwd=hunter2-canary", "api_token=x note=y")


@pytest.fixture(autouse=True)
def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "home"))
    return tmp_path


def examined_with(*extra: str) -> RunInput:
    return examined(Source.named("p", "t", extra))


def planned(*hosts: str, **database: Any) -> dict[str, Any]:
    taken = {"task": "Take", "module": saved.LEASE, "plan": [DATABASE | database], "diff": []}
    place = f"{Path.cwd()}/playbooks/p.yml:1"
    return {json.dumps([host, place]): [taken] for host in hosts or ("one",)}


def started(
    number: int, *, exit_code: ExitCode | None = None, playbook: str = "p", target: str = "t",
    resumes: resume.Unfinished | None = None, changed: bool = True, extra: tuple[str, ...] = EXTRA,
    hosts: tuple[str, ...] = ("one",), events: tuple[Event, ...] = (),
) -> str:  # fmt: skip
    """A run in the journal of this machine; without an exit code it was killed."""
    run_id = f"20260114T09301{number}-3f9a1c"
    options = {**SELECTION, "playbook": playbook, "target": target}
    redactor = Redactor(["canary-4711"])
    bound = saved.bound(examined_with(*extra), {"one": {}}, options, planned(*hosts), redactor)
    journal = Journal(run_id)
    journal.keep_input(resume.given(bound, redactor, "", resumes))
    for event in events:
        journal(event)
    if exit_code is not None:
        journal(Result(exit_code, run_id, playbook, target, changed=changed))
    else:
        os.close(journal._events)
    return run_id


def found(run_id: str = "", target: str = "t") -> resume.Unfinished:
    done = resume.unfinished(target, run_id, WHOLE)
    assert isinstance(done, resume.Unfinished), done
    return done


def test_what_is_kept_of_a_run_has_no_secret_and_gives_the_same_options(operations: Path) -> None:
    run_id = started(1)
    text = (operations / "home/runs" / run_id / "input.json").read_text()
    assert [each for each in ("hunter2", "4711") if each in text] == []
    kept = json.loads(text)
    assert kept["secret"] == ["api_token", "db_pwd", "note"]
    assert kept["made"]["runbook"] == __version__
    assert found().options() == {
        **SELECTION, "playbook": "p", "target": "t",
        "extra_vars": ("@more.yml", '{"aoi_index": 2}', *WHOLE),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": None}, r"another version of runbook \(folder: None is not of type 'string'\)"),
        ({"salt": "0"}, r"another version of runbook \(salt: '0' does not match"),
        ({"more": 1}, r"another version of runbook \(input.json: .*'more' was unexpected\)"),
        (None, r"input.json: not as runbook wrote it: Expecting value.* Remove .*home/runs/2026"),
    ],
)
def test_what_another_version_kept_is_refused(change: dict[str, Any] | None, said: str) -> None:
    file = Path("home/runs", started(1), "input.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}) if change else "")
    for run_id in ("", "20260114T093011"):
        with pytest.raises(InvalidInputError, match=said):
            found(run_id)


def test_what_another_version_kept_of_another_target_is_nothing_to_it() -> None:
    mine = started(1)
    file = Path("home/runs", started(2, target="other"), "input.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "salt": "0"}))
    assert found().run_id == mine


def test_the_newest_that_did_not_end_and_was_not_made_up_for() -> None:
    with pytest.raises(InvalidInputError, match="no run on t .* is unfinished"):
        found()
    first = started(1)
    assert found().run_id == first
    started(2, exit_code=ExitCode.OK, playbook="other.yml")
    started(3, target="other")
    assert found().run_id == first
    started(4, exit_code=ExitCode.FAILED, changed=False)
    assert found().run_id == first
    started(4, exit_code=ExitCode.FAILED)
    assert found().run_id == "20260114T093014-3f9a1c"
    started(5, exit_code=ExitCode.OK, playbook="playbooks/p.yml")
    with pytest.raises(InvalidInputError, match="is unfinished"):
        found()
    assert found("20260114T093011").run_id == first
    assert found(first, "./inventories/t").run_id == first


CHECKED = RunFinished(check=True, exit_code=ExitCode.OK, changed=True, seconds=1)
FLEET = ("one", "two", "three", "four")


def ended(bad: tuple[str, ...] = (), left: tuple[str, ...] = (), *, unchecked: bool = False) -> Any:
    """The events of a run on the fleet that failed on the hosts ``bad``, and left steps on others."""
    counts = {host: HostCounts(failed=host in bad, changed=1) for host in FLEET}
    failed = RunFinished(
        check=False, exit_code=ExitCode.FAILED, changed=True, seconds=1,
        left={host: ["Reset"] for host in left},
    )  # fmt: skip
    check = replace(CHECKED, unchecked=["Run a command"]) if unchecked else CHECKED
    return {
        "hosts": FLEET, "exit_code": ExitCode.FAILED,
        "events": (Recap(dict.fromkeys(FLEET, HostCounts())), check, Recap(counts), failed),
    }  # fmt: skip


def test_a_run_is_resumed_where_it_did_not_end() -> None:
    started(1, **ended(bad=("two",), left=("two", "four")))
    assert (found().hosts, found().options()["limit"]) == (("four", "two"), "four,two")
    started(2, exit_code=ExitCode.OK, hosts=("four",))
    assert found().hosts == ("two",)
    started(3, exit_code=ExitCode.OK, hosts=("two",))
    with pytest.raises(InvalidInputError, match="is unfinished"):
        found()
    # Everywhere, if it failed everywhere, was killed, or did more than a check can see.
    started(4, **ended(bad=FLEET))
    assert found().options()["limit"] == ""
    started(5, hosts=FLEET, events=(CHECKED,))
    assert found().options()["limit"] == ""
    started(6, **ended(bad=("two",), unchecked=True))
    assert found().options()["limit"] == ""


def test_parameters_of_the_hosts_that_are_resumed_are_compared() -> None:
    before = {"same": 1, "own [one]": 1, "own [two]": 2, "gone [one]": 3}
    changed = resume._changed_parameters
    assert changed(before, {"same": 1, "own": 2}, ["two"]) == []
    assert changed(before, {"same": 2, "own": 2}, ["two"]) == ["same is 2, and was 1"]
    assert changed(before, {"same": 1, "own": 3}, ["two"]) == ["own is 3, and was 2"]
    assert changed(before, before, []) == []


@pytest.mark.parametrize(
    ("run_id", "said"),
    [("20260115", "there is no run 20260115"), ("2026", "several runs begin with 2026"),
     ("20260114T093013", "was not a run on t")],
)  # fmt: skip
def test_a_run_that_is_not_the_one(run_id: str, said: str) -> None:
    started(1)
    started(3, target="other")
    with pytest.raises(InvalidInputError, match=said):
        found(run_id)


def test_runs_with_nothing_to_resume_and_one_that_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = started(1, exit_code=ExitCode.OK)
    command = ["resume", ended, "-i", "t"]
    assert run(lambda: cli.main(command, "runbook", standalone_mode=False)) == ExitCode.OK
    assert (
        f"{ended} (p on t) came to its end: there is nothing to resume." in capsys.readouterr().out
    )
    check = Journal("20260114T093012-3f9a1c")
    assert "has changed nothing" in str(resume.unfinished("t", "20260114T093012"))
    check.keep_input(json.loads(Path(f"home/runs/{ended}/input.json").read_text()))
    with pytest.raises(LockedError, match="is going on"):
        found()


def test_a_shell_offers_the_runs_that_did_not_end() -> None:
    started(1, exit_code=ExitCode.OK)
    killed, failed = started(2), started(3, exit_code=ExitCode.FAILED)
    shell = ShellComplete(cli, {}, "runbook", "_RUNBOOK_COMPLETE")
    offered = [item.value for item in shell.get_completions(["resume"], "2026")]
    assert offered == [failed, killed]


def test_another_folder(operations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(1)
    monkeypatch.chdir(operations / "playbooks")
    with pytest.raises(InvalidInputError, match=f"was started in {operations}, from where"):
        found(target="../inventories/t")


def test_exactly_the_secrets_of_its_command_line() -> None:
    started(1)
    with pytest.raises(InvalidInputError, match="was given api_token, db_pwd, note on the command"):
        resume.unfinished("t")
    with pytest.raises(InvalidInputError, match="-e gives run_id"):
        resume.unfinished("t", "", (*WHOLE, "run_id=8"))


def test_the_files_that_it_is_bound_to(operations: Path) -> None:
    started(1)
    about = resume.unfinished("t", "", ("@secret.yml", "api_token=x note=y"))
    assert isinstance(about, resume.Unfinished)
    options = about.options()["extra_vars"]
    resume.require_same(about, examined_with(*options))
    for name in (
        "playbooks/p.yml",
        "playbooks/tasks/more.yml",
        "inventories/t/hosts.yml",
        "more.yml",
    ):
        (operations / name).write_text(f"{FILES[name]}# more\n")
        with pytest.raises(InvalidInputError, match=f"- (-e @)?{name} was changed since"):
            resume.require_same(about, examined_with(*options))
        (operations / name).write_text(FILES[name])
    other = resume.Unfinished("x", {**about.given, "made": {"runbook": "0.0.9"}}, about.secrets)
    with pytest.raises(InvalidInputError, match=f"are {__version__}, and were 0.0.9"):
        resume.require_same(other, examined_with(*options))


CHANGE = {"resource": "crontab of mapper", "action": "write", "counts": {}}


def step(task: str, outcome: str, **more: Any) -> dict[str, Any]:
    return {"host": "one", "task": task, "outcome": outcome, "resources": [CHANGE | more]}


def result(task: str, **more: Any) -> TaskResult:
    return TaskResult("one", task, "m", Status.CHANGED, changed=True, plan=[CHANGE | more])


def test_steps_that_are_done_and_still_must_be() -> None:
    steps = [
        step("Remove", "done"), step("Install", "failed"), step("Twice", "failed"),
        step("Twice", "done"), step("Undone", "done"), step("Undone", "unfinished"),
        step("Start", "done", volatile=True),
    ]  # fmt: skip
    done = resume.finished(steps)
    assert [task for _, task, _ in done] == ["Remove", "Twice"]
    results = [
        result("labeller.runbook.role : Remove"), result("Install"),
        result("Twice", action="none"), result("Twice", resource="another"),
        TaskResult("one", "Twice", "m", Status.OK, plan=[CHANGE]),
    ]  # fmt: skip
    assert list(resume.repeated(done, results)) == [
        "step 'Remove' is done on one and would change something again: crontab of mapper: write"
    ]


def unmoved(
    about: resume.Unfinished, results: Iterable[TaskResult] = (), parameters: Any = None,
    **database: Any,
) -> list[str]:  # fmt: skip
    checked = Outcome(ExitCode.OK, {}, tuple(results), planned=planned(**database))
    given = about.given["parameters"] if parameters is None else parameters
    return resume.require_unmoved(about, checked, given, {}, Passwords(None, {}))


def test_a_target_that_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    first = started(1)
    started(2, resumes=found())
    asked: list[Any] = []

    def ask(_question: str, _options: Any, variables: Any, **_: Any) -> dict[str, Any]:
        asked.append(variables["history"])
        rows = [{"run": f"20260114T09301{n}-3f9a1c", "steps": [step(task, "done")]}
                for n, task in ((9, "Other"), (2, "Install"), (1, "Remove"))]  # fmt: skip
        more = [{"run": first, "steps": [step("Stop", "done")]}]
        return {"one": {"runs": rows}, "two": {"runs": more}}

    monkeypatch.setattr(query, "ask", ask)
    about = found()
    assert about.runs == ["20260114T093012-3f9a1c", first]
    assert unmoved(about) == ["Remove", "Stop", "Install"]
    # By their ids: the clock of the target may differ from the one that the ids have.
    assert asked[0] == {"ids": about.runs}
    with pytest.raises(StaleError, match="step 'Remove' is done on one"):
        unmoved(about, [result("Remove")])
    with pytest.raises(StaleError, match="one: the database is .* oid 6, and was .* oid 5"):
        unmoved(about, before_fingerprint="system identifier 7, oid 6")
    with pytest.raises(InvalidInputError, match="- run_id is 3, and was 7"):
        unmoved(about, parameters={**about.given["parameters"], "run_id": 3})
