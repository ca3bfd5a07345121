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
    undone.
    """
    from runbook.flow import apply as flow

    given = json.dumps({"undo_run": run, "undo_force": list(force)})
    options["extra_vars"] = (*options["extra_vars"], given)
    wanted = flow.Options(
        "undo.yml", check=check or bool(out), out=out, lifetime=lifetime, **options
    )
    return flow.apply(wanted)
