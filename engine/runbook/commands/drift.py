"""``runbook drift``: what on a target is not as a playbook says; for people and for cron."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import FORKS, SETTINGS, complete_playbooks, query_options
from runbook.errors import ExitCode, RunbookError

if TYPE_CHECKING:
    from runbook.events.model import Event
    from runbook.flow.drift import Drift


@click.command("drift", context_settings=SETTINGS)
@click.argument("playbook", shell_complete=complete_playbooks)
@query_options
@click.option("-t", "--tags", multiple=True, help="Only steps with these tags.")
@click.option("--skip-tags", multiple=True, help="Not the steps with these tags.")
@FORKS
@click.option("-b", "--become", is_flag=True, help="Become another user on the target.")
@click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password to become it.")
@click.option("-D", "--diff", is_flag=True, help="Every line of each difference.")
@click.option("--report", "reports", multiple=True, metavar="FILE",
              help="Write a report: .html to look at, .md for a pull request.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when nothing has drifted.")
def drift(*, playbook: str, as_json: bool, quiet: bool, **options: Any) -> int:
    """Report what on a target is not as PLAYBOOK says. Changes nothing, and is no run of a journal.

    What differs is kept on this machine for runbook status, which shows it with its age.
    The exit code is 0, or 2 when something has drifted; 6 while a run is changing the target; 1, 3
    and 4 as of apply. Of several hosts the worst counts.
    """
    from runbook.events import journal
    from runbook.flow import apply, query
    from runbook.flow.drift import Drift

    found = Drift()
    wanted = apply.Options(playbook, check=True, journaled=False, **options)
    with query.shown() as live:

        def show(event: Event) -> None:
            live(event)
            found(event)

        apply.apply(wanted, show)
    code = found.exit_code
    if found.compared:
        found.since = journal.last_as_declared(playbook, options["target"], found.hosts)
        _keep(found)
        _print(found, as_json=as_json, whole=options["diff"], quiet=quiet and not code)
    elif code == ExitCode.LOCKED and found.hosts:
        held = found.holder(found.hosts[0])
        click.echo(f"Cannot tell: {held}. Ask again when it has ended.", err=True)
    elif found.end:
        click.echo(found.end.message, err=True)
    return code


def _keep(found: Drift) -> None:
    """Keep the answer for ``status``; that it cannot be kept changes nothing of it."""
    try:
        found.keep()
    except (OSError, RunbookError) as error:
        click.echo(f"status will not show this: it cannot be kept: {error}", err=True)


def _print(found: Drift, *, as_json: bool, whole: bool, quiet: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.as_json()))
    elif not quiet:
        from runbook.events.render import people, text

        room = people.columns()
        for line in found.lines(whole=whole):  # those of a difference, which are deeper, stay
            folded = [line] if line.startswith("    ") else text.fold(line, room)
            click.echo("\n".join(folded))
