"""``runbook history``: what changed a target, from the target's own journal.

Read only. The rows are the module ``journal_info``'s, so they are the same on every machine.
"""

from __future__ import annotations

import json
from collections import defaultdict
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import SETTINGS, query_options
from runbook.errors import ExitCode
from runbook.events.render import fleet, people, text
from runbook.flow import query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WHEN = "when (UTC)"
COLUMNS = ("run", WHEN, "operator", "playbook", "outcome", "what changed")
#: Runs that are listed unless ``--last`` says otherwise.
LAST = 20
#: Characters of what changed.
WIDTH = 100
#: Columns for it at least, or it gets lines of its own.
LEAST = 30


@click.command("history", context_settings=SETTINGS)
@click.option(
    "--since", default="", metavar="DATE", help="Since 2026-01-14, or 2026-01-14T09:30 in UTC."
)
@click.option(
    "--operator", default="", metavar="NAME", help="Of this operator, or part of the name."
)
@click.option("--playbook", default="", metavar="NAME", help="Of this playbook.")
@click.option("--last", default=LAST, show_default=True, type=click.IntRange(0), metavar="N",
              help="At most so many runs; 0 is all.")  # fmt: skip
@query_options
def history(**options: Any) -> int:
    """Which runs changed a target, from the target's own journal: the newest first.

    Of several hosts how each run ended on them; --limit HOST says more of one.
    """
    filters = {name: options[name] for name in ("since", "operator", "playbook")}
    answers, code = ask(options, limit=options["last"], **filters)
    hosts = {host: answer["runs"] for host, answer in answers.items()}
    none = "no such run" if any(filters.values()) else "no run"
    if options["as_json"]:
        click.echo(json.dumps({"hosts": hosts}))
    elif len(answers) > 1:
        click.echo("\n".join(by_run(hosts, none)))
    else:
        for host, answer in answers.items():
            click.echo("\n".join(lines(host, answer, none)))
    return code


def ask(options: Mapping[str, Any], **filters: Any) -> tuple[dict[str, Any], ExitCode]:
    """The runs of each host's journal that the filters of ``journal_info`` leave."""
    return query.ask_each("history", options, {"history": filters})


def by_run(hosts: Mapping[str, Sequence[Mapping[str, Any]]], none: str = "no run") -> list[str]:
    """The runs of several hosts as a table: how each ended on them, the newest first.

    ``none``: the words for no run at all.
    """
    runs: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for host, found in hosts.items():
        for run in found:
            runs[run["run"]][host] = run
    if not runs:
        return [f"{none} in the journals of {fleet.named(hosts, hosts)}"]
    rows = [("run", "operator", "playbook", "outcome")]
    for name, on in sorted(runs.items(), key=lambda item: _began(*item), reverse=True):
        ends: dict[str, list[str]] = defaultdict(list)
        for host, run in on.items():
            ends[run["outcome"]].append(host)
        said = [
            f"{outcome} on {fleet.named(ends[outcome], hosts)}"
            for outcome in sorted(ends, key=lambda outcome: outcome == "done")
        ]
        run = next(iter(on.values()))
        rows.append((name, run["operator"], run["playbook"], "; ".join(said)))
    return _indented(rows)


def _began(name: str, on: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """When a run first changed something; its id, for those that did at the same time."""
    return min(run["at"] for run in on.values()), name


def _indented(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; at a terminal the last column is folded, below the others if they fill it.

    Then the time is left out, which the run's id has.
    """
    lines, room = text.columns(rows), people.columns()
    if not room:
        return [f"  {line}" for line in lines]
    begin = 2 + max(len(line) - len(row[-1]) for line, row in zip(lines, rows, strict=True))
    if room - begin >= LEAST:
        return [part for line in lines for part in _hung(f"  {line}", begin, room)]
    kept = [number for number, name in enumerate(rows[0][:-1]) if name != WHEN]
    shorter = text.columns([[row[number] for number in kept] for row in rows])
    return [
        part
        for line, row in zip(shorter, rows, strict=True)
        for part in (f"  {line}", *text.fold(f"    {row[-1]}", room, 0))
    ]


def _hung(line: str, begin: int, room: int) -> list[str]:
    """A line whose text from ``begin`` on is folded there."""
    first, *more = wrap(line[begin:], room - begin, break_on_hyphens=False) or [""]
    return [f"{line[:begin]}{first}".rstrip(), *(" " * begin + part for part in more)]


def lines(host: str, answer: Mapping[str, Any], none: str = "no run") -> list[str]:
    """A host's runs as a table."""
    runs = answer["runs"]
    if not runs:
        return [f"{host}: {none} in the journal {answer['folder']}"]
    return [f"{host}: journal {answer['folder']}", *_indented([COLUMNS, *map(_cells, runs)])]


def _cells(run: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        run["run"],
        text.minute(run["at"]),
        run["operator"],
        run["playbook"],
        run["outcome"],
        words(run),
    )


def words(run: Mapping[str, Any]) -> str:
    """A run in a line: how it went wrong first, then rows in all, then its steps."""
    said = [problem(step) for step in run["steps"] if step["outcome"] != "done"]
    if run["outcome"] == "stopped":
        said.append(f"ended after {run['steps'][-1]['task']!r}")
    rows = text.counts(totals(run["steps"]))
    said += [rows] if rows else []
    said.append(", ".join(step["task"] for step in run["steps"]))
    return text.one_line("; ".join(said), WIDTH)


def problem(step: Mapping[str, Any]) -> str:
    """How a step went wrong, without its message."""
    return {"failed": f"failed: {step['task']!r}"}.get(
        step["outcome"], f"it is not known how {step['task']!r} ended"
    )


def totals(steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The rows that steps inserted, deleted and changed."""
    done = (step["resources"] for step in steps if step["outcome"] == "done")
    found = text.totals(resource for resources in done for resource in resources)
    return {name: count for name, count in found.items() if name.startswith("rows_")}
