"""``runbook resume``: its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import (
    CHECK,
    EXTRA_VARS,
    RUNNING,
    SETTINGS,
    YES,
    inventory,
    with_options,
)
from runbook.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence


def complete_runs(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """The runs that a shell offers: those that did not end, the newest first."""
    from runbook.events import journal

    return [
        run.run_id
        for run in journal.runs()
        if run.given and run.run_id.startswith(begun) and not run.ended_well
    ]


@click.command("resume", context_settings=SETTINGS)
@click.argument("run", default="", shell_complete=complete_runs)
@CHECK
@YES
@with_options([inventory(required=True), EXTRA_VARS], RUNNING)
def resume(*, run: str, target: str, extra_vars: Sequence[str], **options: Any) -> int:
    """Finish RUN, which was killed, interrupted or failed; the newest such run unless it is named.

    With its playbook, target and parameters, which must be as they were, on the hosts where it did
    not come to its end; -e gives once more the
    secrets that were on its command line. What it has done must be as it left it. The plan of what
    is left is shown and confirmed as by apply.
    """
    from runbook.events.render import fleet, text
    from runbook.flow import apply as flow
    from runbook.flow.resume import unfinished

    found = unfinished(target, run, extra_vars)
    if isinstance(found, str):
        click.echo(found)
        return ExitCode.OK
    where = f", on {fleet.named(found.hosts, found.given['hosts'])}" if found.hosts else ""
    begun = text.moment(found.given["made"]["at"])
    click.echo(f"Resuming {found.named}, begun {begun}{where}", err=True)
    return flow.apply(flow.Options(**{**options, **found.options()}, resumes=found))
