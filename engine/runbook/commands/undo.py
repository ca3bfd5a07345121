"""``runbook undo``: put back what a run changed, by the playbook ``undo.yml``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import (
    CHECK,
    EXPIRES,
    EXTRA_VARS,
    LIMIT,
    RUNNING,
    SETTINGS,
    YES,
    inventory,
    with_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

#: The parts that ``--force-step`` names (plugins/module_utils/undo/record.py).
PARTS = ("grid", "tables", "settings", "files", "crontab")


@click.command("undo", context_settings=SETTINGS)
@click.argument("run")
@CHECK
@YES
@click.option("--force-step", "force", multiple=True, type=click.Choice(PARTS), metavar="PART",
              help=f"Put back what was changed since, too: {', '.join(PARTS)}.")  # fmt: skip
@click.option("-o", "--out", default="", metavar="FILE",
              help="Stop after the plan and save it, for runbook apply FILE.")  # fmt: skip
@EXPIRES
@with_options([inventory(required=True), EXTRA_VARS, LIMIT], RUNNING)
def undo(
    run: str, *, check: bool, force: tuple[str, ...], out: str, lifetime: timedelta, **options: Any
) -> int:
    """Put back what RUN changed on a target: show the plan, confirm, do it.

    RUN is an id that runbook history lists, or the beginning of one; newest is the last run that
    is no undo. What was changed since is named and refused. An undo is a run too, and can be
    undone. Of several hosts those where RUN changed something.
    """
    from runbook.flow import apply as flow

    if run != "newest":
        options["limit"] = _where(run, options)
    given = json.dumps({"undo_run": run, "undo_force": list(force)})
    options["extra_vars"] = (*options["extra_vars"], given)
    wanted = flow.Options(
        "undo.yml", check=check or bool(out), out=out, lifetime=lifetime, **options
    )
    return flow.apply(wanted)


def _where(run: str, options: Mapping[str, Any]) -> str:
    """The option ``--limit`` without the hosts where a run changed nothing; said if there are any.

    As it is, if the target has one host, or if the run is not in the journals of all that answer.
    """
    from runbook.commands.history import ask
    from runbook.events.render import fleet
    from runbook.flow.confirm import say
    from runbook.load.source import Source

    limit: str = options["limit"]
    source = Source.named("undo.yml", options["target"], options["extra_vars"])
    assert source.inventory is not None
    if source.inventory.static and len(source.inventory.match(limit or "all")) == 1:
        return limit
    answers, _ = ask(options)
    known = {
        host
        for host, answer in answers.items()
        if any(row["run"].startswith(run) and host in row["hosts"] for row in answer["runs"])
    }
    without = answers.keys() - known
    if not (known and without):
        return limit
    say(f"Run {run} changed nothing on {fleet.named(without, answers)}.")
    return fleet.without(limit, without)
