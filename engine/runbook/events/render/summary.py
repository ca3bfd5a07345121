"""A plan in short: what a check run found, with what matters most to the operator last.

Parameters that differ from their defaults, what would be made, warnings; then which run replaces
which, and what would be lost. So a small terminal shows the losses, directly above the question.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from runbook.errors import ExitCode
from runbook.events.model import (
    Event,
    HostCounts,
    Notice,
    ParametersRead,
    Recap,
    RunFinished,
    RunStarted,
    TaskResult,
)
from runbook.events.redaction import MASK
from runbook.events.render import fleet, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

#: Actions of planned changes that take something away; so does any change that deletes rows.
DESTRUCTIVE = text.ENDING | {"replace", "restore"}

#: Columns of a summary where no terminal says how many there are.
WIDTH = text.WIDTH

#: Characters of a parameter's value that are shown unless ``full``.
VALUE = 24

#: A blank that no line is broken at.
_FIRM = "\N{NO-BREAK SPACE}"

#: ``STEP: RESOURCE`` within a transaction, and the database that a table belongs to.
_STEP = re.compile(r"(?:(?P<step>\w+): )?(?P<what>.*?)(?: \(\S+@\S+\))?")
_TABLE = re.compile(r"\S+@\S+ (?:table )?(?P<what>.+)")

#: Counts of rows that are lost though no name of theirs says deleted (those of a restore).
_LOST = {"rows_vanish": "rows deleted", "rows_differ": "rows replaced"}
_MADE = {"rows_appear": "rows_inserted"}


#: A parameter that is not the same on every host (``load.parameters.differing``).
_OF_HOST = re.compile(r"(\w+) \[.*\]")


class Line(NamedTuple):
    """A line of a summary and rich's style of it; an ``exact`` one is not broken between words."""

    text: str
    style: str = ""
    exact: bool = False


@dataclass(frozen=True)
class Found:
    """The losses and the other changes on hosts where they are the same, or on several together.

    ``rows``: lost rows by table, most first, below the words for the loss, of several hosts their
    sum; ``others``: what else is lost; ``made``: a line for each task, or for each step of a
    transaction.
    """

    hosts: tuple[str, ...]
    rows: Mapping[str, Mapping[str, int]]
    others: tuple[str, ...]
    made: tuple[str, ...]

    def losses(self) -> Iterator[str]:
        """The losses, one line for each kind."""
        for label, by_table in self.rows.items():
            each = ", ".join(f"{name}{_FIRM}{rows:,}" for name, rows in by_table.items())
            several = len(by_table) > 1
            yield f"{sum(by_table.values()):,} {label}: {each}" if several else f"{each} {label}"
        yield from self.others


def together(found: Sequence[Found], every: Collection[str]) -> Found:
    """The changes on several hosts: rows added up, lines that are alike folded."""
    if len(found) == 1:
        return found[0]
    by_host = {host: each for each in found for host in each.hosts}
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for each in by_host.values():
        for label, by_table in each.rows.items():
            rows[label].update(by_table)
    return Found(
        tuple(by_host),
        {label: dict(by_table.most_common()) for label, by_table in rows.items()},
        tuple(_folded({host: each.others for host, each in by_host.items()}, every)),
        tuple(_folded({host: each.made for host, each in by_host.items()}, every)),
    )


def _folded(by_host: Mapping[str, Sequence[str]], every: Collection[str]) -> Iterator[str]:
    """The lines of all hosts, each with its hosts unless they are all; steps below their tasks."""
    tasks: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for host, lines in by_host.items():
        task = ""
        for line in lines:
            name = fleet.outline(line.partition(": ")[0], host)
            task = task if line.startswith(" ") else name
            tasks[task][name][host] = line
    for steps in tasks.values():
        for lines_of in steps.values():
            yield from (said + fleet.where(hosts, every) for hosts, said in fleet.folded(lines_of))


@dataclass
class Summary:
    """The summary of a check run's events.

    ``full``: no value is shortened. ``each``: hosts are shown each by itself, not together.
    ``diff``: what changes is shown elsewhere, line by line. ``asked``: the question that follows
    shows it, so that the run's own end does not. ``headlines``: those of a saved plan, whose
    results have none.
    """

    full: bool = False
    each: bool = False
    diff: bool = False
    asked: bool = False
    check: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)
    results: list[TaskResult] = field(default_factory=list)
    counts: Mapping[str, HostCounts] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    not_checked: Sequence[str] = ()
    headlines: Sequence[str] = ()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self.parameters, self.results = event.parameters, []
                self.check, self.counts = event.check, {}
            case ParametersRead():
                self.parameters = event.parameters
            case TaskResult():
                self.results.append(event)
            case Recap():
                self.counts = event.hosts
            case RunFinished():
                self.not_checked = event.not_checked
            case Notice(level="warning"):
                self.notices.append(event.text)
            case _:
                pass

    def around(self, finished: RunFinished, width: int = WIDTH) -> tuple[list[Line], list[Line]]:
        """The lines above and below a run's conclusion: a check's summary, if it found changes.

        Of a check that found none, or failed on every host, the warnings; of a real run none.
        """
        if not finished.check:
            return [], []
        failed = finished.exit_code not in (ExitCode.OK, ExitCode.CHANGES)
        if not (self.by_host() if failed else finished.changed or finished.unchecked):
            return self.warnings(), []
        asked = self.asked and not failed
        return ([], []) if asked else (self._beginning(width), self._ending(width))

    def lines(self, width: int = WIDTH) -> list[Line]:
        """The summary, lists folded at ``width`` columns; a sentence is one line, to be found."""
        return [*self._beginning(width), *self._ending(width)]

    def warnings(self) -> list[Line]:
        """The warnings of the input and of the steps, each once."""
        said = [*self.notices, *(each for result in self.results for each in result.warnings)]
        return [Line(f"warning: {' '.join(x.split())}", "yellow") for x in dict.fromkeys(said)]

    def by_host(self) -> dict[str, Found]:
        """The changes on each host; not where a check failed, for there more would follow."""
        changed: dict[str, list[TaskResult]] = defaultdict(list)
        for result in self.results:
            bad = self.check and self.counts.get(result.host, HostCounts()).bad
            if result.changed and not bad:
                changed[result.host].append(result)
        return {
            host: Found(
                (host,), *_losses(changed[host]), tuple(_made(changed[host], full=self.full))
            )
            for host in fleet.ordered(changed)
        }

    def found(self) -> list[Found]:
        """The changes, hosts with the same ones together."""
        alike: dict[str, Found] = {}
        for found in self.by_host().values():
            same = replace(found, hosts=())
            hosts = alike[repr(same)].hosts if repr(same) in alike else ()
            alike[repr(same)] = replace(found, hosts=(*hosts, *found.hosts))
        return list(alike.values())

    @property
    def hosts(self) -> list[str]:
        """Every host of the run."""
        come_to = (result.host for result in self.results)
        return fleet.ordered([*self.counts, *come_to, *self.not_checked])

    def losses(self) -> list[Found]:
        """The changes that take something away, of several hosts together unless ``each``."""
        return self._shown([found for found in self.found() if found.rows or found.others])

    def made(self) -> list[Found]:
        """The other changes, in the same way."""
        return self._shown([found for found in self.found() if found.made])

    def _shown(self, found: Sequence[Found]) -> list[Found]:
        if self.each or not found:
            return [*found]
        return [together(found, [host for each in found for host in each.hosts])]

    def on(self, found: Found) -> str:
        """`` on HOST, ...`` where there are several hosts."""
        every = self.hosts
        return f" on {fleet.named(found.hosts, every)}" if len(every) > 1 else ""

    def _beginning(self, width: int) -> list[Line]:
        lines = list(_parameters(self.parameters, width, full=self.full))
        hint = "" if self.diff else " (--diff shows each line)"
        for each in self.made():
            lines.append(Line(f"Made or changed{self.on(each)}{hint}:", "bold green"))
            lines += (Line(line) for line in self._wrapped(each.made, width, 2))
        return lines + self.warnings()

    def _ending(self, width: int) -> list[Line]:
        heads = [*self.headlines, *fleet.headlines(self.results)]
        lines = [Line(line, "bold yellow") for line in heads]
        for each in self.losses():
            lines.append(Line(f"Deleted, replaced or stopped{self.on(each)}:", "bold red"))
            lines += (Line(line, "red") for line in self._wrapped(each.losses(), width, 2))
        table = losses_by_host(self.by_host())
        numbers = table[0][1:] if table else ()
        return lines + [Line(f"  {line}", "red") for line in text.columns(table, numbers)]

    @staticmethod
    def _wrapped(lines: Iterable[str], width: int, indent: int = 0) -> Iterator[str]:
        for line in lines:
            deep = indent + len(line) - len(line.lstrip())
            folded = wrap(
                line.lstrip(" "), width, initial_indent=" " * deep,
                subsequent_indent=" " * (deep + 2), break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
            yield from (each.replace(_FIRM, " ") for each in folded)


def losses_by_host(by_host: Mapping[str, Found]) -> list[list[str]]:
    """A table of what is lost where, its head first, then most rows first, the sums last.

    Empty unless several hosts lose something.
    """
    losing = {host: each for host, each in by_host.items() if each.rows or each.others}
    if len(losing) < 2:
        return []
    labels = list(dict.fromkeys(label for each in losing.values() for label in each.rows))
    numbers = {
        host: [*(sum(each.rows.get(label, {}).values()) for label in labels), len(each.others)]
        for host, each in losing.items()
    }
    rows = sorted(numbers.items(), key=lambda row: [-number for number in row[1]])
    rows.append(("total", [sum(column) for column in zip(*numbers.values(), strict=True)]))
    return [["host", *labels, "other losses"], *([h, *(f"{n:,}" for n in row)] for h, row in rows)]


def destructive(item: Mapping[str, Any]) -> bool:
    """Whether a planned change takes something away that was there."""
    taken = any(number and "deleted" in name for name, number in (item.get("counts") or {}).items())
    return item.get("action") in DESTRUCTIVE or taken


def _ends(entry: Mapping[str, Any]) -> bool:
    """Whether a change only takes something away; a restore and a replacement also bring."""
    return entry.get("action") in text.ENDING


def _losses(
    results: Iterable[TaskResult],
) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """The losses on a host: the rows by table, most first, and the rest."""
    rows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    others = []
    for result in results:
        for entry in text.real(result.plan):
            what = _what(entry)[1]
            lost = _lost(entry)
            for label, number in lost.items():
                rows[label][what] += number
            removed, added = text.removed_and_added(text.diff_of(result, entry))
            if entry["action"] == "stop":
                said = text.counts(entry.get("counts") or {})
                ended = f"{said} stopped" if said else "pid files of ended processes removed"
                others.append(f"{what}: {ended}")
            elif _ends(entry) and not lost:
                said = text.counts(entry.get("counts") or {})
                others.append(f"{what}: {entry['action']}{said and f' ({said})'}")
            elif removed and not (added or entry.get("counts")):
                others.append(f"{what}: {text.number(removed, 'line')} removed")
    ordered = {
        label: dict(sorted(by_table.items(), key=lambda each: -each[1]))
        for label, by_table in rows.items()
    }
    return ordered, tuple(others)


def _lost(entry: Mapping[str, Any]) -> dict[str, int]:
    """The counts of a change that say what is lost, by the words for them."""
    return {
        _LOST.get(name, name.replace("_", " ")): number
        for name, number in (entry.get("counts") or {}).items()
        if number and ("deleted" in name or name in _LOST)
    }


def _made(results: Iterable[TaskResult], *, full: bool) -> Iterator[str]:
    """The other changes on a host: a line for each task, or each step of a transaction."""
    for result in results:
        by_step: dict[str, list[str]] = defaultdict(list)
        for entry in text.real(result.plan):
            step, what = _what(entry)
            if said := _new(result, entry):
                same = what.replace(" ", "_") == step
                name = what if full else _shortened(what)
                by_step[step].append(said if same else f"{name}: {said}")
        if not by_step and not text.real(result.plan):
            by_step[""] = [_foreign(result)]
        if "" in by_step:
            yield f"{result.task}: {'; '.join(by_step.pop(''))}"
        elif by_step:
            yield f"{result.task}:"
        yield from (f"  {step}: {'; '.join(said)}" for step, said in by_step.items())


def _new(result: TaskResult, entry: Mapping[str, Any]) -> str:
    """A change in a few words but for what it takes away; empty when that is all it does."""
    given = entry.get("counts") or {}
    counts = {_MADE.get(name, name): number for name, number in given.items() if not _is_loss(name)}
    if "rows" in counts:
        counts.pop("bytes", None)
    diff = text.diff_of(result, entry)
    removed, added = text.removed_and_added(diff)
    if _ends(entry) or entry["action"] == "stop" or (removed and not (added or given)):
        return ""
    if not _lost(entry) and (said := text.one_for_one(diff)):
        return said
    if said := text.counts(counts):
        return said
    return "" if _lost(entry) else text.replaced(diff) or str(entry["action"])


def _is_loss(name: str) -> bool:
    return "deleted" in name or name in _LOST or name in ("rows_before", "rows_after")


def _foreign(result: TaskResult) -> str:
    """The changes of a module that returns no plan."""
    parts = []
    for diff in result.diff:
        name = str(diff.get("before_header") or diff.get("after_header") or "")
        said = text.one_for_one(diff) or text.replaced(diff)
        parts.append(f"{name}: {said}" if name and said else name or said)
    return "; ".join(part for part in parts if part) or text.one_line(result.message) or "changed"


def _what(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The step of a transaction that makes a change, if there is one, and what it changes."""
    resource = str(entry.get("resource", ""))
    if found := _TABLE.fullmatch(resource):
        return "", found["what"]
    found = _STEP.fullmatch(resource)
    if found is None:
        return "", resource
    step, what = found["step"] or "", found["what"]
    return step, what.rpartition("/")[2] if step else what


def _shortened(what: str) -> str:
    """A path or an address without its folders."""
    scheme, separator, _ = what.rpartition("://")
    name = what.rpartition("/")[2]
    plain = not name or " " in what or what.count("/") < 2
    return what if plain else f"{scheme}{separator}…/{name}"


def _parameters(values: Mapping[str, Any], width: int, *, full: bool) -> Iterator[Line]:
    """Those that differ from their defaults, as ``-e`` takes them; of secrets only the names."""
    if not values:
        return
    secret = [name for name, value in values.items() if value == MASK]
    plain = {name: value for name, value in values.items() if value != MASK}
    shared = {name: value for name, value in plain.items() if full or not _OF_HOST.fullmatch(name)}
    shown = [f"{name}={_value(value, full=full)}" for name, value in shared.items()]
    yield Line("Parameters that differ from their defaults:", "bold")
    if full:
        yield from (Line(f"  {each}", "dim") for each in shown)
    else:
        yield from (Line(line, "dim") for line in _packed(shown, width))
    by_host = [found[1] for name in plain if (found := _OF_HOST.fullmatch(name)) and not full]
    yield from _listed("by host (-v shows each)", list(dict.fromkeys(by_host)), width)
    yield from _listed("secret", secret, width)


def _listed(what: str, names: Sequence[str], width: int) -> Iterator[Line]:
    """Names of parameters after a word for them."""
    if names:
        yield from (
            Line(line, "dim")
            for line in wrap(
                f"{what}: {', '.join(names)}", width, initial_indent="  ", subsequent_indent="    "
            )
        )


def _packed(items: Sequence[str], width: int) -> Iterator[str]:
    """As many items a line as fit, none of them broken."""
    line = ""
    for each in items:
        if line and len(line) + len(each) + 2 > width:
            yield line
            line = ""
        line += "  " + each
    if line:
        yield line


def _value(value: object, *, full: bool) -> str:
    said = " ".join(text.value(value).split())
    if full or len(said) <= VALUE:
        return said
    half = (VALUE - 1) // 2
    return f"{said[:half]}…{said[-half:]}"
