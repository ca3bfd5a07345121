"""The output of ``runbook drift`` for the events of a check run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook.errors import ExitCode
from runbook.events import journal
from runbook.events.model import (
    HostCounts,
    Recap,
    Result,
    RunFinished,
    RunStarted,
    Status,
    TaskResult,
)
from runbook.flow.drift import SHOWN, Drift, recorded
from runbook.load import schemas

OURS = "labeller.runbook."


def step(module: str, task: str = "Step", **more: Any) -> TaskResult:
    changed = bool(more.get("plan") or more.get("diff"))
    status = more.pop("status", Status.CHANGED if changed else Status.OK)
    return TaskResult("here", task, module, status, changed=changed, **more)


def change(before: str, after: str) -> dict[str, Any]:
    plan = [{"resource": "crontab", "action": "update", "counts": {"lines_added": 1}}]
    diff = {"before_header": "crontab", "after_header": "crontab", "before": before, "after": after}
    return {"plan": plan, "diff": [diff]}


def drift(*results: TaskResult | Recap, code: ExitCode = ExitCode.OK, **more: Any) -> Drift:
    found = Drift(**more)
    for event in (
        *results,
        RunFinished(
            check=True, exit_code=code, changed=False, seconds=1, unfinished="", unchecked=[]
        ),
        Result(code, run_id="1", playbook="p.yml", target="t", check=True),
    ):
        found(event)
    return found


MARKER = step(f"{OURS}run_marker", message="in place: regular run 0 on ghana, AOI 1")
CRONTAB = step(f"{OURS}crontab_profile", "Install the crontab", **change("a\nb\n", "a\n"))
REFUSED = step(
    f"{OURS}run_marker", status=Status.FAILED, error_kind="refused", message="tables disagree"
)
HOLDER = step(f"{OURS}lease", headline="olli@laptop is changing the target")


@pytest.mark.parametrize(
    ("results", "ended", "code"),
    [
        ((MARKER,), ExitCode.OK, ExitCode.OK),
        ((MARKER, CRONTAB), ExitCode.OK, ExitCode.CHANGES),
        ((step("ansible.builtin.copy", diff=[{"prepared": "x"}]),), ExitCode.OK, ExitCode.CHANGES),
        # Tables that contradict each other; but not every warning is one.
        ((step(f"{OURS}database_consistent", warnings=["w"]),), ExitCode.OK, ExitCode.CHANGES),
        ((step(f"{OURS}crontab_profile", warnings=["a line of yours"]),), ExitCode.OK, ExitCode.OK),
        ((REFUSED,), ExitCode.REFUSED, ExitCode.CHANGES),
        # A run at work: what is seen is half of its work.
        ((MARKER, HOLDER, CRONTAB), ExitCode.OK, ExitCode.LOCKED),
        ((MARKER, HOLDER), ExitCode.OK, ExitCode.LOCKED),
        # No answer.
        ((MARKER, HOLDER), ExitCode.UNREACHABLE, ExitCode.UNREACHABLE),
        ((CRONTAB,), ExitCode.FAILED, ExitCode.FAILED),
        ((CRONTAB,), ExitCode.INTERRUPTED, ExitCode.INTERRUPTED),
    ],
)
def test_exit_codes(results: tuple[TaskResult, ...], ended: ExitCode, code: ExitCode) -> None:
    assert drift(*results, code=ended).exit_code == code


def test_a_host_that_the_check_did_not_come_to_is_named_and_fails_it() -> None:
    found = Drift()
    for event in (
        REFUSED,
        RunFinished(True, ExitCode.REFUSED, changed=False, seconds=1, not_checked=["there"]),
        Result(ExitCode.REFUSED, run_id="1", playbook="p.yml", target="t", check=True),
    ):
        found(event)
    assert found.exit_code == ExitCode.FAILED
    assert "  cannot tell [there]: not checked: the check ended before it came to this host" in [
        *found.lines()
    ]
    assert [*found.as_json()["failed"]] == ["there"]


def test_text() -> None:
    since = {"run_id": "7", "at": "2026-01-02T03:04:05+00:00"}
    assert list(drift(MARKER, since=since).lines()) == [
        "p.yml on t: no drift since run 7, which ended 2026-01-02 03:04 UTC",
        "  in place [here]: regular run 0 on ghana, AOI 1",
    ]
    head, *said = drift(MARKER, CRONTAB).lines()
    assert head.startswith("p.yml on t: drifted; no run")
    assert said[1:] == [
        "  Install the crontab [here]: crontab: 1 line added", "    -b",
        "runbook apply p.yml -i t --check shows what an apply would do.",
    ]  # fmt: skip
    assert (
        "  an apply would be refused [here]: tables disagree"
        in drift(REFUSED, code=ExitCode.REFUSED).lines()
    )


def on(host: str, result: TaskResult) -> TaskResult:
    return replace(result, host=host)


def test_a_host_that_fails_hides_no_other() -> None:
    lost = replace(on("c", MARKER), status=Status.UNREACHABLE, message="timed out", task="Read")
    results = [on("a", MARKER), on("b", CRONTAB), lost]
    counts = {"a": HostCounts(ok=1), "b": HostCounts(ok=1), "c": HostCounts(unreachable=1)}
    found = drift(Recap(counts), *results, code=ExitCode.UNREACHABLE)
    assert found.exit_code == ExitCode.UNREACHABLE
    said = list(found.lines())
    assert said[0].startswith("p.yml on t: drifted on b; no run")
    assert said[2:] == [
        "  Install the crontab [b]: crontab: 1 line added", "    -b", "  cannot tell [c]: Read: timed out",
        "runbook apply p.yml -i t --check shows what an apply would do.",
    ]  # fmt: skip
    schemas.validator("drift").validate(found.as_json())
    assert found.as_json()["failed"] == {"c": "Read: timed out"}
    held = drift(on("a", HOLDER), on("b", CRONTAB))
    assert held.exit_code == ExitCode.CHANGES
    assert held.as_json()["failed"] == {"a": "olli@laptop is changing the target"}


def test_a_long_difference_is_cut_unless_all_is_wanted() -> None:
    long = step("m", **change("".join(f"{n}\n" for n in range(SHOWN + 3)), ""))
    assert list(drift(long).lines())[-2] == "    3 more lines (--diff)"
    assert len(list(drift(long).lines(whole=True))) > SHOWN + 3


def test_the_last_answer_is_kept_for_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    assert recorded("t", "here") is None
    drift(MARKER, CRONTAB, step(f"{OURS}database_consistent", warnings=["w"])).keep()
    first = recorded("t", "here")
    assert first
    assert first["differences"] == ["Install the crontab", "w"]
    assert first["playbook"] == "p.yml"
    assert (recorded("t", "there"), recorded("u", "here")) == (None, None)
    drift(REFUSED, code=ExitCode.REFUSED).keep()
    refused = recorded("t", "here")
    assert refused
    assert refused["differences"] == ["an apply would be refused: tables disagree"]
    # A later run of the playbook ends it, one of another does not.
    for name, number, differences in (("q.yml", 1, refused["differences"]), ("p.yml", 2, [])):
        run = f"20990101T00000{number}-abcdef"
        kept = journal.Journal(run)
        kept(RunStarted(run, name, "t", check=False))
        kept(Result(ExitCode.OK, run, name, "t", hosts={"here": HostCounts()}))
        found = recorded("t", "here")
        assert found
        assert found["differences"] == differences
    (file,) = (tmp_path / "drift").iterdir()
    file.write_text("")  # as after a crash of the machine
    assert recorded("t", "here") is None
