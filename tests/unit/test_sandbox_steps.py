"""Which process carries out a step of a cluster, and what the loop says (engine/runbook/sandbox)."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from runbook.errors import ExitCode
from runbook.sandbox import emr, loop

if TYPE_CHECKING:
    from pathlib import Path

LEARN = [
    "spark-submit", "--master", "yarn", "--packages", "a:b:1", "--conf", "spark.executor.cores=5",
    "/home/hadoop/learner/run_it/run_geopyspark.py", "--config-filename", "c.yaml", "bucket", "0", "3",
]  # fmt: skip


def test_without_pyspark_the_learner_is_a_python_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(emr.SPARK)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    command = emr._command(LEARN)
    assert command[0] == sys.executable
    assert command[1].endswith("sandbox/learner/run_it/run_geopyspark.py")
    assert command[2:] == LEARN[8:]


def test_with_pyspark_it_is_submitted_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = SimpleNamespace(origin=str(tmp_path / "pyspark" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: found)
    assert emr._command(LEARN)[0] == sys.executable, "the tests' environment says off"
    monkeypatch.delenv(emr.SPARK)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert emr._command(LEARN)[0] == sys.executable, "there is no Java"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(0o755)
    command = emr._command(LEARN)
    assert command[:3] == [str(tmp_path / "pyspark/bin/spark-submit"), "--master", "local[*]"]
    assert command[-6].endswith("run_geopyspark.py")
    assert command[-5:] == LEARN[8:]
    assert "yarn" not in command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "only carry out"),
        (["bash", "-c", "true"], "only carry out"),
        (["python3", "/etc/passwd"], "can't open file"),
        (["python3", "/home/hadoop/learner/run_it/../model.py"], "can't open file"),
        (["git", "clone", "-b", "nowhere", "x"], "Remote branch nowhere not found"),
    ],
)
def test_nothing_else_is_run(arguments: list[str], said: str) -> None:
    command = emr._command(arguments)
    assert isinstance(command, str)
    assert said in command


def test_the_loop_tells_the_criterion_and_a_failure() -> None:
    after = "IterationCounter: 8; the loop ends, criterion 1: iteration 8 of at most 8\n"
    events = [
        {
            "event": "task_result",
            "task": "a",
            "status": "ok",
            "message": "",
            "diff": [{"after": None}],
        },
        {
            "event": "task_result",
            "task": "b",
            "status": "changed",
            "message": "",
            "diff": [{"after": after}],
        },
    ]
    assert loop._reason(events) == "criterion 1: iteration 8 of at most 8"
    assert loop._reason(events[:1]) == ""
    events.append(
        {"event": "task_result", "task": "c", "status": "failed", "message": "no names", "diff": []}
    )
    assert "c: no names" in loop._failure("iterate.yml", events)
    assert loop.StepError("", 7).exit_code == ExitCode.REFUSED
    assert loop.StepError("", -9).exit_code == ExitCode.FAILED


def test_progress_is_said_once_and_shown_as_a_table() -> None:
    iterations = [loop.Iteration(0, 100, 100), loop.Iteration(1, 10, 4, 0.75, 0.5)]
    progress = loop.Progress("mappers work", "j-1 RUNNING", iterations)
    assert progress.open == 6
    console = Console(width=100, record=True, force_terminal=False)
    lines = loop._Lines(console)
    lines.show(progress)
    lines.show(progress)
    console.print(loop.table(progress, 12.3))
    text = console.export_text()
    assert text.count("iteration 1: accuracy 0.750, TSS 0.500") == 1
    assert "mappers work (12 s)  j-1 RUNNING" in text
    assert "4 of 10" in text
    assert "█" * 30 in text
