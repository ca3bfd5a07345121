"""The report of a run that is over: the same as at its end, or what can still be known of it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import journal_read
from test_history_text import folder  # noqa: F401 - a fixture
from test_maps import described, with_map
from test_plan_file import content, operations  # noqa: F401 - a fixture
from test_render import LOSSES, RUNS

from runbook.cli import cli, run
from runbook.errors import ExitCode
from runbook.events import journal
from runbook.events.model import Event, Notice, Result, RunFinished, from_json
from runbook.events.render import text
from runbook.events.render.report.content import Content, Gathered
from runbook.flow import report, saved
from runbook.load import plan_file

ID = "20260114T093012-3f9a1c"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def kept(events: Iterable[Event], run_id: str = ID, *, ended: bool = True) -> journal.Journal:
    """A run of this machine's journal."""
    written = journal.Journal(run_id)
    for event in events:
        written(event)
    if ended:
        written(result(run_id))
    return written


def result(run_id: str = ID) -> Result:
    return Result(ExitCode.OK, run_id, "regular.yml", "sandbox", plan_sha256="ab12")


def reported(events: Iterable[Event]) -> Content:
    gathered, end = Gathered(), None
    for event in events:
        gathered(event)
        end = event
    assert isinstance(end, Result)
    return gathered.content(end)


@pytest.mark.parametrize("name", RUNS)
def test_an_event_is_the_same_from_json(name: str) -> None:
    for event in [*RUNS[name], result()]:
        kept = json.loads(json.dumps(event.as_json()))
        assert from_json(kept).as_json() == kept
        assert type(from_json(kept)) is type(event)
        assert from_json({**kept, "of_a_later_version": 1}).as_json() == kept


def test_it_is_the_report_that_the_run_would_have_written(home: Path) -> None:
    events = [*with_map(described()), result()]
    kept(events[:-1])
    assert reported(report.of_kept(journal.named("newest"))) == reported(events)


def test_a_journal_that_was_cut_off_is_read_up_to_there(home: Path) -> None:
    done = [e for e in LOSSES if not isinstance(e, RunFinished)]
    # Ends of lines that are none in JSON.
    writing = kept([*done, Notice("verbose", "a\u2028b\x85c")], ended=False)
    assert reported(report.of_kept(journal.named(ID))).verdict == report._GOES_ON
    with (writing.folder / "events.jsonl").open("a") as file:
        file.write('{"event": "task_res')
    (writing.folder / "input.json").write_text('{"plan": "cd34"}')
    fcntl.flock(writing._events, fcntl.LOCK_UN)
    found = reported(report.of_kept(journal.named(ID)))
    assert found.verdict == report._KILLED
    assert found.plan_sha256 == "cd34"
    assert sum(found.counts.values()) == sum(reported([*LOSSES, result()]).counts.values())


def test_a_run_that_wrote_nothing_has_a_report(home: Path) -> None:
    kept([], ended=False)
    assert reported(report.of_kept(journal.named(ID))).check


def test_the_report_of_a_plan_file(operations: Path) -> None:  # noqa: F811
    made = content(operations)
    made["maps"] = {"one": described()}
    for step in made["steps"]:
        if step["task"] == "Clear":
            step["module"] = saved.TRANSACTION
    made["headlines"] = ["Another run [one]"]
    plan_file.write("plan.json", made)
    assert cli.main(["report", "plan.json", "-o", "plan.html"], standalone_mode=False) == 0
    found = reported(report.of_plan(plan_file.read("plan.json")))
    assert found.check
    assert ("Operator", made["made"]["by"]) in found.facts
    assert found.headlines == ["Another run [one]"]
    assert found.plan_sha256 == plan_file.read("plan.json").sha256
    assert found.counts["rows deleted"] == 3
    assert [each.title for each in found.maps] == ["Map of one"]
    assert "warnings" in found.counts
    page = (operations / "plan.html").read_text()
    assert "Where the sites would lie" in page
    assert "Seconds" not in page, "how long the steps took is not kept"


def test_a_plan_keeps_the_map_of_its_check(operations: Path) -> None:  # noqa: F811
    assert content(operations)["maps"] == {}


def test_the_report_of_a_run_from_the_targets_journal(folder: Path) -> None:  # noqa: F811
    run = journal_read.report(str(folder), "newest")
    found = reported(report.of_history("labeller3", {"labeller3": run}))
    assert found.verdict == report._OUTCOMES["unfinished"]
    assert not found.check
    assert ("Operator", run["operator"]) in found.facts
    assert [(step.name, step.status.value) for step in found.steps] == [
        ("Remove the crontab", "changed"), ("Reset", "changed"), ("Refuse", "failed"),
        ("Killed", "failed"),
    ]  # fmt: skip
    assert found.counts["rows deleted"] == 7
    assert [line for step in found.steps for line in step.failure] == [
        "a row | is not", "in the backup", text.UNKNOWN_END,
    ]  # fmt: skip
    assert found.kept == [("backup b1", "Reset")]
    assert "- # `old` line".replace(" ", "") in [
        line.replace(" ", "") for step in found.steps for line in step.diff
    ]
    run["outcome"], run["steps"] = "done", run["steps"][:2]
    done = reported(report.of_history("labeller3", {"labeller3": run, "labeller4": run}))
    assert (done.verdict, done.several) == ("Done: 4 steps changed something.", True)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["20260115", "-o", "r.md"], ExitCode.INVALID, "there is no run 20260115 in this machine"),
        (["2026", "-o", "r.md"], ExitCode.INVALID, "several runs begin with 2026"),
        (["newest", "-o", "r.pdf"], ExitCode.INVALID, "must end in .html or .md"),
        (["newest", "-o", "none/r.md"], ExitCode.INVALID, "no folder to write this file to"),
        (["newest", "-o", "r.md", "--json"], ExitCode.USAGE, "says its format"),
        (["newest"], ExitCode.USAGE, "Give -i TARGET, or -o FILE"),
        (["plan.json", "-o", "r.md", "-i", "t"], ExitCode.USAGE, "names its target"),
        (["newest", "-o", "taken.md"], ExitCode.INVALID, "no folder to write this file to"),
        (["newest", "-o", f"{'x' * 300}.md"], ExitCode.FAILED, "md: File name too long"),
    ],
)
def test_what_has_no_report(
    operations: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: ExitCode,
    expected: str,
) -> None:
    kept(LOSSES)
    kept(LOSSES, "20260114T093013-3f9a1c")
    plan_file.write("plan.json", content(operations))
    (operations / "taken.md").mkdir()
    asked = ["report", *arguments]
    assert run(lambda: cli.main(asked, "runbook", standalone_mode=False)) == code
    assert expected in capsys.readouterr().err
