"""Options that several commands share."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Group(click.Group):
    """A group of commands whose unknown names bring the one that was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, but for the guess."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from runbook.load.diagnostics import suggest

            guess = suggest(args[0], self.list_commands(ctx))
            hint = f" Did you mean {guess}?" if guess else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def one_target(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> str | None:
    """The value of ``-i``, which Ansible takes several times."""
    if len(given) > 1:
        raise click.BadParameter(
            "a run has one target: put both into one inventory, or call runbook for each"
        )
    return given[0] if given else None


def complete_targets(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """The targets that a shell offers for ``-i``."""
    from runbook.load import targets as known

    return [name for name in known.target_names() if name.startswith(begun)]


def complete_playbooks(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """The playbooks that a shell offers."""
    from runbook.load import targets as known

    return [f"{name}.yml" for name in known.playbook_names() if name.startswith(begun)]


def complete_extra_vars(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """The parameters that a shell offers for ``-e``, but not the secret ones."""
    from runbook.load import schemas

    names = sorted(schemas.parameters().keys() - schemas.secret_names())
    return [f"{name}=" for name in names if name.startswith(begun)]


_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
#: The longest time that an option takes.
LONGEST = timedelta(days=30)


def duration(_ctx: click.Context, _param: click.Parameter, given: str) -> timedelta:
    """The time that ``90m``, ``8h`` or ``1d12h`` is; a usage error for anything else."""
    parts = re.findall(r"([0-9]{1,7})([dhms])", given)
    found = sum((timedelta(**{_UNITS[unit]: int(n)}) for n, unit in parts), timedelta())
    if "".join(map("".join, parts)) != given or not timedelta() < found <= LONGEST:
        raise click.BadParameter(f"{given!r} is no time up to 30 days, such as 90m, 8h or 1d12h")
    return found


#: Options of every command that reads a target's input.
EXTRA_VARS = click.option("-e", "--extra-vars", multiple=True, metavar="K=V|@FILE",
                          help="Parameters.", shell_complete=complete_extra_vars)  # fmt: skip
LIMIT = click.option("-l", "--limit", default="", metavar="HOSTS", help="Only these hosts.")
CHECK = click.option("-C", "--check", is_flag=True, help="Stop after the plan; change nothing.")
FORKS = click.option("-f", "--forks", type=click.IntRange(1),
                     help="Hosts at a time: all, at most 20 (local: 8), unless given.")  # fmt: skip
YES = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
EXPIRES = click.option("--expires", "lifetime", callback=duration, default="24h", show_default=True,
                       metavar="DURATION",
                       help="How long it may be applied: 90m, 8h, 1d12h.")  # fmt: skip
VAULT = [
    click.option("-J", "--ask-vault-password", is_flag=True, help="Ask for the vault's password."),
    click.option("--vault-password-file", multiple=True, metavar="FILE",
                 help="A vault's password."),
    click.option("--vault-id", multiple=True, metavar="ID@FILE",
                 help="A vault's name and password."),
]  # fmt: skip

#: How a run is done, and shown.
RUNNING = [
    click.option("-D", "--diff", is_flag=True, help="Show each changed step, line by line."),
    FORKS,
    click.option("-K", "--ask-become-pass", is_flag=True,
                 help="Ask for the password to become it."),
    *VAULT,
    click.option("--strategy", type=click.Choice(["linear", "free", "host_pinned"]),
                 default="linear", show_default=True,
                 help="Whether hosts wait for one another after each step."),
    click.option("--json", "as_json", is_flag=True,
                 help="One JSON object a line; does not mean --yes."),
    click.option("--report", "reports", multiple=True, metavar="FILE",
                 help="Write a report: .html to look at, .md for a pull request."),
    click.option("-q", "--quiet", is_flag=True,
                 help="A line for each change and the end; for logs."),
    click.option("--detailed-exitcode", is_flag=True,
                 help="--check exits 2 when there are changes."),
    click.option("-v", "--verbose", count=True,
                 help="Show every step; -vvv adds Ansible's messages."),
]  # fmt: skip


def with_options(*lists: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Give a command all these options, in their order."""

    def give(command: Any) -> Any:
        for option in reversed([option for each in lists for option in each]):
            command = option(command)
        return command

    return give


def inventory(*, required: bool) -> Callable[[Any], Any]:
    """Give a command the option ``-i``, which names its target."""
    return click.option("-i", "--inventory", "target", required=required, metavar="TARGET",
                        multiple=True, callback=one_target, shell_complete=complete_targets,
                        help="A name below inventories/, a path, or 'host,'.")  # fmt: skip


#: An option ``-i`` that may be given several times.
TARGETS = click.option("-i", "--inventory", "targets", required=True, metavar="TARGET",
                       multiple=True, shell_complete=complete_targets,
                       help="A name below inventories/, a path, 'host,'; or several.")  # fmt: skip

#: The other options of a query (``runbook.flow.query``), which takes their values.
QUERY = [
    EXTRA_VARS, LIMIT, *VAULT,
    click.option("--json", "as_json", is_flag=True, help="One JSON object."),
]  # fmt: skip


#: Give a command the options of a query of one target.
query_options = with_options([inventory(required=True)], QUERY)
