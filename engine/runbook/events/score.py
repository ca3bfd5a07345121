"""A plan scored by the run that followed it: what was done otherwise than planned. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from runbook.events.render import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runbook.events.model import TaskResult


def unplanned(
    planned: Iterable[TaskResult], done: Iterable[TaskResult], *, seen: bool = True
) -> list[str]:
    """The differences, a line for each step of a host; none when all was done as planned.

    A step is one with its name on a host. What is volatile counts here too, as daemons that cron
    had started again: modules are not held to it, but the operator saw another number. ``seen``:
    whether the check showed what every step does; else one without planned changes may have some.
    """
    wanted, found = _changes(planned), _changes(done)
    return [
        f"{task} [{host}]: planned {_said(wanted[task, host])}, done {_said(found[task, host])}"
        for task, host in dict.fromkeys([*wanted, *(found if seen else ())])
        if wanted[task, host] != found[task, host]
    ]


def left(planned: Iterable[TaskResult], done: Iterable[TaskResult]) -> dict[str, list[str]]:
    """By host the planned steps that did not end there, or failed."""
    ended = {(result.host, result.task) for result in done if not result.failed}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for result in planned:
        if result.changed and (result.host, result.task) not in ended:
            found[result.host].append(result.task)
    return dict(found)


def _changes(results: Iterable[TaskResult]) -> defaultdict[tuple[str, str], list[str]]:
    """The changes of each step on each host; of foreign modules only that there are some."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for result in results:
        if result.changed:
            items = [text.item(_bare(entry)) for entry in text.real(result.plan)]
            found[result.task, result.host] += items or ["a change"]
    return found


def _bare(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A change with its counts by name, and without the texts that only a plan file has."""
    counts = dict(sorted(entry["counts"].items()))
    return {"resource": entry["resource"], "action": entry["action"], "counts": counts}


def _said(changes: list[str]) -> str:
    return text.one_line("; ".join(changes)) or "nothing"
