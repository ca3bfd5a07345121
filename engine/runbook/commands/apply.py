"""``runbook apply``: its options."""

from __future__ import annotations

import gc
from typing import Any

import click

from runbook.commands.options import (
    SETTINGS,
    complete_extra_vars,
    complete_playbooks,
    complete_targets,
    one_target,
)


@click.command(context_settings=SETTINGS)
@click.argument("playbook", shell_complete=complete_playbooks)
@click.option("-i", "--inventory", "target", required=True, metavar="TARGET",
                 multiple=True, callback=one_target, shell_complete=complete_targets,
              help="A name below inventories/, a path, or 'host,'.")  # fmt: skip
@click.option("-e", "--extra-vars", multiple=True, metavar="K=V|@FILE", help="Parameters.",
              shell_complete=complete_extra_vars)  # fmt: skip
@click.option("-C", "--check", is_flag=True, help="Stop after the plan; change nothing.")
@click.option("--validate", is_flag=True, help="Stop after the input was read; contact nothing.")
@click.option("-D", "--diff", is_flag=True, help="Show each changed step, line by line.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-l", "--limit", default="", metavar="HOSTS", help="Only these hosts.")
@click.option("-t", "--tags", multiple=True, help="Only steps with these tags.")
@click.option("--skip-tags", multiple=True, help="Not the steps with these tags.")
@click.option("--start-at-task", default="", metavar="NAME", help="Begin with this step.")
@click.option("--step", is_flag=True, help="Ask before each step.")
@click.option("-f", "--forks", type=click.IntRange(1), help="Hosts at a time.")
@click.option("-b", "--become", is_flag=True, help="Become another user on the target.")
@click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password to become it.")
@click.option("-J", "--ask-vault-password", is_flag=True, help="Ask for the vault's password.")
@click.option("--vault-password-file", multiple=True, metavar="FILE", help="A vault's password.")
@click.option("--vault-id", multiple=True, metavar="ID@FILE", help="A vault's name and password.")
@click.option("--strategy", default="", metavar="PLUGIN", help="mitogen, linear, ...")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line; does not mean --yes."
)
@click.option("--report", "reports", multiple=True, metavar="FILE",
              help="Write a report: .html to look at, .md for a pull request.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="A line for each change and the end; for logs.")
@click.option("--detailed-exitcode", is_flag=True, help="--check exits 2 when there are changes.")
@click.option("-v", "--verbose", count=True, help="Show every step; -vvv adds Ansible's messages.")
def apply(**options: Any) -> int:
    """Validate PLAYBOOK and TARGET, show the plan, confirm, do it."""
    gc.disable()  # what is imported now stays; runner.run enables it
    from runbook.flow import apply as flow

    return flow.apply(flow.Options(**options))
