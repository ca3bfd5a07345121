"""``runbook status``: where a target's run is: sites, learner, metrics, and what it waits for.

Read only. The modules that iterate.yml decides by are asked on the target (``status.yml``).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from runbook.commands import lock
from runbook.commands.options import SETTINGS, query_options
from runbook.errors import ExitCode
from runbook.flow import query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType


#: Iterations in the chart, the newest ones, and the length of a whole bar.
CHARTED = 12
WIDTH = 40

_TURN = ("phase", "iteration", "total", "processed", "blocked", "failed_labels", "metrics")
_LEARNER = ("cluster_id", "state", "steps", "elapsed", "cost", "hourly_ceiling", "summary")


@click.command("status", context_settings=SETTINGS)
@query_options
def status(**options: Any) -> int:
    """Where the run on a target is, its learner, its metrics, and what it waits for.

    Changes nothing. A failed learner is reported; the exit code says only whether the status could
    be determined.
    """
    found = {host: state(answer) for host, answer in query.ask("status", options).items()}
    if options["as_json"]:
        click.echo(json.dumps({"hosts": found}))
        return ExitCode.OK
    from runbook.events.render.people import is_terminal

    if not is_terminal(sys.stdout):
        for host, each in found.items():
            click.echo("\n".join(lines(host, each)))
        return ExitCode.OK
    from rich.console import Console

    for host, each in found.items():
        Console().print(panel(host, each))
    return ExitCode.OK


def state(answer: Mapping[str, Any]) -> dict[str, Any]:
    """A host's state (schemas/status.schema.json) from what status.yml hands over. Pure."""
    marker, run, turn, learner = (answer[name] for name in ("marker", "run", "turn", "learner"))
    inconsistencies = list(marker["inconsistencies"])
    if run is None:
        waits_for = "a run: apply a run mode first"
        if marker["label"]:  # another geography, or restored tables
            waits_for += f" ({marker['label']})"
        return {
            "run": None,
            "phase": "none",
            "learner": None,
            "waits_for": waits_for,
            "inconsistencies": inconsistencies,
            "lease": answer["lease"],
        }
    found = {
        "run": {name: run[name] for name in ("mode", "aoi_name", "aoi_index", "run_id")},
        **{name: turn[name] for name in _TURN},
        "learner": None,
        "waits_for": turn["waits_for"],
        "inconsistencies": inconsistencies,
        "lease": answer["lease"],
    }
    found["run"]["applied_at"] = turn["applied_at"]
    if inconsistencies:
        found["waits_for"] = "a person: run marker and tables disagree, see docs/backups.md"
        return found
    if learner.get("skipped"):
        return found
    ours = turn["phase"] in ("complete", "returned")
    found["learner"] = {
        "iteration": turn["iteration"] + ours,
        **{name: learner.get(name) for name in _LEARNER},
        "problem": "" if "done" in learner else str(learner.get("msg", "")),
        "will_retry": bool(learner.get("will_retry")),
    }
    if turn["phase"] == "complete":
        found["waits_for"] = _waits_for(found["learner"])
    return found


def _waits_for(learner: Mapping[str, Any]) -> str:
    """The next event that a complete iteration of regular production waits for."""
    if learner["cluster_id"] is None:
        return "the learner, of which nothing could be found out"
    if learner["will_retry"]:
        return "the next call of iterate.yml, which starts the learner again"
    if learner["problem"]:
        return "a person: see the learner's failure"
    if not learner["cluster_id"]:
        return "the next call of iterate.yml, which starts the learner"
    if all(step["state"] == "COMPLETED" for step in learner["steps"]):
        return "the next call of iterate.yml, which takes in what the learner brought"
    return "the learner"


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of all but the metrics; a text may have several lines."""
    run = found["run"]
    holder = [("holder", lock.described(found["lease"]))] if found["lease"] else []
    if run is None:
        return [("run", "none"), *holder, ("waits for", found["waits_for"])]
    marked = f"{run['run_id']}, {run['mode']}, applied {run['applied_at']}"
    told = [
        ("run", "\n".join([marked, *(f"but {line}" for line in found["inconsistencies"])])),
        ("AOI", f"{run['aoi_name']} {run['aoi_index']}"),
        ("iteration", f"{found['iteration']}, {found['phase']}"),
        ("sites", _sites(found)),
    ]
    if found["learner"]:
        told.append(("learner", _learner(found["learner"])))
    return [*told, *holder, ("waits for", found["waits_for"])]


def _sites(found: Mapping[str, Any]) -> str:
    text = f"{found['processed']:,} of {found['total']:,} done"
    if found["failed_labels"]:
        text += f"; {found['failed_labels']:,} of the run without a label"
    if found["blocked"]:
        text += f"; {found['blocked']:,} blocked, which the next call of iterate.yml repairs"
    return text


def _learner(learner: Mapping[str, Any]) -> str:
    text = f"iteration {learner['iteration']}: {learner['summary'] or 'unknown'}"
    if learner["hourly_ceiling"] is not None:
        text += f"; at most {learner['hourly_ceiling']:.2f} dollars an hour"
    return f"{text}\n{learner['problem']}".rstrip()


def bars(found: Mapping[str, Any], full: str) -> list[tuple[str, str, str, str]]:
    """The chart's rows: iteration, accuracy, a bar of it from ``full``, TSS. The newest ones."""
    known = [row for row in found.get("metrics", []) if row["accuracy"] is not None]
    return [
        (
            str(row["iteration"]),
            f"{row['accuracy']:.3f}",
            full * round(min(max(row["accuracy"], 0), 1) * WIDTH),
            "" if row["tss"] is None else f"TSS {row['tss']:.3f}",
        )
        for row in known[-CHARTED:]
    ]


def lines(host: str, found: Mapping[str, Any]) -> list[str]:
    """A host's state for files and pipes."""
    told = [host]
    for label, text in facts(found):
        first, *more = text.splitlines()
        told.append(f"  {label:<10} {first}")
        told += [f"  {'':<10} {line}" for line in more]
    for number, accuracy, bar, tss in bars(found, "#"):
        told.append(f"  {number:>10} {accuracy} |{bar:<{WIDTH}}| {tss}".rstrip())
    return told


def panel(host: str, found: Mapping[str, Any]) -> RenderableType:
    """A host's state for a terminal."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    told = Table.grid(padding=(0, 1))
    told.add_column(style="bold", min_width=12)
    told.add_column()
    failed = bool(found["learner"] and found["learner"]["problem"])
    for label, text in facts(found):
        style = "red" if failed and label in ("learner", "waits for") else ""
        told.add_row(f"  {label}", Text(text, style))
        if label == "sites":
            done = ProgressBar(found["total"] or 1, found["processed"], WIDTH)
            told.add_row("", done)
    for number, accuracy, bar, tss in bars(found, "█"):
        chart = Text.assemble((f"{accuracy} "), (f"{bar:<{WIDTH}}", "green"), f" {tss}")
        told.add_row(Text(number, justify="right"), chart)
    return Group(Text(host, "bold cyan"), told)
