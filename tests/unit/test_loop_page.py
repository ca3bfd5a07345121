"""The loop's page: the same content as the terminal, safe whatever the names, worst first."""

from __future__ import annotations

import json
import math
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as some
from test_report import NASTY, Parsed
from test_status_text import ANSWERS, BACKUP, RUN, SKIPPED, answer, metrics, turn

from runbook.commands import status
from runbook.errors import ExitCode, InvalidInputError, RunbookError
from runbook.events.render import text
from runbook.events.render.report import file, loop, markdown, page, plots
from runbook.flow import query
from runbook.home import write_whole
from runbook.load import schemas

AT = "2026-01-02 03:04:05 UTC"
HOURS = [
    {"hour": "2026-01-01T22:00:00+00:00", "sites": 7},
    {"hour": "2026-01-02T01:00:00+00:00", "sites": 4},
]


def states(*names: str) -> dict[str, Any]:
    return {f"on-{name}": loop.state(answer(name)) for name in names}


def of_turn(**more: Any) -> dict[str, Any]:
    given = {"run": RUN, "turn": turn("mapping", 4, 12, **more), "learner": SKIPPED}
    return loop.state({**answer("none"), **given})


def content(found: dict[str, Any], **failed: str) -> loop.Loop:
    return loop.content("labeller3", AT, found, failed)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_renderer_shows_every_fact(name: str) -> None:
    found = content(states(name))
    (instance,) = found.instances
    shown = (
        "\n".join(status.lines(instance)),
        "".join(Parsed(page.loop_page(found)).texts),
        markdown.loop_markdown(found).replace("\\", ""),
    )
    for _, said in [*instance.facts, *(("", reason) for reason in instance.reasons)]:
        for line in said.splitlines():
            assert all(line in text for text in shown)


@pytest.mark.parametrize(
    ("drift", "fact", "reasons"),
    [
        (None, "not known on this machine: runbook drift PLAYBOOK looks for it", []),
        ([], "none from r.yml, as of 2026-01-01 21:04 UTC, 6 h ago", []),
        (
            ["Install the crontab", "x", "y"],
            "not as r.yml says: Install the crontab and 2 more, as of 2026-01-01 21:04 UTC, 6 h ago",
            ["not as r.yml says: Install the crontab and 2 more"],
        ),
    ],
)
def test_the_last_look_for_drift_is_shown_with_its_age(
    drift: list[str] | None, fact: str, reasons: list[str]
) -> None:
    at = {"at": "2026-01-01T21:04:05.678+00:00", "playbook": "r.yml"}
    given = None if drift is None else {**at, "differences": drift}
    found = {**of_turn(), "drift": given}
    schemas.validator("status").validate({"hosts": {"h": found}, "failed": {}})
    (instance,) = content({"h": found}).instances
    assert (instance.fact("drift"), instance.reasons) == (fact, reasons)
    assert instance.level == (loop.Level.LOOK if reasons else loop.Level.RUNS)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(59, ""), (60, ", 1 min ago"), (5400, ", 2 h ago"), (172_799, ", 48 h ago"),
     (172_800, ", 2 days ago"), (-60, "")],
)  # fmt: skip
def test_an_age_in_words(seconds: int, said: str) -> None:
    until = datetime(2026, 1, 2, tzinfo=UTC)
    since = (until - timedelta(seconds=seconds)).isoformat()
    assert text.age(since, f"{until:%Y-%m-%d %H:%M:%S} UTC") == said


def test_the_worst_is_first_and_has_its_row() -> None:
    named = dict(zip("abcd", ("stopped", "mapping", "locked", "failed"), strict=True))
    found = content(
        {host: loop.state(answer(name)) for host, name in named.items()},
        e="cannot connect\nport 22",
    )
    assert [(each.host, each.word) for each in found.instances] == [
        ("d", "needs a person"),
        ("e", "needs a person"),
        ("b", "look at it"),
        ("c", "look at it"),
        ("a", "no loop runs"),
    ]
    said = ["needs a person: d, e", "look at it: b, c", "no loop runs: a"]
    assert [line for _, line in found.verdict] == said
    text = page.loop_page(found)
    table = text[text.index("Instances, the worst first") :]
    places = [table.index(f'<td class="host">{each.host}</td>') for each in found.instances]
    assert places == sorted(places)
    assert "cannot connect" in table
    # Those that need a person are unfolded.
    assert re.findall(r'<details class="instance"( open)?>', text) == [
        " open",
        " open",
        " open",
        "",
    ]
    assert "| needs a person | e | cannot connect; port 22 |" in markdown.loop_markdown(found)


@pytest.mark.parametrize(
    ("backup", "said", "reason"),
    [
        (BACKUP, "size and checksum of its manifest", None),
        (
            {"msg": "no backup below s3://b/x/"},
            "no backup below",
            "no backup below",
        ),
        (
            {
                "backups": [
                    {**BACKUP["backups"][0], "intact": False, "problems": ["kml_data: gone"]}
                ]
            },
            "DAMAGED\nkml_data: gone",
            "is damaged: kml_data: gone",
        ),
    ],
)
def test_whether_the_backup_proves(backup: Any, said: str, reason: str | None) -> None:
    instance = loop.instance("h", loop.state({**answer("none"), "backup": backup}))
    assert said in dict(instance.facts)["backup"]
    assert (instance.level == loop.Level.LOOK) == bool(reason)
    assert not reason or reason in instance.reasons[0]


def test_only_a_watched_page_loads_itself_again() -> None:
    found = states("running")
    refresh = '<meta http-equiv="refresh" content="60">'
    assert refresh not in page.loop_page(loop.content("t", AT, found, {}))
    watched = loop.content("t", AT, found, {}, 60)
    assert refresh in page.loop_page(watched)
    assert page.loop_page(loop.ended(watched)) == page.loop_page(loop.content("t", AT, found, {}))


def test_each_plot_is_a_table_too() -> None:
    found = of_turn(metrics=metrics(None, 0.61, 0.72, 0.84), hours=HOURS)
    (instance,) = content({"h": found}).instances
    titles = [plot.title for plot in instance.plots]
    assert [title.partition(" ")[0] for title in titles] == ["Sites", "Accuracy", "Steps"]
    sites, accuracy, steps = instance.plots
    assert sites.rows == [("2026-01-01 22:00", "7"), ("2026-01-02 01:00", "4")]
    assert accuracy.rows[1] == ("2", "0.720", "0.420", "0.720")
    assert steps.rows == [("2", "0.110"), ("3", "0.120")]
    assert [name for name, _ in (*accuracy.limits, *steps.limits)] == [
        "accuracy has to be above 0.85",
        "step has to be below 0.01",
    ]
    text = page.loop_page(content({"h": found}))
    parsed = Parsed(text)
    assert parsed.elements.count("desc") == parsed.elements.count("figure") == 3
    assert not {"script", "img", "link", "image", "use"} & set(parsed.elements)
    for title in titles:
        assert f"<summary>{title} as a table</summary>" in text


@pytest.mark.parametrize(
    ("more", "plotted"),
    [
        ({"metrics": []}, 0),
        ({"metrics": metrics(None)}, 0),
        ({"metrics": metrics(None, 0.7)}, 1),
        ({"metrics": metrics(None, None)}, 1),
        ({"metrics": metrics(None, 0.7, None, 0.8)}, 1),
        ({"metrics": metrics(None, 0.7, 0.8), "criteria": None}, 2),
        ({"hours": HOURS[:1]}, 1),
    ],
)
def test_few_numbers_make_few_plots(more: Any, plotted: int) -> None:
    found = content({"h": of_turn(**more)})
    assert len(found.instances[0].plots) == plotted
    Parsed(page.loop_page(found))


def test_a_gap_is_no_line() -> None:
    line = plots.Line(
        "a", "dot", [(1, 0.5), (2, math.nan), (3, 0.7), (4, None), (5, 0.8), (6, 0.9)]
    )
    at = plots.drawn(plots.Plot("t", "d", "x", [line], [], []))
    path = dict(at.paths)["m0 line"]
    assert (path.count("M"), path.count("L")) == (3, 1)


#: The columns are real.
VALUES = some.floats(width=32) | some.none()


@given(
    some.lists(some.tuples(some.integers(0, 500), VALUES), max_size=20, unique_by=lambda p: p[0])
)
def test_any_numbers_are_drawn_inside_the_axes(points: list[tuple[float, float | None]]) -> None:
    plot = plots.Plot("t", "d", "x", [plots.Line("a", "dot", sorted(points))], [], [])
    at = plots.drawn(plot)
    places = dict(at.paths)["m0 line"].replace("M", " ").replace("L", " ").split()
    for x, y in zip(places[::2], places[1::2], strict=True):
        assert plots.LEFT <= float(x) <= plots.RIGHT
        assert plots.TOP <= float(y) <= plots.BOTTOM
    assert len(at.upward) <= plots.TICKS + 3


def test_names_are_never_markup() -> None:
    long = NASTY + "x" * 10_000
    run = {**RUN, "aoi_name": long}
    lease = {**ANSWERS["locked"]["lease"], "holder": long, "reason": long}
    given = {
        "run": run, "lease": lease, "backup": {"msg": long}, "learner": {"msg": f"{long}\n{long}"},
        "marker": {"label": long, "inconsistencies": [long]}, "turn": turn("mapping", 1, 2, waits_for=long),
    }  # fmt: skip
    found = loop.content(long, AT, {long: loop.state({**answer("none"), **given})}, {"b": long})
    text = page.loop_page(found)
    parsed = Parsed(text)
    assert "script" not in parsed.elements
    assert not [
        name
        for name, _ in parsed.attributes
        if name in ("src", "href", "style") or name[:2] == "on"
    ]
    said = markdown.loop_markdown(found)
    for rendered in (text, said):
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in rendered
        assert "\\u202e" in rendered
        assert "<script" not in rendered.split("</style>")[-1]
    assert "@team" not in said
    assert len(said) <= markdown.LIMIT
    assert len(text) < 100_000


def test_a_report_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    with path.open() as reader:
        write_whole(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(path, "new")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InvalidInputError, match="no folder"):
        file.verify(tmp_path / "none" / "r.md")


class _Targets:
    """Answers of a target, one a look; after them Ctrl-C."""

    def __init__(self, *names: str) -> None:
        self.left = list(names)

    def survey(self, question: str, options: Any, variables: Any) -> query.Answers:
        if not self.left:
            raise KeyboardInterrupt
        name = self.left.pop(0)
        if name == "invalid":
            raise InvalidInputError("hosts.yml:3: no such key")
        if name == "gone":
            return query.Answers({}, {"h": "cannot connect"}, ExitCode.UNREACHABLE)
        return query.Answers({"h": answer(name)}, {}, ExitCode.OK)


def test_a_watch_goes_on_over_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report, folder = tmp_path / "r.html", tmp_path / "r.md"
    slept: list[int] = []
    pages: list[str] = []
    monkeypatch.setattr(query, "survey", _Targets("mapping", "gone", "invalid", "done").survey)
    monkeypatch.setattr(
        time, "sleep", lambda seconds: (slept.append(seconds), pages.append(report.read_text()))
    )
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        status._watch({"targets": ("t",), "verbose": False}, (report, folder), 60)
    assert slept == [60] * 4
    parts = ("1,166 sites", "cannot connect", "cannot connect", "takes in what")
    for shown, part in zip(pages, parts, strict=True):
        assert part in shown
    assert "refresh" not in report.read_text()
    said = capsys.readouterr().err
    assert said.count(f"{folder} was not written: Is a directory") == 3
    assert said.count("hosts.yml:3: no such key") == 1
    # What cannot be asked at all from the start is an error.
    monkeypatch.setattr(query, "survey", _Targets("invalid").survey)
    with pytest.raises(InvalidInputError):
        status._watch({"targets": ("t",), "verbose": False}, (report,), 60)


def test_what_cannot_be_written_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(query, "survey", _Targets("mapping", "gone").survey)
    with pytest.raises(RunbookError, match="was not written: Is a directory"):
        status._once({"targets": ("t",), "as_json": False, "verbose": False}, (tmp_path,))
    assert "34 of 1,200 done" in capsys.readouterr().out
    assert status._once({"targets": ("t",), "as_json": True}, ()) == ExitCode.UNREACHABLE
    found = json.loads(capsys.readouterr().out)
    assert found == {"hosts": {}, "failed": {"h": "cannot connect"}}
    schemas.validator("status").validate(found)


def test_several_targets_are_one_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "one": query.Answers({"h": answer("mapping")}, {}, ExitCode.OK),
        "two": query.Answers({"h": answer("stopped"), "i": answer("running")}, {}, ExitCode.OK),
        "three": query.Answers({}, {"j": "cannot connect"}, ExitCode.UNREACHABLE),
    }

    def survey(_question: str, options: Any, _variables: Any) -> query.Answers:
        if options["target"] == "four":
            raise InvalidInputError("target 'four' does not exist")
        return answers[options["target"]]

    monkeypatch.setattr(query, "survey", survey)
    options = {
        "targets": ("one", "two", "three", "four", "one"),
        "as_json": False,
        "verbose": False,
    }
    assert status._once(options, ()) == ExitCode.UNREACHABLE
    shown = [line.split("  ") for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert [(line[0], next(filter(None, line[1:])).strip()) for line in shown] == [
        ("host", "state"), ("four", "needs a person"), ("j", "needs a person"),
        ("one: h", "look at it"), ("i", "runs"), ("two: h", "no loop runs"),
    ]  # fmt: skip
    with pytest.raises(InvalidInputError):
        status._once({"targets": ("four",), "as_json": False, "verbose": False}, ())


@pytest.mark.parametrize("given", ["-J", "--vault-id=a@prompt", "--json"])
def test_a_watch_asks_nothing(given: str) -> None:
    with pytest.raises(click.UsageError):
        status.status.main(["-i", "t", "--watch", given], standalone_mode=False)
