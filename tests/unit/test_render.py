"""The output of a run for people and programs, compared with files (RENEW=1 writes them)."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from runbook.collection import root
from runbook.errors import ExitCode
from runbook.events.model import (
    Event,
    HostCounts,
    Notice,
    ParametersRead,
    PlayStarted,
    Progress,
    Recap,
    Result,
    RunFinished,
    RunStarted,
    Status,
    TaskResult,
    TaskStarted,
)
from runbook.events.render import text
from runbook.events.render.jsonlines import JsonLines
from runbook.events.render.live import Live
from runbook.events.render.people import Brief, Detail, Plain, Terminal
from runbook.events.render.summary import Summary

CASES = Path(__file__).resolve().parent.parent / "cases" / "render"
AT = "2026-01-02T03:04:05.678+00:00"

PLAN = [
    {
        "resource": "hit_data",
        "action": "clear",
        "counts": {"rows_deleted": 1234},
        "before_fingerprint": "x",
    },
    {"resource": "s3://b/f_pool.csv", "action": "create", "counts": {}, "before_fingerprint": "y"},
    {"resource": "same", "action": "none", "counts": {"rows": 3}, "before_fingerprint": "z"},
]
DIFF = [
    {"before_header": "crontab", "after_header": "crontab", "before": "a\nb\n", "after": "a\nc\n"},
    {"before": {"k": 1}, "after": {"k": 2}},
]


def step(name: str, status: Status, host: str = "sandbox", **rest: object) -> list[Event]:
    return [
        TaskStarted(name, "labeller.runbook.step", at=AT),
        TaskResult(host, name, "labeller.runbook.step", status, seconds=1.25, at=AT, **rest),  # type: ignore[arg-type]
    ]


def run(
    check: bool, *steps: Event, code: ExitCode = ExitCode.OK, unfinished: str = "", **counts: int
) -> list[Event]:
    changed = any(isinstance(event, TaskResult) and event.changed for event in steps)
    return [
        RunStarted(
            "r1",
            "regular.yml",
            "sandbox",
            check,
            {"run_id": 1, "db_pwd": "********"},
            operator="eva@desk",
            at=AT,
        ),
        PlayStarted("Regular production", at=AT),
        *steps,
        Recap({"sandbox": HostCounts(**counts)}, at=AT),
        RunFinished(check, code, changed, 2.5, unfinished, at=AT),
    ]


def rows(step: str, table: str, action: str, **counts: int) -> dict[str, object]:
    return {"resource": f"{step}: {table} (Africa@db:5432)", "action": action, "counts": counts}


def changes(
    name: str,
    *plan: tuple[str, str, str, str] | dict[str, object],
    host: str = "sandbox",
    **rest: object,
) -> list[Event]:
    """A step that changes files, each a resource, an action and the text before and after."""
    files = [item for item in plan if isinstance(item, tuple)]
    return step(
        name, Status.CHANGED, host, changed=True,
        plan=[{"before_fingerprint": "x", **(item if isinstance(item, dict) else
               {"resource": item[0], "action": item[1], "counts": {}})} for item in plan],
        diff=[{"before_header": resource, "after_header": resource, "before": before, "after": after}
              for resource, _, before, after in files], **rest,
    )  # fmt: skip


#: A check like that of regular.yml over a live run.
PLANNED: list[Event] = [
    Notice("warning", "hosts.yml:3: an old key", at=AT),
    RunStarted(
        "r1", "regular.yml", "sandbox", True,
        {"run_id": 1, "bucket": "a-bucket-with-a-name-that-is-much-too-long", "learner": {"key": 1},
         "empty": "", "db_pwd": "********", "api_key": "********"}, at=AT,
    ),
    PlayStarted("Regular production", at=AT),
    *step("Read the run marker", Status.OK, headline="Another run: regular run 1 replaces regular run 0"),
    *changes("Remove the crontab", ("/var/crontab", "write", "a\nb\nc\n", "a\n")),
    *changes("Stop the daemons", {"resource": "daemons of /home/labeller", "action": "stop", "counts": {"processes": 3}}),
    *changes("Back up", {"resource": "s3://b/backups/", "action": "back up", "counts": {"tables": 2, "rows": 1500}}),
    *changes(
        "Reset the database",
        rows("run_marker", "run marker", "insert", rows_inserted=1),
        rows("pg_clear", "user_maps", "delete", rows_deleted=20),
        rows("pg_clear", "hit_data", "delete", rows_deleted=1234),
        rows("pg_clear", "kml_data", "replace", rows_deleted=266, rows_inserted=106),
        rows("pg_clear", "system_data", "none"),
        rows("f_pool", "master_grid", "update", cells_changed=7878),
        {"resource": "f_pool: s3://b/planet/f_pool_ghana_1.csv", "action": "upload", "counts": {"rows": 78, "bytes": 900}},
        warnings=["beware"],
    ),
    *changes("Configure", ("/config.yaml", "write", "a\nb\n", "a\nc\nd\n"), ("s3://b/config.yaml", "write", "", "a\n")),
    *changes("Define", ("s3://b/learner/sandbox/request.json", "write", "", "a\n"), ("/home/labeller/a.sh", "write", "", "a\n")),
    *changes("Make it executable", ("/daemon.py", "modify", "mode: 0644\n", "mode: 0755\n")),
    *step("Foreign", Status.CHANGED, changed=True, message="restarted"),
    *step("Skip", Status.SKIPPED),
    Recap({"sandbox": HostCounts(ok=8, changed=7, skipped=1)}, at=AT),
    RunFinished(True, ExitCode.OK, True, 2.5, at=AT),
]  # fmt: skip

#: A check of a restore and of what else takes something away, on two hosts.
LOSSES: list[Event] = [
    RunStarted("r1", "restore.yml", "both", True, at=AT),
    *changes("Restore", {
        "resource": "Africa@db:5432 table kml_data", "action": "restore",
        "counts": {"rows_before": 9, "rows_after": 8, "rows_appear": 1, "rows_vanish": 2, "rows_differ": 3},
    }, {
        "resource": "Africa@db:5432 table hit_data", "action": "restore",
        "counts": {"rows_before": 0, "rows_after": 8, "rows_appear": 8, "rows_vanish": 0, "rows_differ": 0},
    }, host="one"),
    *changes("Prune", {"resource": "s3://b/20260101/", "action": "remove", "counts": {"backups": 1}}, host="two"),
    *[event for host in ("three", "four") for event in changes("Write", ("/f", "write", "", "a\n"), host=host)],
    *changes("End", {"resource": "learner of ghana, run 1", "action": "terminate", "counts": {}}, host="two"),
    RunFinished(True, ExitCode.OK, True, 2.5, unchecked=["Run a command"], at=AT),
]  # fmt: skip


def told(table: str, rows: int, total: int | None = 2000, **more: object) -> Progress:
    said = f"back up: {rows} rows"
    return Progress(
        "sandbox", "Back up", table, "back up", rows, 99 * rows, total, at=AT, message=said, **more
    )  # type: ignore[arg-type]


CHANGED = step(
    "Reset the database", Status.CHANGED, changed=True, plan=PLAN, diff=DIFF, warnings=["beware"]
)
RUNS: dict[str, list[Event]] = {
    "planned": PLANNED,
    "losses": LOSSES,
    "refused": run(True, *step("Read the marker", Status.FAILED, message="unprocessed names", warnings=["old"]),
                   code=ExitCode.REFUSED, failed=1),
    "check": run(True, *step("Read the marker", Status.OK), *CHANGED, *step("Skip", Status.SKIPPED),
                 ok=2, changed=1, skipped=1),
    "apply": run(False, *step("Read the marker", Status.OK, message="not in place"), *CHANGED, ok=2, changed=1),
    "nothing": run(False, *step("Read the marker", Status.OK), ok=1),
    "failed": run(False, *CHANGED, *step("Upload", Status.FAILED, message="no bucket b\nmake it", error_kind="invalid_input",
                  output="boom"), *step("Tolerated", Status.IGNORED, message="so what"),
                  code=ExitCode.INVALID, ok=1, changed=1, failed=1, ignored=1),
    "unreachable": run(True, *step("Read the marker", Status.UNREACHABLE, message="no route"),
                       code=ExitCode.UNREACHABLE, unreachable=1),
    "interrupted": run(False, *step("Read the marker", Status.OK), *CHANGED,
                       code=ExitCode.INTERRUPTED, unfinished="Upload", ok=2, changed=1),
    "progress": run(False, TaskStarted("Back up", "m", at=AT), told("hits", 500), told("hits", 2000, done=True),
                    *step("Back up", Status.OK)[1:], ok=1),
    "notices": run(False, Notice("warning", "old key", at=AT), Notice("error", "[bold]two\nlines", at=AT),
                   Notice("verbose", "chatter", at=AT), *step("A", Status.OK), *step("A", Status.OK, "other"), ok=1),
}  # fmt: skip


def held(name: str, shown: str) -> None:
    file = CASES / name
    if os.environ.get("RENEW"):
        file.write_text(shown)
    assert shown == file.read_text(), f"{file} differs; RENEW=1 writes it when that is meant"


@pytest.mark.parametrize("name", RUNS)
def test_plain(name: str) -> None:
    stream = io.StringIO()
    plain = Plain(Detail(), stream)
    for event in RUNS[name]:
        plain(event)
    held(f"{name}.txt", stream.getvalue())


def test_plain_shows_more_when_asked() -> None:
    stream = io.StringIO()
    plain = Plain(Detail(verbosity=1), stream)
    for event in RUNS["check"] + RUNS["apply"] + RUNS["notices"]:
        plain(event)
    held("verbose.txt", stream.getvalue())


def test_plain_says_now_and_then_how_far_a_long_step_is() -> None:
    stream, now = io.StringIO(), [0.0]
    plain = Plain(Detail(), stream, lambda: now[0])
    plain(TaskStarted("Back up", "m", at=AT))
    for second in range(1, 100):
        now[0] = float(second)
        plain(told("hits", second))
        plain(told("done", 2000, done=True))
    plain(TaskStarted("Next", "m", at=AT))
    plain(told("hits", 100))
    assert stream.getvalue().splitlines() == [
        f"running: Back up [sandbox]: hits: back up: {second} rows" for second in (30, 60, 90)
    ]


def test_terminal_shows_the_tables_of_the_running_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(variable, value)
    stream = io.StringIO()
    console = Console(file=stream)
    live = Live(console)

    def shown() -> list[str]:
        stream.seek(0)
        stream.truncate()
        for part in live._tables():
            console.print(part)
        return [line.rstrip() for line in stream.getvalue().splitlines()]

    live(TaskStarted("Back up", "m", at=AT))
    for event in (
        told("waits", 0),
        told("half", 1000),
        told("unknown", 7, None),
        told("over", 2100),
    ):
        live(event)
    assert [line.replace("━", "").replace("╺", "").split() for line in shown()] == [
        ["half", "50%", "back", "up:", "1000", "rows"],
        ["unknown", "back", "up:", "7", "rows"],
        ["over", "100%", "back", "up:", "2100", "rows"],
        ["waits", "0%", "back", "up:", "0", "rows"],
    ]
    live(told("half", 2000, done=True))
    assert not any("half" in line for line in shown())
    for number in range(9):
        live(told(f"more{number}", 1))
    assert len(shown()) == 9
    assert shown()[-1] == "and 4 more"
    live(step("Back up", Status.OK)[1])
    assert shown() == []
    live.stop()


def test_how_much_is_done() -> None:
    assert text.fraction(told("t", 500)) == 0.25
    assert text.fraction(told("t", 500, None)) is None
    assert text.fraction(told("t", 500, None, total_bytes=99000)) == 0.5
    assert text.fraction(told("t", 5000)) == 1
    assert text.fraction(told("t", 5, done=True)) == 1


@pytest.mark.parametrize("name", RUNS)
def test_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"TERM": "xterm-256color", "COLUMNS": "100", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    terminal = Terminal(Detail(diff=name != "planned"), stream, live=False)
    for event in RUNS[name]:
        terminal(event)
    held(f"{name}.ansi", stream.getvalue())


def test_terminal_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "TERM": "xterm",
        "COLUMNS": "100",
        "FORCE_COLOR": "1",
        "NO_COLOR": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    stream = io.StringIO()
    terminal = Terminal(Detail(), stream, live=False)
    for event in RUNS["check"]:
        terminal(event)
    coloured = [code for code in ("[31m", "[32m", "[33m", "[36m") if code in stream.getvalue()]
    assert not coloured


def test_every_event_fits_its_schema() -> None:
    schemas = {
        name: jsonschema.Draft202012Validator(
            json.loads((root() / "schemas" / f"{name}.schema.json").read_text()),
            format_checker=jsonschema.FormatChecker(),
        )
        for name in ("event", "result")
    }
    for schema in schemas.values():
        schema.check_schema(schema.schema)
    stream = io.StringIO()
    json_lines = JsonLines(stream)
    read = ParametersRead({"bucket [h]": "maps"}, at=AT)
    done = Result(
        ExitCode.OK,
        hosts={"h": HostCounts(ok=1)},
        plan=[{"host": "h", **each} for each in PLAN],
        at=AT,
    )
    for event in [event for events in RUNS.values() for event in events] + [read, done]:
        json_lines(event)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    kinds = {line["event"] for line in lines}
    assert kinds == {cls.kind() for cls in Event.__subclasses__()}
    for line in lines:
        schemas["result" if line["event"] == "result" else "event"].validate(line)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_summary_fits_its_width_and_a_screen(width: int) -> None:
    summary = Summary()
    for event in PLANNED:
        summary(event)
    lines = [line.text for line in summary.lines(width)]
    assert max(map(len, lines)) <= width
    assert len(lines) <= 35
    assert "\N{NO-BREAK SPACE}" not in "".join(lines)


def test_daemons_that_a_restart_of_the_host_ended_leave_pid_files() -> None:
    summary = Summary()
    files = {"resource": "daemons of /home/labeller", "action": "stop", "counts": {"processes": 0}}
    for event in run(True, *changes("Stop the daemons", files)):
        summary(event)
    lines = [line.text.strip() for line in summary.lines(80)]
    assert "daemons of /home/labeller: pid files of ended processes removed" in lines


def test_the_headlines_of_a_saved_plan_are_above_what_is_lost() -> None:
    results = [event for event in RUNS["check"] if isinstance(event, TaskResult)]
    lines = [line.text for line in Summary(results=results, headlines=["Another run"]).lines()]
    assert lines[-3:] == [
        "Another run", "Deleted, replaced or stopped:", "  hit_data 1,234 rows deleted",
    ]  # fmt: skip


def test_warnings_are_shown_when_no_run_has_finished() -> None:
    stream = io.StringIO()
    plain = Plain(Detail(), stream)
    plain(Notice("warning", "old key", at=AT))
    plain(Result(ExitCode.UNREACHABLE, at=AT))
    assert stream.getvalue() == "warning: old key\n"


def test_a_huge_diff_is_counted_not_computed() -> None:
    huge = "x\n" * (text.DIFF_INPUT + 1)
    assert text.diff_lines({"before": "", "after": huge})[-1] == "0 lines → 20,001 lines"


def test_a_step_says_of_lines_what_the_check_said() -> None:
    """For a change without counts; without its diff the action is all that is known."""
    for before, after, said in (
        ("a\nb\n", "a\nc\nd\n", "2 lines added, 1 removed"),
        ("", "a\nb\n", "new, 2 lines"),
        ("a\nb\n", "", "2 lines removed"),
        ("1\n", "2\n", "1 → 2"),
    ):
        plan = {"resource": "crontab", "action": "write", "counts": {}}
        diff = {"before_header": "crontab", "after_header": "crontab",
                "before": before, "after": after}  # fmt: skip
        result = TaskResult("h", "Install", "m", Status.CHANGED, True, diff=[diff], plan=[plan])
        assert text.summary(result) == f"crontab: {said}"
        checked = Summary(results=[result]).lines()
        assert any(said in line.text for line in checked), [line.text for line in checked]
        assert text.summary(dataclasses.replace(result, diff=[])) == "crontab: write"
        stopped = dataclasses.replace(result, plan=[{**plan, "action": "stop"}])
        assert text.summary(stopped) == "crontab: stop"


def test_a_step_of_many_changes_says_its_rows_in_all() -> None:
    plan = [rows("pg_clear", name, "clear", rows_deleted=2, rows_inserted=1) for name in "abcd"]
    result = TaskResult("h", "Reset", "pg_transaction", Status.CHANGED, True, plan=plan, at=AT)
    assert text.summary(result) == "8 rows deleted, 4 rows inserted"
    restored = {
        "rows_before": 3,
        "rows_after": 3,
        "rows_appear": 1,
        "rows_vanish": 1,
        "rows_differ": 2,
    }
    many = dataclasses.replace(result, plan=[rows("r", n, "restore", **restored) for n in "abcd"])
    assert text.summary(many) == "4 rows deleted, 4 rows inserted, 8 rows replaced"
    few = dataclasses.replace(result, plan=plan[:1])
    assert text.summary(few) == "pg_clear: a: 2 rows deleted, 1 row inserted"


def test_counts_in_words() -> None:
    assert (
        text.counts({"rows_deleted": 1200, "rows": 0, "bytes": 5}) == "1,200 rows deleted, 5 bytes"
    )
    assert text.counts({"rows_deleted": 1, "processes": 1}) == "1 row deleted, 1 process"


def brief(*, only_check: bool, changed: bool, code: ExitCode = ExitCode.OK) -> list[str]:
    """The lines of a check run, and of the real run that follows one that would change something."""
    stream = io.StringIO()
    show = Brief(only_check=only_check, stream=stream)
    status = Status.CHANGED if changed else Status.OK
    for check in (True, False):
        show(RunStarted("r", "p.yml", "t", check, at=AT))
        show(TaskResult("h", "Read", "m", Status.OK, at=AT))
        show(TaskResult("h", "Write", "m", status, changed=changed, at=AT))
        show(RunFinished(check, code, changed, 1.0, at=AT))
        if only_check or not changed or code != ExitCode.OK:
            break
    return stream.getvalue().splitlines()


def test_brief_is_one_line_when_there_is_nothing_to_do() -> None:
    assert brief(only_check=False, changed=False) == [
        f"{AT} Nothing to change: the target is as the playbook says."
    ]


def test_brief_says_of_an_apply_what_it_did_once() -> None:
    assert brief(only_check=False, changed=True) == [
        f"{AT} changed: Write [h]",
        f"{AT} Done, as planned: 1 step changed something.",
    ]


def test_brief_says_what_a_real_run_did_when_it_was_done() -> None:
    """A log has the time of each step, and the steps of a run that was killed."""
    stream = io.StringIO()
    show = Brief(only_check=False, stream=stream)
    show(RunStarted("r", "p.yml", "t", False, at=AT))
    for minute, status in enumerate((Status.CHANGED, Status.OK, Status.CHANGED)):
        at = f"2026-01-14T09:3{minute}:00.000+00:00"
        show(TaskResult("h", f"Step {minute}", "m", status, changed=status != Status.OK, at=at))
        line = f"{at} changed: Step {minute} [h]\n"
        assert stream.getvalue().endswith(line) == (status != Status.OK)
    show(RunFinished(False, ExitCode.OK, True, 1.0, at=AT))
    assert stream.getvalue().splitlines()[2:] == [
        f"{AT} Done, as planned: 2 steps changed something."
    ]


def test_brief_says_what_a_check_alone_found_and_what_failed() -> None:
    assert brief(only_check=True, changed=True)[0] == f"{AT} changed: Write [h]"
    assert brief(only_check=False, changed=True, code=ExitCode.FAILED)[-1].endswith("was a check.")


def test_a_run_that_was_stopped_early_shows_no_counts_of_its_check() -> None:
    stream = io.StringIO()
    plain = Plain(Detail(), stream)
    for event in [*RUNS["check"], RunStarted("1", "a.yml", "b", check=False, at=AT),
                  RunFinished(False, ExitCode.INTERRUPTED, False, 1.0, "Read", at=AT)]:  # fmt: skip
        plain(event)
    said = stream.getvalue().rpartition("Apply a.yml")[2]
    assert "changed=" not in said
    assert "Interrupted.\nNothing was changed before that.\nCut off: Read." in said


def test_lines_are_broken_between_words_but_for_what_is_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The counts of the recap lose their blanks first; a diff, and the command to try, stay."""
    monkeypatch.setenv("COLUMNS", "60")
    command = f"cannot be reached; this must work: ssh -i {'k' * 50} mapper@labeller3"
    events = [*RUNS["interrupted"][:-2], *step("x" * 60, Status.SKIPPED),
              *step("Read", Status.UNREACHABLE, message=command), *RUNS["interrupted"][-2:]]  # fmt: skip
    stream = io.StringIO()
    terminal = Terminal(Detail(diff=True), stream, live=False)
    for event in events:
        terminal(event)
    shown = stream.getvalue().splitlines()
    assert f"      {command}" in shown
    assert [line for line in shown if len(line) > 60] == [f"      {command}"]
    assert "sandbox : ok=2 changed=1 unreachable=0 failed=0 skipped=0" in shown
    assert any("x…" in line and line.endswith("1.2 s") for line in shown), shown
