"""``runbook backups``: see, verify and prune a target's backups without a playbook.

The work is done on the target, by the modules that playbooks use; this runs them and shows what
they answer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook import question
from runbook.cli import SETTINGS
from runbook.errors import ExitCode, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAYBOOK = Path(__file__).with_suffix(".yml")
COLUMNS = ("backup_id", "created", "database", "tables", "rows", "bytes", "whole")


class _Group(click.Group):
    """Takes the options of its commands before a command's name too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, after what stands before the name of a command has gone behind it."""
        _, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if rest and rest[0] in self.commands:
            args = [rest[0], *args[: len(args) - len(rest)], *rest[1:]]
        return super().parse_args(ctx, args)


@click.group("backups", cls=_Group, context_settings=SETTINGS)
@question.options
def group(**_: Any) -> None:
    """The table backups of a target on S3."""


for _parameter in group.params:
    _parameter.required = False  # the commands want it


@group.command("list", context_settings=SETTINGS)
@question.options
def list_(**options: Any) -> int:
    """All backups, the newest first."""
    return _show(options, _ask(options))


@group.command(context_settings=SETTINGS)
@click.argument("backup_id", required=False)
@click.option("--deep", is_flag=True, help="Read all objects, load, count and fingerprint them.")
@click.option("--all", "all_", is_flag=True, help="Every backup, not only the newest.")
@question.options
def verify(backup_id: str | None, *, deep: bool, all_: bool, **options: Any) -> int:
    """Hold BACKUP_ID (the newest) against its manifest; exit code 1 when it is damaged."""
    if backup_id and all_:
        raise click.UsageError("Give a backup or --all, not both.")
    wanted = "" if all_ else backup_id or "newest"
    return _show(options, _ask(options, backup_id=wanted, verify="deep" if deep else "head"))


@group.command(context_settings=SETTINGS)
@click.argument("backup_id", default="newest")
@question.options
def show(backup_id: str, **options: Any) -> int:
    """The manifest of BACKUP_ID (the newest): tables, rows, fingerprints, objects."""
    answers = _ask(options, backup_id=backup_id)
    manifests = {host: answer["manifest"] for host, answer in answers.items()}
    if options["as_json"]:
        click.echo(json.dumps(manifests))
        return ExitCode.OK
    for host, manifest in manifests.items():
        click.echo(f"{host}: s3://{manifest['bucket']}/{manifest['prefix']}")
        if manifest.get("label"):
            click.echo(f"  {manifest['label']}")
        click.echo(
            f"  {manifest['created']}, database {manifest['database']}, "
            f"PostgreSQL {manifest['server_version']}, at {manifest['snapshot_lsn']}"
        )
        for name, table in manifest["tables"].items():
            size = sum(entry["size"] for entry in table["objects"])
            click.echo(f"  {name}: {table['rows']} rows, {size} bytes in "
                       f"{len(table['objects'])} objects, {table['fingerprint']}")  # fmt: skip
            for sequence, entry in table["sequences"].items():
                click.echo(f"    sequence {sequence} at {entry['last_value']}")
    return ExitCode.OK


@group.command(context_settings=SETTINGS)
@click.argument("backup_id", default="")
@click.option("--keep", type=click.IntRange(0), help="Keep this many of the newest.")
@click.option("--keep-days", type=click.IntRange(0), help="Keep those younger than this.")
@click.option("-C", "--check", is_flag=True, help="Only say which would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@question.options
def prune(
    backup_id: str,
    keep: int | None,
    keep_days: int | None,
    *,
    check: bool,
    yes: bool,
    **options: Any,
) -> int:
    """Remove BACKUP_ID, or what --keep and --keep-days do not keep.

    Never the newest good backup, nor one that the target's run marker points to.
    """
    if not backup_id and keep is None and keep_days is None:
        raise click.UsageError("Say which backups are to go: BACKUP_ID, --keep or --keep-days.")
    wanted = {"backup_id": backup_id, "keep": _text(keep), "keep_days": _text(keep_days)}
    answers = _ask(options, check=True, prune=wanted)
    if not check and any(answer["removed"] for answer in answers.values()):
        if not yes:
            _confirm(options["target"], answers)
        answers = _ask(options, prune=wanted)
    if options["as_json"]:
        keys = ("removed", "kept")
        click.echo(json.dumps({h: {k: a[k] for k in keys} for h, a in answers.items()}))
        return ExitCode.OK
    for host, answer in answers.items():
        for name in answer["removed"]:
            click.echo(f"{host}: {name} {'would be removed' if check else 'removed'}")
        for name, reason in answer["kept"].items():
            click.echo(f"{host}: {name} kept: {reason}")
    return ExitCode.OK


def _confirm(target: str, answers: Mapping[str, Any]) -> None:
    from runbook.apply import ask

    for host, answer in answers.items():
        for name in answer["removed"]:
            click.echo(f"  {host}: {name}", err=True)
    if ask(f"Type the target's name ({target}) to remove these backups").strip() != target:
        raise RefusedError("Not confirmed: nothing was removed.")


def _text(number: int | None) -> str:
    """A number as a parameter of backups.yml, where an empty text is none."""
    return "" if number is None else str(number)


def _show(options: Mapping[str, Any], answers: Mapping[str, Any]) -> int:
    """Print rows of backups; gives the exit code: 1 when one that was verified is damaged."""
    rows = [{"host": host, **row} for host, found in answers.items() for row in found["backups"]]
    if options["as_json"]:
        click.echo(json.dumps({"backups": rows}))
    else:
        table = [("host", *COLUMNS)]
        table += [
            (row["host"], *(_cell(column, row[column]) for column in COLUMNS)) for row in rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for line in table if rows else []:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())
        for row in rows:
            for problem in row["problems"]:
                click.echo(f"{row['host']}: {row['backup_id']}: {problem}")
        if not rows:
            click.echo("There is no backup.")
    # One that was never finished is no damage: the next backup removes it.
    damaged = any(row["problems"] and row["created"] for row in rows)
    return ExitCode.FAILED if damaged else ExitCode.OK


def _cell(column: str, value: Any) -> str:
    if column == "whole":
        return "yes" if value else "no"
    return str(value)


def _ask(
    options: Mapping[str, Any],
    *,
    backup_id: str = "",
    verify: str = "none",
    prune: Mapping[str, str] | None = None,
    check: bool = False,
) -> dict[str, Any]:
    """What the module answers on each host. Its failures are raised with its exit code."""
    asked = {
        "backup_id": backup_id,
        "verify": verify,
        "prune": prune is not None,
        **(prune or {}),
    }
    return question.ask(PLAYBOOK, options, {"backups": asked}, check=check)
