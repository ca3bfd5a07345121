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
        listed = {"run_modes": [asdict(mode) for mode in found], "targets": names}
        click.echo(json.dumps(listed, default=str))
        return
    click.echo("Run modes (details: runbook show NAME):")
    for mode in found:
        click.echo(f"  {mode.name}")
        _say(f"      {' '.join((mode.summary or mode.title).split())}")
    _say(f"Targets: {', '.join(names) or 'none'}")


def _say(line: str, hang: int = 0) -> None:
    """Print a line, at a terminal folded between words."""
    from runbook.events.render import people, text

    click.echo("\n".join(text.fold(line, people.columns(), hang)))


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
    layers = source.inventory.layers if source.inventory else ()
    vaults = [layer.document.file for layer in layers if layer.encrypted]
    _parameters(found.parameters, vaults, valued=target is not None or bool(extra_vars))


def _plan(plan: PlanFile, *, diff: bool, as_json: bool) -> None:
    """A saved plan: what it is bound to, and its summary."""
    from runbook.events.render import people, text
    from runbook.events.render.summary import WIDTH, Summary
    from runbook.flow import saved

    content = plan.content
    if as_json:
        click.echo(json.dumps(content))
        return
    made, commit = content["made"], content["made"]["commit"]
    click.echo(f"Plan of {content['playbook']} on {content['target']}")
    click.echo(f"  SHA-256   {plan.sha256}")
    at = text.moment(made["at"])
    click.echo(f"  made      {at} by {made['by']}, runbook {made['runbook']}")
    click.echo(f"  commit    {commit}\n" * bool(commit), nl=False)
    click.echo(f"  expires   {text.moment(content['expires_at'])}")
    for host, bound in content["hosts"].items():
        _say(f"  {host}: {bound['database']}; bucket {bound['bucket']}", 2)
    chosen = {name: value for name, value in content["selection"].items() if value}
    if chosen or content["extra_vars"]:
        click.echo(f"  options   {json.dumps({**chosen, 'extra_vars': content['extra_vars']})}")
    results = saved.results(plan)
    heads, parameters = content["headlines"], content["parameters"]
    summary = Summary(diff=diff, parameters=parameters, results=results, headlines=heads)
    for line in summary.lines(people.columns() or WIDTH):
        _say(line.text, 2)
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
        _say(f"  {number:>2}. {step.name or step.module}{tags}", 4)
        _say(f"        {step.module}{': ' if step.parts else ''}{', '.join(step.parts)}")
    for step in steps:
        if step.handler:
            click.echo(f"   If asked to: {step.name}\n        {step.module}")


def _parameters(found: Sequence[Parameter], vaults: Sequence[str], *, valued: bool) -> None:
    click.echo("\nParameters")
    for parameter in found:
        host = f" [{parameter.host}]" if parameter.host else ""
        unset = "required" if parameter.required else "optional"
        need = (
            f"default {json.dumps(parameter.default)}" if parameter.default is not None else unset
        )
        facts = [parameter.kind, parameter.allowed, need, "secret" if parameter.secret else ""]
        _say(f"  {parameter.name}{host}  ({'; '.join(fact for fact in facts if fact)})", 4)
        if valued:
            _say(f"      {_valued(parameter, vaults)}", 2)
        _say(f"      {parameter.description}")


def _valued(parameter: Parameter, vaults: Sequence[str]) -> str:
    """The value, or why there is none; a secret may be in a file that is encrypted as a whole."""
    if vaults and parameter.secret and parameter.source in ("", "default"):
        return f"not known: {', '.join(vaults)} is encrypted"
    if parameter.source:
        return f"= {json.dumps(parameter.value, default=str)}  ({parameter.source})"
    return "missing: it is required" if parameter.required else "not set"
