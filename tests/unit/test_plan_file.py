"""A plan file is refused by everything that it is bound to, and says which."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import held

from runbook import __version__, collection
from runbook.cli import cli, run
from runbook.errors import ExitCode, InvalidInputError, StaleError
from runbook.events.model import Status, TaskResult
from runbook.events.redaction import Redactor
from runbook.execute.runner import Outcome
from runbook.flow import saved
from runbook.load import plan_file
from runbook.load.run_input import RunInput, examined
from runbook.load.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {
    "playbooks/p.yml": (
        "- name: Play\n  hosts: all\n  tasks:\n    - ansible.builtin.import_tasks: tasks/more.yml\n"
        "    - ansible.builtin.template: {src: t.j2, dest: /tmp/t, mode: '0600'}\n"
    ),
    "playbooks/t.j2": "text\n",
    "playbooks/tasks/more.yml": "- name: Say\n  ansible.builtin.debug: {msg: x}\n",
    "inventories/t/hosts.yml": "all: {hosts: {one: }}\n",
    "inventories/t/group_vars/all/vault.yml": "$ANSIBLE_VAULT;1.1;AES256\n3031\n",
    "more.yml": "run_id: 7\ndb_pwd: hunter2-canary\n",
}
ENTRY = {"resource": "the table", "action": "clear", "counts": {"rows_deleted": 3, "bytes": 1},
         "before_fingerprint": "ab12"}  # fmt: skip
DIFF = {"before_header": "the table", "after_header": "the table",
        "before": "3 rows of hunter2-canary\n", "after": ""}  # fmt: skip


@pytest.fixture
def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given() -> RunInput:
    return examined(Source.named("p", "t", ["@more.yml", "aoi_index=2"]))


def outcome(folder: Path, **lease: Any) -> Outcome:
    database = {"resource": "database Africa", "action": "none", "counts": {},
                "before_fingerprint": "system identifier 7, oid 5"}  # fmt: skip
    step = json.dumps(["one", f"{folder}/playbooks/tasks/more.yml:1", {"n": 1}], sort_keys=True)
    left_out = json.dumps(["one", f"{folder}/playbooks/p.yml:5"])
    taken = {"task": "Take", "module": saved.LEASE, "plan": [database], "diff": []}
    planned = {
        step: [{"task": "Clear", "module": "labeller.runbook.pg_clear", "plan": [ENTRY],
                "diff": [DIFF]}],
        left_out: [],
        json.dumps(["one", f"{collection.root()}/playbooks/tasks/verify.yml:9"]): [taken | lease],
    }  # fmt: skip
    results = (
        TaskResult("one", "Clear", "labeller.runbook.pg_clear", Status.CHANGED, changed=True,
                   plan=[ENTRY], diff=[DIFF], warnings=["hunter2-canary"]),
        TaskResult("one", "Copy", "ansible.builtin.copy", Status.CHANGED, changed=True,
                   diff=[{"before": "a\n", "after": "b\n"}]),
    )  # fmt: skip
    return Outcome(ExitCode.OK, {}, results, unchecked=("Run it",), planned=planned)


SELECTION = {"playbook": "p", "target": "t", "limit": "", "tags": (), "skip_tags": (),
             "start_at_task": "", "become": False}  # fmt: skip


def content(folder: Path, hours: int = 24) -> dict[str, Any]:
    return saved.content(
        outcome(folder),
        given(),
        {},
        SELECTION,
        timedelta(hours=hours),
        Redactor(["hunter2-canary"]),
    )


def written(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    made = content(folder)
    change(made)
    plan_file.write("plan.json", made)
    return folder / "plan.json"


def test_a_task_that_only_asks_is_held_and_not_shown(operations: Path) -> None:
    """restore.yml and undo.yml ask first what the backup would change."""
    step = json.dumps(["one", f"{operations}/playbooks/p.yml:1"])
    asked = {"task": "See", "module": "m", "plan": [ENTRY], "diff": [DIFF], "unchanging": True}
    (kept,) = plan_file.steps({step: [asked]})
    (other,) = plan_file.steps({step: [{**asked, "unchanging": False}]})
    assert "unchanging" not in other
    made = content(operations)
    made["steps"] += [kept]
    plan_file.write("plan.json", made)
    plan = plan_file.read("plan.json")
    assert [len(results) for results in plan.held().values()] == [1, 0, 1, 1]
    assert "See" not in [result.task for result in saved.results(plan)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere/plan.json", "No such file or directory"),
        ("playbooks", "Is a directory"),
        ("playbooks/p.yml/plan.json", "Not a directory"),
        ("p" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_known_before_a_check(
    operations: Path, name: str, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"{name}: cannot be written: {said}"):
        plan_file.require_place(name)
    plan_file.require_place("plan.json")
    assert not [path for path in operations.iterdir() if "plan" in path.name]


def test_it_is_canonical_without_secrets_and_has_one_sha256(operations: Path) -> None:
    file = written(operations)
    data = file.read_bytes()
    plan = plan_file.read("plan.json")
    assert plan.sha256 == hashlib.sha256(data).hexdigest()
    assert plan_file.dumps(dict(reversed(plan.content.items()))) == data
    assert b"hunter2" not in data
    assert hashlib.sha256(FILES["more.yml"].encode()).hexdigest().encode() not in data
    assert str(operations).encode() not in data, "another checkout has other folders"
    assert file.stat().st_mode & 0o777 == 0o600
    assert plan_file.read("plan.json", plan.sha256.upper()).content == plan.content
    assert plan_file.is_plan("plan.json")
    assert not plan_file.is_plan("playbooks/p.yml")
    assert not plan_file.is_plan("p")


def test_the_run_is_held_to_what_the_check_returned(
    operations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(operations)
    plan, wanted = plan_file.read("plan.json"), outcome(operations).planned
    found = plan.held()
    assert set(found) == set(wanted)
    for step, results in wanted.items():
        masked = json.loads(json.dumps(results).replace("hunter2-canary", "********"))
        assert list(map(held.of_result, found[step])) == list(map(held.of_result, masked))
    clear, copied = saved.results(plan)
    assert (clear.task, clear.plan[0]["counts"]) == ("Clear", ENTRY["counts"])
    assert (copied.task, copied.plan, copied.diff[0]["after"]) == ("Copy", [], "b\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert any(f"{elsewhere}/playbooks/tasks/more.yml:1" in step for step in plan.held())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made.update(format_version="0"), "of the format '0'; this runbook .* reads '1'"),
        (lambda made: made.update(format_version="2"), "of the format '2'; this runbook .* reads '1'"),
        (lambda made: made.pop("salt"), "'salt' is a required property"),
        (lambda made: made["made"].update(more=1), "made: .*'more' was unexpected"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_plan_of_this_format(
    operations: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    written(operations, change)
    with pytest.raises(InvalidInputError, match=said):
        plan_file.read("plan.json")


def test_a_file_that_was_edited(operations: Path) -> None:
    file = written(operations)
    data = file.read_bytes()
    file.write_bytes(data + b"\n")
    with pytest.raises(InvalidInputError, match="the file was edited or reformatted"):
        plan_file.read("plan.json")
    for broken in (b"{", b"{}", b'{"format_version": 1}', b"{" * 10**5, b"{\xff}"):
        file.write_bytes(broken)
        with pytest.raises(InvalidInputError, match="plan.json: "):
            plan_file.read("plan.json")
    file.write_bytes(data.replace(b'"rows_deleted":3', b'"rows_deleted":4'))
    assert plan_file.read("plan.json").sha256 != hashlib.sha256(data).hexdigest()
    with pytest.raises(InvalidInputError, match="not the reviewed"):
        plan_file.read("plan.json", hashlib.sha256(data).hexdigest())


def test_it_expires(operations: Path) -> None:
    written(operations)
    plan = plan_file.read("plan.json")
    plan_file.require_fresh(plan)
    with pytest.raises(StaleError, match="the plan expired at"):
        plan_file.require_fresh(plan, datetime.now(UTC) + timedelta(hours=25))
    for edited in ("tomorrow", "2026-01-14T09:30:12"):
        unknown = replace(plan, content={**plan.content, "expires_at": edited})
        with pytest.raises(InvalidInputError, match=f"'{edited}' is no time with its zone"):
            plan_file.require_fresh(unknown)


#: Without one of the others there is nothing to run.
SPARE = ("playbooks/t.j2", "playbooks/tasks/more.yml", "inventories/t/group_vars/all/vault.yml")


@pytest.mark.parametrize(
    ("name", "how"),
    [*((name, "changed") for name in FILES), *((name, "removed") for name in SPARE)],
)
def test_a_file_that_it_is_bound_to(operations: Path, name: str, how: str) -> None:
    written(operations)
    plan = plan_file.read("plan.json")
    plan_file.require_same(plan, given())
    if how == "changed":
        (operations / name).write_text(FILES[name].replace("3031", "3032") + "# more\n")
    else:
        (operations / name).unlink()
    with pytest.raises(InvalidInputError, match=f"- (-e @)?{name} (was changed|is not there)"):
        plan_file.require_same(plan, given())


def test_a_file_that_is_used_only_now(operations: Path) -> None:
    written(operations)
    (operations / "inventories/t/host_vars").mkdir()
    (operations / "inventories/t/host_vars/one.yml").write_text("run_id: 9\n")
    with pytest.raises(InvalidInputError, match="host_vars/one.yml is used now"):
        plan_file.require_same(plan_file.read("plan.json"), given())


def test_another_version_of_the_collection(operations: Path) -> None:
    written(operations, lambda made: made["made"].update(runbook="0.0.9"))
    said = f"its collection are {__version__}, and were 0.0.9"
    with pytest.raises(InvalidInputError, match=said):
        plan_file.require_same(plan_file.read("plan.json"), given())


def test_secrets_on_the_command_line_fit_no_plan(operations: Path) -> None:
    saved.require_no_secret(Source.named("p", "t", ["@more.yml", "run_id=1"]))
    with pytest.raises(InvalidInputError, match="-e gives db_pwd: a plan file holds no secret"):
        saved.require_no_secret(Source.named("p", "t", ["@more.yml", "db_pwd=x"]))
    assert operations


def test_a_host_whose_lease_is_not_taken(operations: Path) -> None:
    found = outcome(operations, module="another")
    with pytest.raises(InvalidInputError, match="takes no lease on one.*apply it without"):
        saved.content(found, given(), {}, SELECTION, timedelta(hours=1), Redactor())


@pytest.mark.parametrize(
    "options", [["-i", "t"], ["-e", "run_id=1"], ["--limit", "one"], ["-t", "x"], ["--skip-tags", "x"],
                ["--start-at-task", "x"], ["-b"], ["--step"], ["--validate"]]
)  # fmt: skip
def test_it_takes_no_planning_option(
    operations: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    written(operations)
    arguments = ["apply", "plan.json", *options]
    assert run(lambda: cli.main(arguments, "runbook", standalone_mode=False)) == ExitCode.USAGE
    assert "a saved plan is applied as it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["apply", "p"],
            "Missing option '-i' / '--inventory': p is no saved plan, which needs none.",
        ),
        (["apply", "p", "-i", "t", "--sha256", "00"], "this is a playbook"),
        (["plan", "p", "-o", "x"], "Missing option '-i' / '--inventory'."),
        (["plan", "p", "-i", "t"], "Missing option '-o'"),
        (["plan", "p", "-i", "t", "-o", "x", "--expires", "soon"], "such as 90m, 8h or 1d12h"),
    ],
)
@pytest.mark.usefixtures("operations")
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: cli.main(arguments, "runbook", standalone_mode=False)) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_it_is_shown(operations: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(operations)
    show = ["show", "plan.json", "--diff"]
    assert run(lambda: cli.main(show, "runbook", standalone_mode=False)) == ExitCode.OK
    shown = capsys.readouterr().out
    for text in ("system identifier 7, oid 5", "the table 3 rows deleted", "-3 rows of ********",
                 "Not known before the run: Run it", os.environ.get("USER", "root")):  # fmt: skip
        assert text in shown
    show[-1] = "--json"
    assert run(lambda: cli.main(show, "runbook", standalone_mode=False)) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == plan_file.read("plan.json").content
