"""Several hosts in few words, and how a run ended on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from runbook.commands import history, status
from runbook.errors import WORST, ExitCode, worst
from runbook.events import score
from runbook.events.model import HostCounts, RunFinished, Status, TaskResult
from runbook.events.render import fleet
from runbook.events.render.report import loop
from runbook.events.render.summary import Summary

AREAS = [f"area{number}" for number in range(1, 17)]
DASH = "\N{EN DASH}"


@pytest.mark.parametrize(
    ("some", "every", "said"),
    [
        (["area1"], ["area1"], "area1"),
        (["area2", "area1"], ["area1", "area2"], "area1, area2"),
        (AREAS, AREAS, "all 16 hosts"),
        ([*AREAS[:6], *AREAS[7:]], AREAS, "all but area7"),
        (AREAS[:6], AREAS, "area1 to area6"),
        (["area10", "area9", "area2"], AREAS, "area2, area9, area10"),
        ([], AREAS, ""),
    ],
)
def test_hosts_are_named_in_few_words(some: list[str], every: list[str], said: str) -> None:
    assert fleet.named(some, every) == said
    assert fleet.where(some, every) == ("" if some and {*some} == {*every} else f" [{said}]")


@pytest.mark.parametrize(
    ("by_host", "said"),
    [
        ({"a": "7 rows"}, [(("a",), "7 rows")]),
        ({"a": "1,943 rows", "b": "857 rows"}, [(("a", "b"), f"857{DASH}1,943 rows")]),
        ({"a": "s3://c/a/x: 9 rows", "b": "s3://c/b/x: 9 rows"}, [(("a", "b"), "s3://c/HOST/x: 9 rows")]),
        ({"area1": "area1: AOI 1", "area2": "area2: AOI 2"}, [(("area1", "area2"), f"HOST: AOI 1{DASH}2")]),
        # What differs in more than numbers, or in parentheses, is its own line.
        ({"a": "9 rows", "b": "new"}, [(("a",), "9 rows"), (("b",), "new")]),
        ({"a": "run 1 (88 of 100 names)", "b": "run 2 (100 of 100 names)", "c": "run 3 (100 of 100 names)"},
         [(("a",), "run 1 (88 of 100 names)"), (("b", "c"), f"run 2{DASH}3 (100 of 100 names)")]),
    ],
)  # fmt: skip
def test_lines_that_are_alike_are_folded(
    by_host: Mapping[str, str], said: list[tuple[tuple[str, ...], str]]
) -> None:
    assert fleet.folded(by_host) == said


def step(host: str, task: str, status: Status = Status.CHANGED, **more: Any) -> TaskResult:
    return TaskResult(host, task, "m", status, changed=status == Status.CHANGED, **more)


PLANNED = [step(host, task) for host in AREAS[:4] for task in ("Stop", "Reset", "Start")]
DONE = [
    *(step("area1", task) for task in ("Stop", "Reset", "Start")),
    step("area2", "Stop"), step("area2", "Reset", Status.FAILED, message="the disk is full"),
    step("area3", "Read", Status.UNREACHABLE, message="timed out"),
]  # fmt: skip
COUNTS = {"area1": HostCounts(ok=3), "area2": HostCounts(failed=1), "area3": HostCounts(unreachable=1)}  # fmt: skip


def test_the_steps_that_are_left_on_each_host() -> None:
    assert score.left(PLANNED, DONE) == {
        "area2": ["Reset", "Start"],
        "area3": ["Stop", "Reset", "Start"],
        "area4": ["Stop", "Reset", "Start"],
    }


def ended(code: ExitCode = ExitCode.UNREACHABLE, *, check: bool = False) -> RunFinished:
    left = {} if check else score.left(PLANNED, DONE)
    return RunFinished(check, code, changed=True, seconds=1, left=left)


def test_a_run_says_by_host_how_it_ended_the_worst_first() -> None:
    assert fleet.conclusion(ended(), DONE, COUNTS) == [
        "Stopped: 1 of 4 hosts are done.",
        "  area2: failed at 'Reset'; done before that: Stop",
        "  area3: unreachable at 'Read'; nothing was changed there",
        "  area4: not begun",
        "  area1: done",
        "Once the cause is fixed, runbook resume does what is missing, there only.",
    ]
    stopped = [*DONE, step("area4", "Stop")]
    said = fleet.conclusion(ended(), stopped, COUNTS)
    assert "  area4: not finished, as the run was stopped; done before that: Stop" in said
    said = fleet.conclusion(ended(ExitCode.INTERRUPTED), DONE, COUNTS)
    assert said[0] == "Interrupted: 1 of 4 hosts are done."


def test_a_check_names_the_hosts_that_it_failed_on() -> None:
    said = fleet.conclusion(ended(check=True), DONE, COUNTS)
    assert said[0] == "The check failed on 2 of 3 hosts: area2, area3."
    counts = {host: HostCounts(failed=1) for host in AREAS[:3]}
    assert fleet.conclusion(ended(check=True), [], counts)[0] == "The check failed on all 3 hosts."


def test_a_check_names_the_hosts_that_it_did_not_come_to() -> None:
    """Those of later batches: Ansible ends a play of which a whole batch failed."""
    failed = [step("area1", "Read", Status.UNREACHABLE), step("area2", "Read", Status.FAILED)]
    counts = {"area1": HostCounts(unreachable=1), "area2": HostCounts(failed=1)}
    end = replace(ended(check=True), not_checked=AREAS[2:5])
    assert fleet.conclusion(end, failed, counts) == [
        "The check failed on 2 of 5 hosts: area1, area2.",
        "Not checked, as the check ended before it came to them: area3, area4, area5.",
        "Nothing was changed: this was a check.",
    ]
    alone = fleet.conclusion(
        replace(end, not_checked=["area2"]), failed[:1], {"area1": counts["area1"]}
    )
    assert alone[1] == "Not checked, as the check ended before it came to them: area2."
    summary = Summary(counts=counts, results=failed)
    summary(end)
    assert summary.hosts == AREAS[:5]


def test_a_failure_that_was_rescued_is_none() -> None:
    counts = {**COUNTS, "area2": HostCounts(rescued=1)}
    assert fleet.ends(DONE, counts, {})["area2"].bad is None


def test_headlines_name_their_hosts() -> None:
    lines = [
        step(host, "Read", Status.OK, headline="run 2 replaces run 1 (100 of 100)")
        for host in AREAS
    ]
    odd = step("area7", "Read", Status.OK, headline="run 2 replaces run 1 (88 of 100)")
    assert fleet.headlines([*lines[:6], odd, *lines[7:]]) == [
        "run 2 replaces run 1 (100 of 100) [all but area7]",
        "run 2 replaces run 1 (88 of 100) [area7]",
    ]
    assert fleet.headlines(lines[:1]) == ["run 2 replaces run 1 (100 of 100) [area1]"]


def test_the_worst_exit_code_is_that_of_several() -> None:
    assert set(WORST) == {*ExitCode} - {ExitCode.USAGE}
    assert worst([]) == ExitCode.OK
    assert worst([ExitCode.OK, ExitCode.LOCKED, ExitCode.STALE]) == ExitCode.STALE
    assert worst([ExitCode.UNREACHABLE, ExitCode.FAILED]) == ExitCode.FAILED


def test_history_of_several_hosts_says_where_a_run_ended_how() -> None:
    def run(name: str, outcome: str) -> dict[str, Any]:
        at = f"2026-01-14T09:3{name}:12Z"
        return {
            "run": name, "operator": "olli", "playbook": "reset.yml", "outcome": outcome, "at": at,
        }  # fmt: skip

    hosts = {host: [run("2", "done"), run("1", "done")] for host in AREAS}
    hosts["area7"] = [run("2", "failed")]
    assert history.by_run(hosts) == [
        "  run  operator  playbook   outcome",
        "  2    olli      reset.yml  failed on area7; done on all but area7",
        "  1    olli      reset.yml  done on all but area7",
    ]
    assert history.by_run({"area1": [], "area2": []}) == ["no run in the journals of area1, area2"]


def test_status_of_several_hosts_is_a_table_that_fits_its_width() -> None:
    runs = loop.Instance(
        "area01", loop.Level.RUNS, (), [("run", "1, regular, applied x"), ("iteration", "3, mapping"),
        ("waits for", "mappers: 60 sites of iteration 3 are open")], (40, 100), [(2, 0.7, None)], (),
    )  # fmt: skip
    lost = loop.Instance(
        "area07", loop.Level.STOPPED, ["cannot be reached: " + "x " * 60], (), None, (), ()
    )
    lines = [line for line, _ in status.table(loop.Loop("t", "now", [lost, runs]), 80)]
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["area07", "needs", "a", "person"]
    assert lines[2].startswith("    cannot be reached: x x")
    assert (
        lines[-1]
        == "area01  runs            1/3, mapping   40/100  0.700     mappers: 60 sites of i…"
    )
