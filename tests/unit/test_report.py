"""Reports of a run: complete, in the reader's order, safe whatever the names, and never too long."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from test_render import AT, LOSSES, PLANNED, RUNS

from runbook.errors import ExitCode, InvalidInputError
from runbook.events.model import (
    Event,
    HostCounts,
    Notice,
    Recap,
    Result,
    RunStarted,
    Status,
    TaskResult,
)
from runbook.events.render.report import content, file, markdown, page

NASTY = "<script>alert(1)</script>'\"&`|\N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m @team #12"


def reported(
    events: list[Event], code: ExitCode = ExitCode.OK, message: str = ""
) -> content.Content:
    gathered = content.Gathered()
    for event in events:
        gathered(event)
    return gathered.content(Result(code, "r1", "regular.yml", "labeller3", message=message))


class Parsed(HTMLParser):
    """The elements, attributes and texts of a page, and whether each element that is opened is closed."""

    VOID = frozenset({"meta", "rect", "path", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_needs_nothing_but_itself() -> None:
    text = page.page(reported(PLANNED))
    parsed = Parsed(text)
    assert not {"script", "img", "link", "iframe", "object"} & set(parsed.elements)
    assert not [
        name
        for name, _ in parsed.attributes
        if name in ("src", "href", "style") or name.startswith("on")
    ]
    (policy,) = [
        value
        for name, value in parsed.attributes
        if name == "content" and value and "default-src" in value
    ]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert not re.search(r"url\(|@import|https?:", style)


@pytest.mark.parametrize("rendered", [page.page, markdown.markdown])
def test_losses_come_before_what_is_made_and_the_steps(rendered: object) -> None:
    text = rendered(reported(PLANNED))  # type: ignore[operator]
    places = [
        text.index(part)
        for part in (
            "8 steps would change something", "regular run 1 replaces", "hit_data", "1,234",
            "3 processes stopped", "7,878 cells changed", "beware", "+++ /config.yaml",
        )
    ]  # fmt: skip
    assert places == sorted(places)


def test_numbers_of_several_hosts_are_added_up() -> None:
    found = reported(LOSSES)
    assert found.counts == {
        "steps with changes": 5, "rows deleted": 2, "rows replaced": 3, "other losses": 2, "warnings": 0,
    }  # fmt: skip
    text = markdown.markdown(found)
    assert (
        "| host | rows deleted | rows replaced | other losses |\n| --- | --: | --: | --: |" in text
    )
    assert "| one | 2 | 3 | 0 |\n| two | 0 | 0 | 2 |\n| total | 2 | 3 | 2 |" in text
    assert "### Deleted, replaced or stopped on one, two" in text
    assert "### Made or changed on four, one, three" in text
    assert [(row.name, row.host) for row in found.rows] == [
        ("Restore", "one"), ("Prune", "two"), ("Write", "four, three"), ("End", "two"),
    ]  # fmt: skip
    assert "- Write: /f: new, 1 line \\[four, three\\]" in text


def test_what_a_host_changed_before_it_failed_is_in_the_report_of_a_real_run() -> None:
    begun, *steps, _ = LOSSES
    counts = {"one": HostCounts(failed=1), **dict.fromkeys(("two", "three", "four"), HostCounts())}
    for check, rows in ((True, {}), (False, {"rows deleted": 2, "rows replaced": 3})):
        run = [replace(begun, check=check), *steps, Recap(counts)]
        found = reported(run, ExitCode.FAILED).counts
        assert {name: n for name, n in found.items() if "rows " in name and n} == rows


def test_a_failure_says_what_was_wrong_first() -> None:
    found = reported(RUNS["failed"], ExitCode.INVALID, "no bucket b\nmake it")
    assert found.verdict == "no bucket b"
    assert found.following[0] == "make it"
    assert any("Done before that" in line for line in found.following)
    assert 'class="verdict bad"' in page.page(found)


def test_input_that_no_run_was_made_of() -> None:
    problem = {"file": "a.yml", "line": 3, "message": "no such key"}
    gathered = content.Gathered()
    result = Result(
        ExitCode.INVALID, playbook="a.yml", target="t", message="1 error", problems=[problem]
    )
    found = gathered.content(result)
    assert "a.yml:3: no such key" in found.following
    assert "a.yml:3: no such key" in page.page(found)


def nasty(text: str) -> list[Event]:
    plan = [{"resource": text, "action": "clear", "counts": {"rows_deleted": 7}}]
    diff = [
        {"before_header": text, "after_header": text, "before": text, "after": text + "\n" + text}
    ]
    return [
        RunStarted("r1", text, text, True, {text: text}, operator=text, at=AT),
        Notice("warning", text, at=AT),
        *(
            TaskResult(host, text, text, Status.CHANGED, changed=True, plan=plan, diff=diff, message=text,
                       warnings=[text], backup_id=text, headline=text, at=AT)
            for host in (text, "other")
        ),
        TaskResult(text, text, text, Status.FAILED, message=text, output=text, at=AT),
    ]  # fmt: skip


def test_names_are_never_markup() -> None:
    found = reported(nasty(NASTY), ExitCode.FAILED, NASTY)
    text = page.page(found)
    assert "script" not in Parsed(text).elements
    for rendered in (text, markdown.markdown(found)):
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in rendered
        assert "\x1b" not in rendered
        assert "\\u202e" in rendered
    fences = re.compile(r"(`{3,})diff.*?\n\1", re.DOTALL)
    outside = re.sub(r"`[^`\n]*`", "", fences.sub("", markdown.markdown(found)))
    assert "<script" not in outside
    assert "@team" not in outside
    assert "#12" not in outside


TEXTS = some.text(max_size=40)
RESULTS = some.builds(
    TaskResult,
    host=TEXTS,
    task=TEXTS,
    module=TEXTS,
    status=some.sampled_from(Status),
    changed=some.booleans(),
    message=TEXTS,
    output=TEXTS,
    warnings=some.lists(TEXTS, max_size=2),
    diff=some.lists(some.fixed_dictionaries({"before": TEXTS, "after": TEXTS}), max_size=2),
    plan=some.lists(
        some.fixed_dictionaries(
            {
                "resource": TEXTS,
                "action": some.sampled_from(["clear", "write", "stop", "none"]),
                "counts": some.dictionaries(TEXTS, some.integers(0, 10**9), max_size=2),
            }
        ),
        max_size=3,
    ),
)


@given(some.lists(RESULTS, max_size=5))
def test_any_run_has_a_report(results: list[TaskResult]) -> None:
    found = reported([PLANNED[1], *results])
    Parsed(page.page(found))
    assert len(markdown.markdown(found)) <= markdown.LIMIT


@pytest.mark.parametrize(
    ("steps", "lines", "length", "left_out"),
    [
        (1, 100_000, 20, "0 lines → 100,000 lines"),
        (2_000, 3, 20, "more"),
        (40, 2_000, 100, "more"),
        (3, 50, 10_000, ""),
    ],
)
def test_a_report_is_never_too_long(steps: int, lines: int, length: int, left_out: str) -> None:
    after = "".join(f"{'`<x' * (length // 3)}{number}\n" for number in range(lines))
    diff = [{"before_header": "f", "after_header": "f", "before": "", "after": after}]
    plan = [
        {"resource": f"t{n}", "action": "clear", "counts": {"rows_deleted": 9}}
        for n in range(min(lines, 50))
    ]
    step = TaskResult(
        "h",
        "Write",
        "m",
        Status.CHANGED,
        changed=True,
        diff=diff,
        plan=plan,
        warnings=["w" * length],
        at=AT,
    )
    found = reported(
        [PLANNED[1], *(replace(step, task=f"Write {number}") for number in range(steps))]
    )
    assert len(page.page(found).encode()) <= 1_000_000
    text = markdown.markdown(found)
    assert len(text) <= markdown.LIMIT
    assert text.count("<details>") == text.count("</details>")
    assert left_out in text


def test_lines_left_out_are_counted() -> None:
    after = "".join(f"{number}\n" for number in range(1_000))
    diff = [{"before": "", "after": after}]
    (step,) = reported(
        [TaskResult("h", "W", "m", Status.CHANGED, changed=True, diff=diff, at=AT)]
    ).steps
    assert len(step.diff) == content.LINES
    assert step.left_out == 1_003 - content.LINES


@pytest.mark.parametrize(
    ("name", "start"), [("r.html", "<!DOCTYPE html>"), ("r.md", "<!-- runbook: ")]
)
def test_the_name_says_the_format(tmp_path: Path, name: str, start: str) -> None:
    said: list[str] = []
    write = file.ReportFile(tmp_path / name, said.append)
    for event in [*PLANNED, Result(ExitCode.OK, "r1", "regular.yml", "labeller3")]:
        write(event)
    assert (tmp_path / name).read_text().startswith(start)
    assert said == []


def test_a_name_of_no_format_or_folder_is_refused(tmp_path: Path) -> None:
    for path, expected in (
        (tmp_path / "r.pdf", r"\.html or \.md"),
        (tmp_path / "none/r.md", "no folder"),
    ):
        with pytest.raises(InvalidInputError, match=expected):
            file.ReportFile(path, print)


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    write = file.ReportFile(tmp_path / "r.md", said.append)
    (tmp_path / "r.md").mkdir()
    write(Result(ExitCode.OK))
    assert said == [f"the report {tmp_path / 'r.md'} was not written: Is a directory"]
