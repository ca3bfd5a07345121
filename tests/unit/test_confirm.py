"""The confirmation: what needs the target's name, what needs a y, what is refused."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import click
import pexpect
import pytest

from runbook.errors import ExitCode, LockedError, RefusedError
from runbook.events.model import HostCounts, Status, TaskResult
from runbook.events.render.summary import Summary, destructive
from runbook.execute import runner
from runbook.flow import apply
from runbook.flow.confirm import confirm

HARMLESS = {"resource": "s3://b/k", "action": "create", "counts": {"bytes": 9}}
LOSS = {"resource": "hit_data", "action": "clear", "counts": {"rows_deleted": 1234}}
NOTHING = {"resource": "kml_data", "action": "none", "counts": {"rows_deleted": 0}}


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


def planned(*plan: dict[str, object]) -> runner.Outcome:
    return runner.Outcome(
        ExitCode.OK, {}, (TaskResult("h", "t", "m", Status.CHANGED, changed=True, plan=list(plan)),)
    )


def test_a_plan_is_without_what_was_only_looked_at() -> None:
    looked = TaskResult("h", "t", "m", Status.OK, changed=False, plan=[LOSS])
    outcome = planned(HARMLESS)
    assert replace(outcome, results=(looked, *outcome.results)).plan == [{"host": "h", **HARMLESS}]


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard())
    monkeypatch.setattr(click, "prompt", lambda *_, **__: text)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (HARMLESS, False),
        (NOTHING, False),
        (LOSS, True),
        ({"action": "delete", "counts": {}}, True),
        ({"action": "update", "counts": {"rows_deleted": 1}}, True),
    ],
)
def test_what_is_destructive(item: dict[str, object], expected: bool) -> None:
    assert destructive(item) is expected


def test_a_loss_needs_the_targets_name_and_shows_the_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ("y", "yes", "", "labeller"):
        answer(monkeypatch, wrong)
        with pytest.raises(RefusedError, match="^That is not the target's name, labeller3. Not"):
            confirm([HARMLESS, LOSS], "labeller3", None)
    assert capsys.readouterr().err == "", "the check's own summary stands there"
    answer(monkeypatch, "labeller3")
    confirm([HARMLESS, LOSS], "labeller3", Summary(results=[*planned(HARMLESS, LOSS).results]))
    assert "hit_data 1,234 rows deleted" in capsys.readouterr().err


@pytest.mark.parametrize("item", [HARMLESS, LOSS])
def test_ctrl_c_at_the_question_says_that_nothing_was_changed(
    item: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> str:
        raise click.Abort

    answer(monkeypatch, "")
    monkeypatch.setattr(click, "prompt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        confirm([item], "labeller3", None)
    assert "nothing was changed" in capsys.readouterr().err


def test_a_harmless_plan_needs_y(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "n")
    with pytest.raises(RefusedError):
        confirm([HARMLESS], "labeller3", None)
    answer(monkeypatch, "y")
    confirm([HARMLESS], "labeller3", None)


@pytest.mark.parametrize("hosts", [("one",), ("one", "two")])
def test_what_a_person_has_locked_is_refused_before_the_question(
    hosts: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No answer is asked for: pytest's standard input cannot be read."""
    (tmp_path / "p.yml").write_text(
        "- hosts: all\n  tasks: [{ansible.builtin.command: ls}]\n", encoding="utf-8"
    )
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "home"))
    locked = TaskResult("one", "Take the lease", "m", Status.OK, message="eva has locked it",
                        error_kind="locked")  # fmt: skip
    checked = replace(
        planned(LOSS),
        hosts=dict.fromkeys(hosts, HostCounts(ok=2)),
        results=(locked, *planned(LOSS).results),
    )
    ran: list[object] = []

    def run(*given: object) -> runner.Outcome:
        ran.append(given)
        return checked

    monkeypatch.setattr(runner, "started", lambda *_: nullcontext(SimpleNamespace(run=run)))
    options = apply.Options(str(tmp_path / "p.yml"), ",".join(hosts) + ",")
    for yes in (False, True):
        with pytest.raises(LockedError, match="^one: eva has locked it$"):
            apply.apply(replace(options, yes=yes))
    assert len(ran) == 2, "only the check runs"
    assert ("--limit 'all:!one'" in capsys.readouterr().err) is (len(hosts) == 2)
    assert apply.apply(replace(options, check=True)) == ExitCode.OK


def test_without_a_terminal_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("labeller3\ny\n"))
    with pytest.raises(RefusedError, match="no terminal"):
        confirm([LOSS], "labeller3", None)


@pytest.mark.parametrize("hidden", [False, True])
def test_the_question_stands_there_again_after_fg(hidden: bool) -> None:
    code = f"from runbook.flow.confirm import ask; print('got', ask('Go on?', hidden={hidden}))"
    terminal = pexpect.spawn(sys.executable, ["-c", code], encoding="utf-8", timeout=60)
    terminal.expect_exact("Go on?: ")
    for _ in range(50):  # a signal before the terminal is read waits for the first key
        for number in (signal.SIGSTOP, signal.SIGCONT):
            os.kill(terminal.pid, number)
        if terminal.expect_exact(["Go on?: ", pexpect.TIMEOUT], timeout=0.2) == 0:
            break
    else:
        pytest.fail("the question was not repeated")
    terminal.sendline("yes")
    terminal.expect_exact("got yes")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
