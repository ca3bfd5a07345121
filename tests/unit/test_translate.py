"""ansible-runner's events, as it gives them, become ours."""

from __future__ import annotations

from typing import Any

import pytest

from runbook.events.model import (
    HostCounts,
    Notice,
    PlayStarted,
    Recap,
    Status,
    TaskResult,
    TaskStarted,
)
from runbook.execute import translate


def raw(event: str, **data: Any) -> dict[str, Any]:
    base = {
        "task": "Do it",
        "task_action": "do",
        "resolved_action": "a.b.do",
        "host": "h",
        "duration": 0.25,
    }
    return {"event": event, "event_data": {**base, **data}}


def result(event: str, **data: Any) -> TaskResult:
    [translated] = translate.events(raw(event, **data))
    assert isinstance(translated, TaskResult)
    return translated


def test_starts() -> None:
    [play] = translate.events({"event": "playbook_on_play_start", "event_data": {"name": "P"}})
    assert isinstance(play, PlayStarted)
    assert play.name == "P"
    [task] = translate.events(raw("playbook_on_task_start"))
    assert isinstance(task, TaskStarted)
    assert (task.name, task.module) == ("Do it", "a.b.do")


@pytest.mark.parametrize(
    ("event", "data", "status", "changed"),
    [
        ("runner_on_ok", {"res": {"changed": False}}, Status.OK, False),
        ("runner_on_ok", {"res": {"changed": True}}, Status.CHANGED, True),
        ("runner_on_skipped", {}, Status.SKIPPED, False),
        ("runner_on_failed", {"res": {"msg": "no", "changed": True}}, Status.FAILED, False),
        (
            "runner_on_failed",
            {"res": {"changed": True}, "ignore_errors": True},
            Status.IGNORED,
            True,
        ),
        ("runner_on_unreachable", {"res": {"msg": "gone"}}, Status.UNREACHABLE, False),
        ("runner_on_unreachable", {"res": {}, "ignore_errors": True}, Status.IGNORED, False),
    ],
)
def test_status(event: str, data: dict[str, Any], status: Status, changed: bool) -> None:
    translated = result(event, **data)
    assert (translated.status, translated.changed) == (status, changed)
    assert (translated.host, translated.module, translated.seconds) == ("h", "a.b.do", 0.25)


def test_a_failure_keeps_message_kind_and_output() -> None:
    failed = result(
        "runner_on_failed",
        res={"msg": " no \n", "error_kind": "refused", "stderr": "e", "stdout": "e"},
    )
    assert (failed.message, failed.error_kind, failed.output) == ("no", "refused", "e")


def test_diff_and_plan_of_a_loop_are_those_of_its_items() -> None:
    items = [
        {"diff": {"before": "a", "after": "b"}, "plan": [{"resource": "r1"}], "changed": True},
        {
            "diff": [{"before": "c", "after": "d"}, {}],
            "plan": [{"resource": "r2"}],
            "changed": True,
        },
    ]
    looped = result("runner_on_ok", res={"changed": True, "results": items})
    assert [diff["before"] for diff in looped.diff] == ["a", "c"]
    assert [item["resource"] for item in looped.plan] == ["r1", "r2"]


def test_a_failed_loop_says_which_items_failed() -> None:
    items = [
        {"item": "a", "msg": "fine"},
        {"item": {"x": 1}, "failed": True, "msg": "bad", "error_kind": "stale"},
    ]
    looped = result("runner_on_failed", res={"msg": "One or more items failed", "results": items})
    assert looped.message == '{"x": 1}: bad'
    assert looped.error_kind == "stale"


def test_an_invocation_never_travels() -> None:
    ok = result(
        "runner_on_ok", res={"changed": False, "invocation": {"module_args": {"pw": "hunter22"}}}
    )
    assert "hunter22" not in str(ok)


def test_what_ansible_hides_is_said_to_be_hidden() -> None:
    assert "no_log" in result("runner_on_ok", res={"censored": "hidden by no_log"}).message


def test_debug_is_shown() -> None:
    assert (
        result(
            "runner_on_ok", res={"x": 1, "changed": False, "_ansible_verbose_always": True}
        ).message
        == '{"x": 1}'
    )


def test_warnings() -> None:
    assert result("runner_on_ok", res={"warnings": ["a", {"msg": "b"}]}).warnings == ["a", "b"]


def test_recap_has_ansible_names() -> None:
    data = {
        "processed": {"h": 1, "g": 1},
        "ok": {"h": 3},
        "dark": {"g": 1},
        "failures": {"h": 1},
        "changed": {"h": 2},
    }
    [recap] = translate.events({"event": "playbook_on_stats", "event_data": data})
    assert isinstance(recap, Recap)
    assert recap.hosts == {
        "g": HostCounts(unreachable=1),
        "h": HostCounts(ok=3, changed=2, failed=1),
    }


def test_words_outside_steps() -> None:
    [notice] = translate.events({"event": "error", "stdout": "\x1b[0;31m[ERROR]: no\r\nway\x1b[0m"})
    assert isinstance(notice, Notice)
    assert (notice.level, notice.text) == ("error", "no\nway")
    [notice] = translate.events({"event": "error", "stdout": "[ERROR]: No inventory was parsed, x"})
    assert "ansible-inventory -vvv --list -i FILE says why" in notice.as_json()["text"]
    early = translate.events(
        {"event": "verbose", "stdout": "\x1b[0;31m[ERROR]: no vault password\r\n"}
    )
    assert early == [Notice("error", "no vault password")]
    assert translate.events({"event": "verbose", "stdout": " \r\n"}) == []


def test_unknown_events_mean_nothing() -> None:
    assert translate.events({"event": "playbook_on_notify", "event_data": {}}) == []
