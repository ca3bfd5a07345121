"""``runbook apply`` and ``runbook plan``: their options."""

from __future__ import annotations

import gc
from contextlib import contextmanager
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
    complete_playbooks,
    inventory,
    with_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runbook.execute.process import AnsibleProcess
    from runbook.load.plan_file import PlanFile

#: What says what is done; a saved plan has its own.
_PLANNING = [
    inventory(required=False), EXTRA_VARS, LIMIT,
    click.option("-t", "--tags", multiple=True, help="Only steps with these tags."),
    click.option("--skip-tags", multiple=True, help="Not the steps with these tags."),
    click.option("--start-at-task", default="", metavar="NAME", help="Begin with this step."),
    click.option("-b", "--become", is_flag=True, help="Become another user on the target."),
]  # fmt: skip

#: Options of apply that a saved plan does not take, by parameter.
_NOT_SAVED = (
    "target", "extra_vars", "limit", "tags", "skip_tags", "start_at_task", "become", "validate",
    "step",
)  # fmt: skip


@click.command(context_settings=SETTINGS)
@click.argument("playbook", metavar="PLAYBOOK|PLAN", shell_complete=complete_playbooks)
@CHECK
@click.option("--validate", is_flag=True, help="Stop after the input was read; contact nothing.")
@YES
@click.option("--step", is_flag=True, help="Ask before each step.")
@click.option("--sha256", default="", metavar="HEX", help="Apply only the plan with this digest.")
@with_options(_PLANNING, RUNNING)
@click.pass_context
def apply(context: click.Context, /, sha256: str, **options: Any) -> int:
    """Validate PLAYBOOK and TARGET, show the plan, confirm, do it.

    A file that runbook plan has written, PLAN, is applied as it was reviewed: nothing is asked and
    nothing planned again. With --check it is only seen whether the target would accept it.
    """
    with _ansible(options) as process:
        from runbook.flow import apply as flow
        from runbook.load import plan_file

        if plan_file.is_plan(options["playbook"]):
            _require_no_planning(context)
            options |= _of(plan_file.read(options["playbook"], sha256))
        elif sha256:
            text = "--sha256 is the digest of a plan file; this is a playbook"
            raise click.UsageError(text, context)
        why = f"{options['playbook']} is no saved plan, which needs none"
        _require_target(context, options, why)
        return flow.apply(flow.Options(**options), process=process)


@click.command(context_settings=SETTINGS)
@click.argument("playbook", shell_complete=complete_playbooks)
@click.option("-o", "--out", required=True, metavar="FILE", help="Where the plan is written.")
@EXPIRES
@with_options(_PLANNING, RUNNING)
@click.pass_context
def plan(context: click.Context, /, **options: Any) -> int:
    """Check PLAYBOOK on TARGET and save the plan, to be reviewed and applied once.

    Show it with runbook show FILE, apply it with runbook apply FILE.
    """
    _require_target(context, options)
    with _ansible(options) as process:
        from runbook.flow import apply as flow

        return flow.apply(flow.Options(check=True, **options), process=process)


@contextmanager
def _ansible(options: Mapping[str, Any]) -> Iterator[AnsibleProcess | None]:
    """The process of the first run: while it imports its libraries, the engine imports its own.

    None if nothing is run, or passwords, which may be asked for, have to be known when it starts.
    """
    gc.disable()  # what is imported now stays; runner.started enables it
    names = ("validate", "ask_become_pass", "ask_vault_password", "vault_id")
    if any(options.get(name) for name in names):
        yield None
        return
    from runbook.execute.process import launched

    with launched() as process:
        yield process


def _require_target(context: click.Context, options: dict[str, Any], why: str = "") -> None:
    if options["target"] is None:
        missing = "Missing option '-i' / '--inventory'"
        raise click.UsageError(f"{missing}: {why}." if why else f"{missing}.", context)


def _require_no_planning(context: click.Context) -> None:
    """A usage error that names the options that a saved plan does not take."""
    given = [
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name in _NOT_SAVED
        and context.get_parameter_source(parameter.name) == click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: a saved plan is applied as it is, so it takes no such option. "
            "Make another plan with it",
            context,
        )


def _of(plan: PlanFile) -> dict[str, Any]:
    """The options that a plan was made with."""
    from runbook.load import plan_file

    return {**plan_file.options(plan.content), "plan": plan}
