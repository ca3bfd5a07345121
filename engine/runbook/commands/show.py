"""``runbook list`` and ``runbook show``: the run modes, and what one of them does and takes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import (
    SETTINGS,
    complete_extra_vars,
    complete_playbooks,
    complete_targets,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runbook.load.parameters import Parameter
    from runbook.load.plan_file import PlanFile
    from runbook.load.walk.tasks import Step


@click.command("list", context_settings=SETTINGS)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_(*, as_json: bool) -> None:
    """The run modes that apply takes, and the targets."""
    from runbook.load import modes, targets

    found, names = modes.run_modes(), targets.target_names()
    if as_json:
        entries = [
            {
                "name": mode.name,
                "title": mode.title,
                "summary": mode.summary,
                "path": str(mode.path),
            }
            for mode in found
        ]
        click.echo(json.dumps({"run_modes": entries, "targets": names}))
        return
    click.echo("Run modes (details: runbook show NAME):")
    for mode in found:
        click.echo(f"  {mode.name}")
        click.echo(f"      {' '.join((mode.summary or mode.title).split())}")
    click.echo(f"Targets: {', '.join(names) or 'none'}")


@click.command("show", context_settings=SETTINGS)
@click.argument("playbook", metavar="PLAYBOOK|PLAN", shell_complete=complete_playbooks)
@click.option("-i", "--inventory", "target", metavar="TARGET", help="Show this target's values.",
              shell_complete=complete_targets)  # fmt: skip
@click.option("-e", "--extra-vars", multiple=True, metavar="K=V|@FILE", help="Parameters.",
              shell_complete=complete_extra_vars)  # fmt: skip
@click.option("-D", "--diff", is_flag=True, help="Show each change of a plan, line by line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(
    playbook: str, target: str | None, extra_vars: tuple[str, ...], *, diff: bool, as_json: bool
) -> None:
    """The steps of PLAYBOOK, and its parameters: type, allowed values, default, meaning.

    With -i also their values, secrets masked. Of PLAN, a file that runbook plan has written: who
    made it when, what it is bound to, what would change.
    """
    from runbook.load import plan_file
    from runbook.load.diagnostics import fail_on
    from runbook.load.run_input import examined
    from runbook.load.source import Source

    if plan_file.is_plan(playbook):
        _plan(plan_file.read(playbook), diff=diff, as_json=as_json)
        return
    source = Source.named(playbook, target, extra_vars)
    fail_on(source.extra.problems)
    found = examined(source)
    if as_json:
        described: dict[str, Any] = {
            "playbook": found.name,
            "target": source.inventory.target.name if source.inventory else None,
            "steps": [asdict(step) for step in found.steps],
            "parameters": [asdict(parameter) for parameter in found.parameters],
        }
        click.echo(json.dumps(described, default=str))
        return
    _steps(found.name, found.steps)
    _parameters(found.parameters, valued=target is not None or bool(extra_vars))


def _plan(plan: PlanFile, *, diff: bool, as_json: bool) -> None:
    """A saved plan: what it is bound to, and its summary."""
    from runbook.events.render import text
    from runbook.events.render.summary import Summary
    from runbook.flow import saved

    content = plan.content
    if as_json:
        click.echo(json.dumps(content))
        return
    made, commit = content["made"], content["made"]["commit"]
    click.echo(f"Plan of {content['playbook']} on {content['target']}")
    click.echo(f"  SHA-256   {plan.sha256}")
    click.echo(f"  made      {made['at']} by {made['by']}, runbook {made['runbook']}")
    click.echo(f"  commit    {commit}\n" * bool(commit), nl=False)
    click.echo(f"  expires   {content['expires_at']}")
    for host, bound in content["hosts"].items():
        click.echo(f"  {host}: {bound['database']}; bucket {bound['bucket']}")
    chosen = {name: value for name, value in content["selection"].items() if value}
    if chosen or content["extra_vars"]:
        click.echo(f"  options   {json.dumps({**chosen, 'extra_vars': content['extra_vars']})}")
    results = saved.results(plan)
    for headline in content["headlines"]:
        click.echo(headline)
    for line in Summary(diff=diff, parameters=content["parameters"], results=results).lines():
        click.echo(line.text)
    for warning in content["warnings"]:
        click.echo(f"warning: {' '.join(warning.split())}")
    for each in (each for result in results for each in result.diff if diff):
        click.echo("\n".join(text.diff_lines(each)))
    if content["unchecked"]:
        click.echo(f"Not known before the run: {', '.join(content['unchecked'])}")
    if not results and not content["unchecked"]:
        click.echo("Nothing to change.")


def _steps(name: str, steps: Sequence[Step]) -> None:
    click.echo(f"{name}: what it does")
    for number, step in enumerate((step for step in steps if not step.handler), 1):
        tags = f"  [{', '.join(step.tags)}]" if step.tags else ""
        click.echo(f"  {number:>2}. {step.name or step.module}{tags}")
        click.echo(f"        {step.module}{': ' if step.parts else ''}{', '.join(step.parts)}")
    for step in steps:
        if step.handler:
            click.echo(f"   If asked to: {step.name}\n        {step.module}")


def _parameters(found: Sequence[Parameter], *, valued: bool) -> None:
    click.echo("\nParameters")
    for parameter in found:
        host = f" [{parameter.host}]" if parameter.host else ""
        unset = "required" if parameter.required else "optional"
        need = (
            f"default {json.dumps(parameter.default)}" if parameter.default is not None else unset
        )
        facts = [parameter.kind, parameter.allowed, need, "secret" if parameter.secret else ""]
        click.echo(f"  {parameter.name}{host}  ({'; '.join(fact for fact in facts if fact)})")
        if valued:
            value = f"= {json.dumps(parameter.value, default=str)}  ({parameter.source})"
            missing = "missing: it is required" if parameter.required else "not set"
            click.echo(f"      {value if parameter.source else missing}")
        click.echo(f"      {parameter.description}")
