"""Sentences that the renderers for people share, as plain text: pure functions of events."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from difflib import unified_diff
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode
from runbook.events.model import HostCounts, Progress, RunFinished, RunStarted, Status, TaskResult

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

#: Beyond this many lines a diff is not computed: it would take longer than the step itself.
DIFF_INPUT = 20_000

#: Said of a step whose outcome the target's journal does not have.
UNKNOWN_END = "it is not known how it ended; the next run of the same playbook finds out"

#: Changes that one line about a step names; of more it says the rows in all.
NAMED = 3

#: Counts of a restore: how many rows there are, and what becomes of them.
_STATES = ("rows_before", "rows_after")
_OF_RESTORE = {
    "rows_appear": "rows_inserted", "rows_vanish": "rows_deleted", "rows_differ": "rows_replaced",
}  # fmt: skip

#: Actions of planned changes that only take something away.
ENDING = frozenset({"clear", "delete", "drop", "remove", "terminate"})

#: Columns where no terminal says how many there are.
WIDTH = 80

#: Of a table or a row, as a resource is named.
_DATABASE = re.compile(r" \(\S+@\S+\)$")


def counts(values: Mapping[str, Any]) -> str:
    """``{"rows_deleted": 1200}`` as ``1,200 rows deleted``; zeros say nothing."""
    said = [f"{value:,} {_named(name, value)}" for name, value in values.items() if value]
    return ", ".join(said)


def _named(name: str, value: int) -> str:
    noun, _, rest = name.partition("_")
    if value == 1:
        noun = noun.removesuffix("es" if noun.endswith("sses") else "s")
    return f"{noun} {rest.replace('_', ' ')}".rstrip()


def number(count: int, noun: str) -> str:
    """``2 lines``, ``1 line``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def holder(lease: Mapping[str, Any] | None) -> str:
    """Who holds a target, why and how long, in a line."""
    if lease is None:
        return "free"
    since = f"{lease['holder']}, since {moment(lease['since'])}"
    if lease["state"] == "locked":
        return f"locked by {since}, until {moment(lease['until'])}: {lease['reason']}"
    return f"held by a run of {since}" + (", at work" if lease["state"] == "working" else "")


def moment(at: str) -> str:
    """A time of the target, to the minute: ``2026-01-02 03:04 UTC``."""
    return f"{minute(at)} UTC"


def minute(at: str) -> str:
    """The same without the zone, ``2026-01-02 03:04``."""
    return at[:16].replace("T", " ")


def seconds(start: str, end: str) -> float:
    """The seconds between two times in ISO 8601."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def age(since: str, until: str) -> str:
    """``, 6 h ago``; empty for less than a minute, or when ``until`` is not known."""
    if not until:
        return ""
    elapsed = seconds(since, until.replace(" UTC", "Z"))
    units = ((2 * 86_400, 86_400, "days"), (3600, 3600, "h"), (60, 60, "min"))
    return next(
        (f", {elapsed / unit:.0f} {name} ago" for least, unit, name in units if elapsed >= least),
        "",
    )


def item(entry: Mapping[str, Any]) -> str:
    """A planned change in a few words; which database a table is of is not among them.

    Without counts in lines, where the entry has its texts ``before`` and ``after``.
    """
    action = str(entry.get("action", ""))
    lines = "" if action in ENDING | {"stop"} else one_for_one(entry) or replaced(entry)
    said = counts(entry.get("counts") or {}) or lines or action.replace("_", " ")
    return f"{_DATABASE.sub('', str(entry.get('resource', '')))}: {said}"


def real(plan: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The planned changes that change something."""
    return [entry for entry in plan if entry.get("action", "none") != "none"]


def summary(result: TaskResult) -> str:
    """The changes of a step, or why it changed nothing, in one line."""
    return one_line(whole_summary(result))


def whole_summary(result: TaskResult) -> str:
    """The same, however long."""
    if result.status not in (Status.OK, Status.CHANGED):
        return ""
    plan = real(result.plan) if result.changed else []
    if len(plan) > NAMED and (said := counts(totals(plan))):
        return said
    changes = [item({**diff_of(result, entry), **entry}) for entry in plan]
    more = [f"and {len(changes) - NAMED} more"] if len(changes) > NAMED else []
    return "; ".join(changes[:NAMED] + more) or result.message


def totals(entries: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The rows and cells that changes delete, insert, replace or change, in all."""
    found: Counter[str] = Counter()
    for entry in entries:
        for name, count in (entry.get("counts") or {}).items():
            if name.startswith(("rows_", "cells_")) and name not in _STATES:
                found[_OF_RESTORE.get(name, name)] += count
    return {name: found[name] for name in sorted(found)}


def fraction(progress: Progress) -> float | None:
    """How much of a table's phase is done, 0 to 1; None when the whole is not known."""
    if progress.done:
        return 1.0
    pairs = ((progress.rows, progress.total_rows), (progress.bytes, progress.total_bytes))
    return next((min(done / whole, 1.0) for done, whole in pairs if whole), None)


def waits(progress: Progress) -> bool:
    """Whether nothing has been done of what has numbers."""
    return not progress.rows + progress.bytes and progress.total_rows is not None


def failure(result: TaskResult) -> list[str]:
    """The message and the output of a step that failed."""
    if result.status not in (Status.FAILED, Status.UNREACHABLE, Status.IGNORED):
        return []
    return [line for part in (result.message, result.output) for line in part.splitlines()]


def value(given: object) -> str:
    """A parameter's value; ``''`` for an empty text."""
    said = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)
    return said or "''"


def one_line(text: str, limit: int = 160) -> str:
    """Text without line ends, cut at ``limit`` characters."""
    joined = " ".join(text.split())
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"


def one_for_one(diff: Mapping[str, Any]) -> str:
    """A diff of one short line by another."""
    before, after = (str(diff.get(side) or "").strip() for side in ("before", "after"))
    short = before and after and "\n" not in before + after and len(before + after) <= WIDTH
    return f"{before} → {after}" if short else ""


def replaced(diff: Mapping[str, Any]) -> str:
    """A diff in numbers of lines."""
    removed, added = removed_and_added(diff)
    if added and not diff.get("before"):
        return f"new, {number(added, 'line')}"
    if added and removed:
        return f"{number(added, 'line')} added, {removed:,} removed"
    numbers = {"added": added, "removed": removed}
    return "".join(f"{number(n, 'line')} {verb}" for verb, n in numbers.items() if n)


def diff_of(result: TaskResult, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The diff of a planned change; empty when the step gave none."""
    headers = ("before_header", "after_header")
    named = (diff for diff in result.diff if entry["resource"] in map(diff.get, headers))
    return next(named, {})


def removed_and_added(diff: Mapping[str, Any]) -> tuple[int, int]:
    """How many lines a diff of Ansible takes away and adds; (0, 0) where that is not known."""
    lines = changed_lines(diff)
    return tuple(sum(line.startswith(sign) for line in lines) for sign in "-+")  # type: ignore[return-value]


def diff_lines(diff: Mapping[str, Any]) -> list[str]:
    """A diff of Ansible as lines of a unified diff."""
    if "prepared" in diff:
        return str(diff["prepared"]).splitlines()
    before, after = (_as_lines(diff.get(side)) for side in ("before", "after"))
    headers = [str(diff.get(f"{side}_header") or side) for side in ("before", "after")]
    if len(before) + len(after) > DIFF_INPUT:
        return [
            f"--- {headers[0]}",
            f"+++ {headers[1]}",
            f"{len(before):,} lines → {len(after):,} lines",
        ]
    return [
        line.rstrip("\n")
        for line in unified_diff(before, after, headers[0], headers[1], lineterm="")
    ]


def changed_lines(diff: Mapping[str, Any]) -> list[str]:
    """The same without the two lines that name the sides."""
    return diff_lines(diff)[2:]


def _as_lines(side: object) -> list[str]:
    if side is None:
        return []
    if not isinstance(side, str):
        side = json.dumps(side, indent=4, sort_keys=True, default=str)
    return side.splitlines()


def title(started: RunStarted) -> str:
    """The playbook of a run and its target, in one line."""
    verb = "Check" if started.check else "Apply"
    return f"{verb} {started.playbook} on {where(started)}"


def where(started: RunStarted) -> str:
    """The target of a run, and the hosts that it is limited to."""
    return started.target + (f", --limit {started.limit}" if started.limit else "")


def recap(host: str, found: HostCounts) -> str:
    """A host's line of the recap, as Ansible prints it."""
    return (
        f"{host:<26} : ok={found.ok:<4} changed={found.changed:<4} "
        f"unreachable={found.unreachable:<4} failed={found.failed:<4} skipped={found.skipped:<4} "
        f"rescued={found.rescued:<4} ignored={found.ignored:<4}"
    ).rstrip()


def fold(line: str, width: int, hang: int = 2) -> list[str]:
    """A line as lines of ``width`` columns, broken between words, the others ``hang`` deeper.

    0 columns are no bound. Blanks that align are lost in a line that is broken.
    """
    if not width or len(line) <= width:
        return [line]
    deep = len(line) - len(line.lstrip(" "))
    return wrap(
        " ".join(line.split()), width, initial_indent=" " * deep,
        subsequent_indent=" " * (deep + hang), break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def is_held(results: Iterable[TaskResult]) -> bool:
    """Whether a run ended because another one, or a person, holds the target."""
    return any(result.headline and result.module.endswith(".lease") for result in results)


def conclusion(finished: RunFinished, results: Sequence[TaskResult], where: str = "") -> list[str]:
    """The last lines of a run: what it came to and what to do next.

    ``where``: the hosts of the steps, when there are several.
    """
    changed = [result.task for result in results if result.changed]
    steps = number(len(changed), "step") + where
    if finished.exit_code == ExitCode.INTERRUPTED:
        return _interrupted(finished, changed)
    if finished.exit_code not in (ExitCode.OK, ExitCode.CHANGES):
        if finished.check:
            return ["Nothing was changed: this was a check."]
        if not changed:
            return ["Stopped. Nothing was changed before that."]
        again = "so does the same command, unless it applied a plan file"
        return [
            f"Stopped. Done before that: {', '.join(changed)}.",
            f"Once the cause is fixed, runbook resume does what is missing; {again}.",
        ]
    if finished.check and finished.unchecked:
        names = ", ".join(finished.unchecked)
        return [
            f"{steps} would change something; a check cannot show what these do: {names}.",
            "Nothing was changed: this was a check.",
        ]
    if finished.unplanned:
        return [f"Done: {steps} changed something.", otherwise(finished.unplanned)]
    if not changed:
        if is_held(results):
            return ["Nothing was done: the target is held."]
        return ["Nothing to change: the target is as the playbook says."]
    if finished.check:
        return [f"{steps} would change something. Nothing was changed: this was a check."]
    known = " as far as a check could show it" if finished.unchecked else ""
    return [f"Done, as planned{known}: {steps} changed something."]


def otherwise(unplanned: Sequence[str]) -> str:
    """A sentence about the differences from the plan."""
    return f"Not as planned: {'; '.join(unplanned)}."


def cut_off(step: str) -> str:
    """A sentence about the step that an interruption cut off."""
    return (
        f"Cut off: {step}. A database transaction is rolled back when cut off; "
        "if it had just been committed, the next run finds its marker and does not repeat it."
    )


def _interrupted(finished: RunFinished, changed: Sequence[str]) -> list[str]:
    lines = ["Interrupted."]
    if finished.check:
        return [*lines, "Nothing was changed: this was a check."]
    before = f"Done before that: {', '.join(changed)}" if changed else (
        "Nothing was changed before that")  # fmt: skip
    lines.append(f"{before}.")
    if finished.unfinished:
        lines.append(cut_off(finished.unfinished))
    again = "Finish with runbook resume, or with the same command unless it applied a plan file."
    return [*lines, again]


def columns(rows: Sequence[Sequence[str]], numbers: Collection[str] = ()) -> list[str]:
    """Rows as lines, their columns below each other; the first row names the columns.

    ``numbers``: the names of those columns that end at the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(rows[0], row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
