"""The runs of a journal as ``runbook history`` and ``runbook report`` show them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import packages
import pexpect
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import journal, journal_read
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
from ansible_collections.labeller.runbook.plugins.module_utils.errors import Refused

from runbook.commands import history, report
from runbook.events.render import interchange, people
from runbook.load import schemas

RUN = "20260114T093012-3f9a1c"
TABLE = Change("hit_data", "delete", "7 rows\n", "0 rows\n", {"rows_deleted": 7})
CRONTAB = Change("crontab of mapper", "write", "# `old` line\n", "")


def params(folder: Path, task: str, **more: Any) -> dict[str, Any]:
    about = {"operator": "olli@laptop", "playbook": "regular.yml", "host": "labeller3"}
    return {
        "journal": {"run": RUN, "folder": str(folder), "module": "shelf", "task": task, **about},
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One run: a step that is done, a backup, a step that failed, one that was killed."""
    with journal.begun(params(tmp_path, "Remove the crontab"), [CRONTAB]):
        pass
    with journal.begun(params(tmp_path, "Reset"), [TABLE], transaction=766) as entry:
        entry.facts["backup_id"] = "b1"
    with pytest.raises(Refused), journal.begun(params(tmp_path, "Refuse"), [TABLE]):
        raise Refused("a row | is not\nin the backup")
    journal.begun(params(tmp_path, "Killed"), [TABLE])
    return tmp_path


def test_the_list_says_first_what_went_wrong(folder: Path) -> None:
    runs = journal_read.history(str(folder))
    answer = {"runs": runs, "folder": "/j"}
    where, header, line = history.lines("labeller3", answer)
    assert where == "labeller3: journal /j"
    assert [header.split()[0], line.split()[0]] == ["run", RUN]
    assert line.endswith(
        "unfinished  failed: 'Refuse'; it is not known how 'Killed' ended; 7 rows deleted; "
        "Remove the crontab, Reset, Re…"
    )
    nothing = {"runs": [], "folder": "/j"}
    assert history.lines("h", nothing) == ["h: no run in the journal /j"]
    assert history.lines("h", nothing, "no such run") == ["h: no such run in the journal /j"]
    schemas.validator("history").validate({"hosts": {"labeller3": runs}})


def test_a_run_that_applied_a_plan_file_names_it(tmp_path: Path) -> None:
    given = params(tmp_path, "Remove the crontab")
    given["journal"]["plan"] = "ab" * 32
    with journal.begun(given, [CRONTAB]):
        pass
    (run,) = journal_read.history(str(tmp_path))
    schemas.validator("history").validate({"hosts": {"labeller3": [run]}})
    assert run["plan"] == "ab" * 32
    whole = journal_read.report(str(tmp_path), RUN)
    assert f"plan file with SHA-256 {'ab' * 32}" in "\n".join(report.plain("h", whole))


@pytest.mark.parametrize("room", [70, 80, 120])
def test_at_a_terminal_rows_fit_and_no_word_is_broken(
    folder: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last column has no room, it is below the others, which leave out the time."""
    answer = {"runs": journal_read.history(str(folder)), "folder": "/journal"}
    whole = " ".join(" ".join(history.lines("h", answer)).split())
    monkeypatch.setattr(people, "columns", lambda: room)
    shown = history.lines("h", answer)
    assert max(map(len, shown)) <= room
    assert set(" ".join(shown).split()) <= set(whole.split())
    assert ("when (UTC)" in "\n".join(shown)) is (room == 120)


def test_a_run_that_was_cut_off_says_after_which_step(tmp_path: Path) -> None:
    with journal.begun(params(tmp_path, "Remove the crontab", lease=3), [CRONTAB]):
        pass
    (run,) = journal_read.history(str(tmp_path))
    assert history.words(run) == "ended after 'Remove the crontab'; Remove the crontab"
    told = "\n".join(report.plain("h", journal_read.report(str(tmp_path), RUN)))
    assert "it was cut off after its last step" in told


def test_the_report_has_each_step_with_its_changes(folder: Path) -> None:
    run = journal_read.report(str(folder), RUN)
    schemas.validator("history").validate({"hosts": {"labeller3": json.loads(json.dumps(run))}})
    told = "\n".join(report.plain("labeller3", run))
    assert told.startswith(f"{RUN} on labeller3: unfinished\n  regular.yml, by olli@laptop\n")
    assert " UTC\n  7 rows deleted\n" in told
    for part in (
        "Remove the crontab (shelf on labeller3, ", "    -# `old` line\n", "  backup b1\n",
        "  transaction 766 of the database\n", "  a row | is not in the backup\n",
        "  hit_data: 7 rows deleted\n    @@ -1 +1 @@\n    -7 rows\n    +0 rows",
        "  it is not known how it ended; the next run of the same playbook finds out\n",
    ):  # fmt: skip
        assert part in told


def test_markdown_keeps_what_the_target_says_as_it_is(folder: Path) -> None:
    told = "\n".join(report.markdown("labeller3", journal_read.report(str(folder), RUN)))
    assert told.startswith(
        f"## Run {RUN} on labeller3: unfinished\n\n- regular.yml, by olli@laptop\n"
    )
    assert "- a row \\| is not in the backup\n" in told
    assert "  ```diff\n  @@ -1 +0,0 @@\n  -# `old` line\n  ```\n" in told
    fenced = Change("crontab", "write", "```\n", "")
    run = journal_read.report(str(folder), RUN)
    run["steps"][0]["changes"] = [{**fenced.plan(), "before": "```\n", "after": ""}]
    assert "  ````diff\n" in "\n".join(report.markdown("labeller3", run))


def test_junit_has_a_case_for_each_step(folder: Path) -> None:
    run = journal_read.report(str(folder), RUN)
    run["steps"][2]["message"] += " \x00 <&"
    root = ET.fromstring(interchange.junit({"labeller3": run}))
    (suite,) = root
    given = {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")}
    assert given == {
        "name": "regular.yml on labeller3", "tests": "4", "failures": "1", "errors": "1", "skipped": "0",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite}
    assert {name: [part.tag for part in case] for name, case in cases.items()} == {
        "Remove the crontab": ["system-out"], "Reset": ["system-out"],
        "Refuse": ["failure", "system-out"], "Killed": ["error", "system-out"],
    }  # fmt: skip
    assert cases["Refuse"].find("failure").text == "a row | is not\nin the backup \ufffd <&"  # type: ignore[union-attr]
    assert "7 rows deleted" in (cases["Reset"].find("system-out").text or "")  # type: ignore[union-attr]


def test_the_artifact_has_what_ansible_navigator_reads(folder: Path) -> None:
    run = journal_read.report(str(folder), RUN)
    artifact = json.loads(interchange.navigator({"labeller3": run}, ["a line"]))
    assert (artifact["stdout"], artifact["status"]) == (["a line"], "failed")
    (play,) = artifact["plays"]
    assert (play["__ok"], play["__failed"], play["__task_count"]) == (2, 2, 4)
    assert {task["play"] for task in play["tasks"]} == {"regular.yml on labeller3"}
    assert [task["__result"] for task in play["tasks"]] == ["Ok", "Ok", "Failed", "Failed"]
    assert play["tasks"][1]["res"]["backup_id"] == "b1"
    assert play["tasks"][2]["res"]["msg"] == "a row | is not\nin the backup"


@pytest.mark.campaign
def test_ansible_navigator_replays_it(folder: Path, tmp_path: Path) -> None:
    python = packages.venv(tmp_path / "venv", "ansible-navigator==26.10.0")
    artifact = tmp_path / "run.json"
    run = journal_read.report(str(folder), RUN)
    artifact.write_text(interchange.navigator({"labeller3": run}, ["a line of output"]))
    environment = {
        **os.environ, "HOME": str(tmp_path), "TERM": "xterm", "COLUMNS": "160", "LINES": "40",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip

    def replay(mode: str) -> Any:
        options = ["--mode", mode, "--ee", "false", "--log-file", str(tmp_path / "log")]
        return pexpect.spawn(
            str(python), ["-m", "ansible_navigator", "replay", str(artifact), *options],
            env=environment, cwd=str(tmp_path), dimensions=(40, 160), encoding="utf-8", timeout=120,
        )  # fmt: skip

    def ended(child: Any) -> int:
        child.expect(pexpect.EOF)
        child.close()
        return int(child.exitstatus)

    printed = replay("stdout")
    printed.expect("a line of output")
    assert ended(printed) == 0
    shown = replay("interactive")
    shown.str_last_chars = 5000  # of the screen, in the message of a failure
    # The play, its tasks, and what one of them changed.
    for key, expected in (("", "regular.yml on labeller3"), ("0", "Reset"), ("1", "rows_deleted")):
        shown.send(key)
        shown.expect(expected)
    shown.send(":q!\r")
    assert ended(shown) == 0


def test_a_report_that_does_not_fit_on_the_terminal_begins_at_its_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paged: list[str] = []
    monkeypatch.setattr(click, "echo_via_pager", paged.append)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    for terminal, lines in ((True, 23), (True, 24), (False, 24)):
        monkeypatch.setattr(report, "is_terminal", lambda _stream, found=terminal: found)
        report._show("\n".join("x" * lines))
    assert len(paged) == 1
    assert capsys.readouterr().out.count("x") == 23 + 24
