"""A plan is scored by the run that followed it."""

from __future__ import annotations

from typing import Any

from runbook.events.model import Status, TaskResult
from runbook.events.score import unplanned


def step(task: str, *counts: dict[str, int], changed: bool = True, host: str = "one") -> TaskResult:
    plan: list[dict[str, Any]] = [
        {"resource": f"r{n}", "action": "write", "counts": each} for n, each in enumerate(counts)
    ]
    return TaskResult(host, task, "m", Status.CHANGED, changed=changed, plan=plan)


def test_as_planned() -> None:
    results = [
        step("Clear", {"rows_deleted": 5}),
        step("Run a command"),
        step("Look", changed=False),
    ]
    assert unplanned(results, results) == []
    assert unplanned(results, [*results, step("Look again", changed=False)]) == []


def test_the_texts_that_only_a_plan_file_has_are_no_difference() -> None:
    planned, done = step("Write", {}), step("Write", {})
    planned.plan[0] |= {"before": "", "after": "a\nb\n"}
    assert unplanned([planned], [done]) == []


def test_what_was_done_otherwise_is_named() -> None:
    planned = [step("Stop", {"processes": 2}), step("Write"), step("Same", {"rows": 1})]
    done = [step("Stop", {"processes": 3}), step("Command", host="two"), step("Same", {"rows": 1})]
    assert unplanned(planned, done) == [
        "Stop [one]: planned r0: 2 processes, done r0: 3 processes",
        "Write [one]: planned a change, done nothing",
        "Command [two]: planned nothing, done a change",
    ]


def test_of_what_a_check_could_not_show_nothing_was_planned() -> None:
    planned = [step("Follow the learner", changed=False), step("Write")]
    done = [step("Follow the learner"), step("Write"), step("Advance", {"rows_inserted": 10})]
    assert unplanned(planned, done, seen=False) == []
    assert unplanned(planned, done[:1], seen=False) == [
        "Write [one]: planned a change, done nothing"
    ]
