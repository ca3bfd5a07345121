"""The content of a report, made of a run's events, in the order in which a reader needs it."""

from __future__ import annotations

import html
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode
from runbook.events.model import (
    Event,
    Recap,
    Result,
    RunFinished,
    RunStarted,
    Status,
    TaskResult,
)
from runbook.events.render import fleet, text
from runbook.events.render.report import maps
from runbook.events.render.report.texts import LINES, visible
from runbook.events.render.summary import Found, Summary, losses_by_host

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from runbook.events.render.report.maps import Map

#: The id of a backup that a check has not made (plugins/module_utils/backup/manifest.py).
PLANNED = "planned"
#: Characters of all diffs as HTML and of the maps' paths together, and of the diffs at least.
SHOWN, DIFFS = 320_000, 100_000
#: Characters around a line of a diff.
MARKUP = 32


@dataclass(frozen=True)
class Step:
    """A step that ended on a host; ``left_out`` lines of its diff are not in ``diff``."""

    name: str
    host: str
    module: str
    status: Status
    seconds: float
    said: str
    failure: Sequence[str]
    diff: Sequence[str]
    left_out: int


@dataclass(frozen=True)
class Content:
    """The content of a report; its texts are plain, without line ends or control characters.

    ``check``: nothing was changed. ``counts`` are the numbers that a reader looks for first, by
    name; ``kept`` the backups of the run, each with its step. ``rows`` are the steps, with hosts
    together where a step came to the same. ``steps_left`` are not in ``steps``,
    ``maps_left`` not in ``maps``.
    ``several``: there is more than one host; ``by_host`` then is a table of what is lost where.
    ``plan_sha256`` is empty without a plan file.
    """

    title: str
    playbook: str
    target: str
    check: bool
    exit_code: ExitCode
    verdict: str
    following: Sequence[str]
    facts: Sequence[tuple[str, str]]
    headlines: Sequence[str]
    counts: Mapping[str, int]
    losses: Sequence[Found]
    by_host: Sequence[Sequence[str]]
    made: Sequence[Found]
    kept: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    steps: Sequence[Step]
    rows: Sequence[Step]
    steps_left: int
    plan_sha256: str
    parameters: Sequence[tuple[str, str]]
    several: bool
    maps: Sequence[Map]
    maps_left: int


@dataclass
class Gathered:
    """The events of a command that a report is made of: those of its last run, and its result."""

    summary: Summary = field(default_factory=lambda: Summary(full=True, diff=True))
    started: RunStarted | None = None
    finished: RunFinished | None = None
    recap: Recap | None = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        self.summary(event)
        match event:
            case RunStarted():
                self.started, self.finished = event, None
            case RunFinished():
                self.finished = event
            case Recap():
                self.recap = event
            case _:
                pass

    def content(self, result: Result) -> Content:
        """The content, when the command came to ``result``."""
        results = self.summary.results
        check = self.started.check if self.started else True
        # As typed, a path, when it was not read.
        playbook = self.started.playbook if self.started else PurePath(result.playbook).name
        target = self.started.target if self.started else result.target
        shown = _notable(results)
        first, *following = _conclusion(self.finished, result, self.summary)
        drawn, left = _maps(results)
        steps = list(_steps(shown, SHOWN - sum(each.characters for each in drawn)))
        warnings = [line.text.removeprefix("warning: ") for line in self.summary.warnings()]
        return Content(
            title=visible(text.title(self.started) if self.started else playbook),
            playbook=visible(playbook),
            target=visible(target),
            check=check,
            exit_code=result.exit_code,
            verdict=visible(first),
            following=[visible(line) for line in following],
            facts=[(name, visible(value)) for name, value in self._facts(result) if value],
            headlines=[visible(line) for line in fleet.headlines(results)],
            counts=_counts(self.summary, warnings),
            losses=[_shown(each, self.summary) for each in self.summary.losses()],
            by_host=[list(map(visible, row)) for row in losses_by_host(self.summary.by_host())],
            made=[_shown(each, self.summary) for each in self.summary.made()],
            kept=list(_kept(results)),
            warnings=_list(warnings),
            steps=steps,
            rows=list(_together(steps, self.summary.hosts)),
            steps_left=len(results) - len(shown),
            plan_sha256=result.plan_sha256,
            parameters=[
                (visible(name), visible(text.value(value)))
                for name, value in self.summary.parameters.items()
            ],
            several=len({each.host for each in results}) > 1,
            maps=drawn,
            maps_left=left,
        )

    def _facts(self, result: Result) -> Iterator[tuple[str, str]]:
        yield "Target", result.target
        yield "Limited to", self.started.limit if self.started else ""
        yield "Playbook", result.playbook
        yield "Run", result.run_id
        yield "Plan's SHA-256", result.plan_sha256
        if self.started:
            yield "Operator", self.started.operator
            yield "Began", f"{self.started.at[:19].replace('T', ' ')} UTC"
        if self.finished and self.finished.seconds:
            yield "Took", f"{self.finished.seconds:.1f} s"
        code = result.exit_code
        yield "Exit code", f"{code.value} ({code.name.lower().replace('_', ' ')})"


def _kept(results: Iterable[TaskResult]) -> Iterator[tuple[str, str]]:
    """The backups of a run; that of a check has no id yet."""
    for each in results:
        if each.backup_id and each.changed and each.backup_id == PLANNED:
            yield "a new backup, made before anything is deleted", visible(each.task)
        elif each.backup_id:
            yield f"backup {visible(each.backup_id)}", visible(each.task)


def _list(lines: Iterable[str]) -> list[str]:
    """As many lines of a list as a report shows, and how many there are more."""
    lines = list(lines)
    more = [f"and {len(lines) - LINES:,} more"] if len(lines) > LINES else []
    return [visible(line) for line in lines[:LINES]] + more


def _shown(found: Found, summary: Summary) -> Found:
    """Changes with texts that can be shown, and the hosts in words."""
    rows = {label: dict(list(by_table.items())[:LINES]) for label, by_table in found.rows.items()}
    return Found(
        (visible(fleet.named(found.hosts, summary.hosts)),),
        {
            label: {visible(name): number for name, number in by_table.items()}
            for label, by_table in rows.items()
        },
        tuple(_list(found.others)),
        tuple(_list(found.made)),
    )


def _conclusion(finished: RunFinished | None, result: Result, summary: Summary) -> list[str]:
    """The verdict and what comes next."""
    said = ["Nothing was changed."]
    if finished:
        said = fleet.conclusion(finished, summary.results, summary.counts)
    if not result.message:
        return said
    if result.exit_code in (ExitCode.OK, ExitCode.CHANGES):
        return result.message.splitlines()
    problems = [
        f"{each.get('file', '')}:{each.get('line', '')}: {each.get('message', '')}"
        for each in result.problems
    ]
    return [*result.message.splitlines(), *problems, *said]


def _counts(summary: Summary, warnings: Sequence[str]) -> dict[str, int]:
    rows: Counter[str] = Counter()
    by_host = summary.by_host().values()
    for each in by_host:
        rows.update({label: sum(by_table.values()) for label, by_table in each.rows.items()})
    return {
        "steps with changes": sum(result.changed for result in summary.results),
        **(rows or {"rows lost": 0}),
        "other losses": sum(len(each.others) for each in by_host),
        "warnings": len(warnings),
    }


def _notable(results: Sequence[TaskResult]) -> Sequence[TaskResult]:
    """The results that a report shows: all of a usual run, else those that did something."""
    if len(results) <= LINES:
        return results
    return [each for each in results if each.status not in (Status.OK, Status.SKIPPED)][:LINES]


def _maps(results: Iterable[TaskResult]) -> tuple[list[Map], int]:
    """The maps that a report has room for, and how many more there are."""
    made = [maps.drawn(each.map, f"Map of {each.host}") for each in results if each.map]
    found = [each for each in made if each]
    shown: list[Map] = []
    for each in found:
        if shown and sum(every.characters for every in [*shown, each]) > SHOWN - DIFFS:
            break
        shown.append(each)
    return shown, len(found) - len(shown)


def _steps(results: Iterable[TaskResult], characters: int) -> Iterator[Step]:
    left = max(characters, DIFFS)
    for result in results:
        diffs = result.diff if result.changed else []
        lines = [line for diff in diffs for line in text.diff_lines(diff)]
        shown: list[str] = []
        for line in lines[:LINES]:
            left -= len(html.escape(said := visible(line))) + MARKUP
            if left < 0:
                break
            shown.append(said)
        yield Step(
            visible(result.task),
            visible(result.host),
            visible(result.module),
            result.status,
            result.seconds,
            visible(text.summary(result)),
            _list(text.failure(result)),
            shown,
            len(lines) - len(shown),
        )


def _together(steps: Iterable[Step], every: Collection[str]) -> Iterator[Step]:
    """The steps, those that came to the same on several hosts as one with the longest time."""
    for _, group in groupby(steps, lambda step: (step.name, step.module)):
        alike: dict[Any, dict[str, Step]] = defaultdict(dict)
        for step in group:
            alike[step.status, tuple(step.failure)][step.host] = step
        for by_host in alike.values():
            for hosts, said in fleet.folded({host: step.said for host, step in by_host.items()}):
                seconds = max(by_host[host].seconds for host in hosts)
                where = visible(fleet.named(hosts, every))
                yield replace(by_host[hosts[0]], host=where, said=said, seconds=seconds)
