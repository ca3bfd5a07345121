"""Several hosts in few words: their names, lines that are alike, how a run ended on each. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.errors import ExitCode
from runbook.events.model import HostCounts, RunFinished, TaskResult, failures
from runbook.events.render import text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

#: What stands for a host's own name, in a line about several.
OWN = "HOST"
#: Numbers, and what is in parentheses, whose numbers are never put together.
_NUMBER = re.compile(r"\([^()]*\)|\d{1,3}(?:,\d{3})+|\d+")
_DASH = "\N{EN DASH}"
#: Consecutive hosts from which on only the first and the last are named.
_MANY = 3


def ordered(hosts: Iterable[str]) -> list[str]:
    """Hosts by name, numbers in it by value."""

    def key(host: str) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", host)
        return [(int(part) if part.isdigit() else -1, part) for part in parts]

    return sorted(dict.fromkeys(hosts), key=key)


def named(hosts: Iterable[str], every: Collection[str]) -> str:
    """Some of ``every`` host: ``all 16 hosts``, ``all but area07``, ``area01 to area06``."""
    some = set(hosts)
    others = {*every} - some
    if len(some) >= _MANY and not others:
        return f"all {len(some)} hosts"
    if len(others) <= _MANY and len(some) > _MANY:
        return f"all but {named(others, every)}"
    runs: list[list[str]] = [[]]
    for host in ordered({*every, *some}):
        if host in some:
            runs[-1].append(host)
        elif runs[-1]:
            runs.append([])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > _MANY else ", ".join(run) for run in runs if run
    )


def where(hosts: Collection[str], every: Collection[str]) -> str:
    """`` [area01]`` where not every host is meant."""
    return f" [{named(hosts, every)}]" if {*every} - {*hosts} else ""


def without(limit: str, hosts: Iterable[str]) -> str:
    """The option ``--limit`` that leaves out these hosts too."""
    return ":".join([limit or "all", *(f"!{host}" for host in ordered(hosts))])


def folded(by_host: Mapping[str, str]) -> list[tuple[tuple[str, ...], str]]:
    """The lines of hosts; those that differ only in numbers or the host's own name as one line.

    Such a line has ``least-most`` (with a dash of that width) where numbers differ, and ``OWN`` for
    the name.
    """
    alike: dict[str, dict[str, str]] = defaultdict(dict)
    for host, line in by_host.items():
        alike[outline(line, host)][host] = _anonymous(line, host)
    return [
        (tuple(group), _together(list(group.values())) if len(group) > 1 else by_host[host])
        for group in alike.values()
        for host in [next(iter(group))]
    ]


def outline(line: str, host: str) -> str:
    """A line of a host as far as it must be the same as another's to be folded with it."""
    return _NUMBER.sub(_blank, _anonymous(line, host))


def _anonymous(line: str, host: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(host)}(?!\w)", OWN, line)


def _blank(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith("(") else "0"


def _together(lines: Sequence[str]) -> str:
    spans = iter([_span(column) for column in zip(*map(_NUMBER.findall, lines), strict=True)])
    return _NUMBER.sub(lambda _: next(spans), lines[0])


def _span(column: Sequence[str]) -> str:
    if column[0].startswith("("):
        return column[0]
    values = sorted(column, key=lambda number: int(number.replace(",", "")))
    return values[0] if values[0] == values[-1] else f"{values[0]}{_DASH}{values[-1]}"


def headlines(results: Iterable[TaskResult]) -> list[str]:
    """The most important lines about a run, each with its hosts."""
    every: set[str] = set()
    by_task: dict[str, dict[str, str]] = defaultdict(dict)
    for result in results:
        every.add(result.host)
        if result.headline:
            by_task[result.task][result.host] = result.headline
    return [
        f"{said} [{named(hosts, every)}]"
        for by_host in by_task.values()
        for hosts, said in folded(by_host)
    ]


@dataclass(frozen=True)
class End:
    """How a real run ended on a host.

    ``bad``: the result that it failed with; ``left``: planned steps that were not done.
    """

    bad: TaskResult | None
    changed: Sequence[str]
    left: Sequence[str]
    begun: bool

    @property
    def well(self) -> bool:
        """Whether all was done that was planned."""
        return not (self.bad or self.left)

    @property
    def said(self) -> str:
        """The end in words."""
        before = f"done before that: {', '.join(self.changed)}" if self.changed else (
            "nothing was changed there")  # fmt: skip
        if self.bad:
            return f"{self.bad.status} at {self.bad.task!r}; {before}"
        if self.left and self.begun:
            return f"not finished, as the run was stopped; {before}"
        if self.left:
            return "not begun"
        return "done" if self.changed else "nothing to change"


def ends(
    results: Iterable[TaskResult],
    counts: Mapping[str, HostCounts],
    left: Mapping[str, Sequence[str]],
) -> dict[str, End]:
    """By host how a real run ended there, the worst first."""
    results = [*results]
    by_host: dict[str, list[TaskResult]] = defaultdict(list)
    for result in results:
        by_host[result.host].append(result)
    failed = failures(results, counts)
    found = {}
    for host in ordered([*by_host, *left]):
        own = by_host[host]
        changed = list(dict.fromkeys(result.task for result in own if result.changed))
        found[host] = End(failed.get(host), changed, left.get(host, ()), bool(own))
    return dict(sorted(found.items(), key=lambda each: (not each[1].bad, each[1].well)))


def conclusion(
    finished: RunFinished, results: Sequence[TaskResult], counts: Mapping[str, HostCounts]
) -> list[str]:
    """The last lines of a run: what it came to, on several hosts by host, and what to do next."""
    come_to = (result.host for result in results)
    hosts = {*counts, *finished.left, *come_to, *finished.not_checked}
    if len(hosts) < 2:
        return text.conclusion(finished, results)
    if finished.check and finished.exit_code not in (ExitCode.OK, ExitCode.CHANGES):
        return _not_planned(finished, counts, hosts)
    if finished.check or finished.exit_code == ExitCode.OK:
        return text.conclusion(finished, results, f" on {named(_changed(results), hosts)}")
    found = ends(results, counts, finished.left)
    word = "Interrupted" if finished.exit_code == ExitCode.INTERRUPTED else "Stopped"
    well = sum(end.well for end in found.values())
    lines = [f"{word}: {well} of {len(found)} hosts are done.", *_by_end(found)]
    if finished.unplanned:
        lines.append(text.otherwise(finished.unplanned))
    if finished.unfinished:
        lines.append(text.cut_off(finished.unfinished))
    return [*lines, "Once the cause is fixed, runbook resume does what is missing, there only."]


def _changed(results: Iterable[TaskResult]) -> list[str]:
    return [result.host for result in results if result.changed]


def _by_end(found: Mapping[str, End]) -> Iterator[str]:
    """A line for the hosts that ended in the same way."""
    alike: dict[str, list[str]] = defaultdict(list)
    for host, end in found.items():
        alike[end.said].append(host)
    return (f"  {named(hosts, found)}: {said}" for said, hosts in alike.items())


def _not_planned(
    finished: RunFinished, counts: Mapping[str, HostCounts], hosts: Collection[str]
) -> list[str]:
    """The conclusion of a check that failed on some hosts."""
    bad = [host for host, each in counts.items() if each.bad]
    if finished.exit_code == ExitCode.INTERRUPTED or not bad:
        return text.conclusion(finished, [])
    some = "" if len(bad) == len(hosts) else f"{len(bad)} of {len(hosts)} hosts: "
    left = named(finished.not_checked, hosts)
    return [
        f"The check failed on {some}{named(bad, hosts)}.",
        *([f"Not checked, as the check ended before it came to them: {left}."] if left else []),
        "Nothing was changed: this was a check.",
    ]
