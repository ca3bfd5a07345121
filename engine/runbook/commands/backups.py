"""``runbook backups``: see, verify and prune a target's backups without a playbook.

The work is done on the target, by the modules that playbooks use; this runs them and shows what
they answer.
"""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import SETTINGS, YES, Group, query_options
from runbook.errors import ExitCode, InvalidInputError, RefusedError, worst
from runbook.events import journal
from runbook.events.render import text
from runbook.flow import query
from runbook.load import targets
from runbook.load.diagnostics import hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLUMNS = ("backup_id", "created", "database", "tables", "rows", "size")
#: Right-aligned columns.
NUMBERS = ("tables", "rows", "size", "objects", "last value")
#: The longest time in days that --keep-days takes: a century.
DAYS = 36_500
#: Why a backup stays that the journal points to.
NEEDED = "the run {} did not end well and points to it"
#: As many ids are named where one is not known.
NEWEST = 5


class _Group(Group):
    """Takes the options of its commands before a command's name too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, after what stands before the name of a command has gone behind it."""
        _, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if rest and rest[0] in self.commands:
            args = [rest[0], *args[: len(args) - len(rest)], *rest[1:]]
        return super().parse_args(ctx, args)


@click.group("backups", cls=_Group, context_settings=SETTINGS)
@query_options
def group(**_: Any) -> None:
    """The table backups of a target on S3."""


for _parameter in group.params:
    _parameter.required = False  # the commands want it


@group.command("list", context_settings=SETTINGS)
@query_options
def list_(**options: Any) -> int:
    """All backups, the newest first."""
    answers, code = _ask(options)
    _show(options, answers, verified=False)
    return code


@group.command(context_settings=SETTINGS)
@click.argument("backup_id", required=False)
@click.option("--deep", is_flag=True, help="Read all objects, load, count and fingerprint them.")
@click.option("--all", "all_", is_flag=True, help="Every backup, not only the newest.")
@query_options
def verify(backup_id: str | None, *, deep: bool, all_: bool, **options: Any) -> int:
    """Verify that BACKUP_ID (the newest) is intact.

    The exit code is 1 when one is damaged, and 3 when there is none.
    """
    if backup_id and all_:
        raise click.UsageError("Give a backup or --all, not both.")
    wanted = "" if all_ else backup_id or "newest"
    answers, code = _ask(options, backup_id=wanted, verify="deep" if deep else "head")
    _show(options, answers, verified=True)
    rows = {
        host: [row for row in answer["backups"] if row["finished"]]
        for host, answer in answers.items()
    }
    if any(row["problems"] for found in rows.values() for row in found):
        return worst([code, ExitCode.FAILED])
    lacking = [host for host, found in rows.items() if not found]
    for host in lacking:
        click.echo(f"{host}: there is no backup below {answers[host]['location']}", err=True)
    return worst([code, ExitCode.INVALID if lacking else ExitCode.OK])


@group.command(context_settings=SETTINGS)
@click.argument("backup_id", default="newest")
@query_options
def show(backup_id: str, **options: Any) -> int:
    """The tables of BACKUP_ID (the newest), from its manifest."""
    answers, code = _ask(options, backup_id=backup_id)
    manifests = {host: answer["manifest"] for host, answer in answers.items()}
    if options["as_json"]:
        click.echo(json.dumps(manifests))
        return code
    for host, manifest in manifests.items():
        click.echo(f"{host}: s3://{manifest['bucket']}/{manifest['prefix']}")
        if manifest.get("label"):
            click.echo(f"  {manifest['label']}")
        if "database" in manifest:
            click.echo(
                f"  {text.moment(manifest['created'])}, database {manifest['database']}, "
                f"PostgreSQL {manifest['server_version']}, at {manifest['snapshot_lsn']}"
            )
        else:
            click.echo(f"  {text.moment(manifest['created'])}, TABLE.sql files of the old scripts")
        for line in _contents(manifest["tables"]):
            click.echo(f"  {line}")
    return code


@group.command(context_settings=SETTINGS)
@click.argument("backup_id", default="")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Keep the N newest.")
@click.option(
    "--keep-days",
    type=click.IntRange(0, DAYS),
    metavar="N",
    help="Keep those younger than N days.",
)
@click.option("-C", "--check", is_flag=True, help="Only say which would go.")
@YES
@query_options
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

    Never the newest good backup, nor one that the target's run marker or a run that did not end
    well points to.
    """
    if bool(backup_id) == ((keep, keep_days) != (None, None)):
        raise click.UsageError(
            "Say which backups are to go: either BACKUP_ID, or --keep and --keep-days."
        )
    wanted = {"backup_id": backup_id, "keep": _text(keep), "keep_days": _text(keep_days)}
    needed = {name: NEEDED.format(run) for name, run in journal.needed_backups().items()}
    if backup_id in needed:
        raise RefusedError(f"Backup {backup_id} is not removed: {needed[backup_id]}.")
    answers, code = _prune(options, wanted, needed, {}, check=True)
    if backup_id and not any(answer["removed"] for answer in answers.values()):
        raise InvalidInputError(_unknown(backup_id, answers))
    if not check and any(answer["removed"] for answer in answers.values()):
        if not yes:
            _confirm(targets.target(options["target"]).name, answers)
        # A backup made meanwhile must not cause the removal of one that was not confirmed.
        planned = {host: answer["kept"] for host, answer in answers.items()}
        answers, code = _prune(options, wanted, needed, planned, check=False)
    if options["as_json"]:
        keys = ("removed", "kept")
        click.echo(json.dumps({h: {k: a[k] for k in keys} for h, a in answers.items()}))
        return code
    for host, answer in answers.items():
        for name in answer["removed"]:
            click.echo(f"{host}: {name} {'would be removed' if check else 'removed'}")
        _print_kept(host, answer, named=bool(backup_id))
    return code


def _prune(
    options: Mapping[str, Any],
    wanted: Mapping[str, str],
    needed: Mapping[str, str],
    planned: Mapping[str, Mapping[str, str]],
    *,
    check: bool,
) -> tuple[dict[str, Any], ExitCode]:
    """The module's answers; it keeps what is ``needed`` and what a host's plan kept.

    A check that fails on any host is raised, so that nothing is removed.
    """
    protect = {"needed": list(needed), "planned": {host: list(planned[host]) for host in planned}}
    answers, code = _ask(options, check=check, prune={**wanted, **protect})
    for host, answer in answers.items():
        known = {**planned.get(host, {}), **needed}
        answer["kept"] = {name: known.get(name, why) for name, why in answer["kept"].items()}
    return answers, code


def _print_kept(host: str, answer: Mapping[str, Any], *, named: bool) -> None:
    """The backups that retention kept; where one was named, the others were never in question."""
    for name, reason in {} if named else answer["kept"].items():
        click.echo(f"{host}: {name} kept: {reason}")
    if not answer["removed"] and not answer["kept"]:
        click.echo(f"{host}: no backup below {answer['location']}")


def _unknown(backup_id: str, answers: Mapping[str, Any]) -> str:
    """That no host has a finished backup of this id, and which ones there are."""
    lines = []
    for host, answer in answers.items():
        held = list(answer["kept"])
        place = f"below {answer['location']}{hint(backup_id, held)}"
        newest = ", ".join(held[:NEWEST]) or "none"
        lines.append(
            f"{host}: there is no finished backup {backup_id} {place}; the newest there: {newest}"
        )
    return "\n".join(lines)


def _confirm(target: str, answers: Mapping[str, Any]) -> None:
    from runbook.flow.confirm import require_name, say

    say("This removes for good:")
    for host, answer in answers.items():
        for name in answer["removed"]:
            say(f"  {host}: {name}")
    require_name(target)


def _text(number: int | None) -> str:
    """A number as a parameter of backups.yml, where an empty text is none."""
    return "" if number is None else str(number)


def _show(options: Mapping[str, Any], answers: Mapping[str, Any], *, verified: bool) -> None:
    """Print each host's backups; whether they are intact only if that was ``verified``."""
    found = {host: answer["backups"] for host, answer in answers.items()}
    if options["as_json"]:
        every = [{"host": host, **row} for host, rows in found.items() for row in rows]
        click.echo(json.dumps({"backups": every}))
        return
    for host, rows in found.items():
        click.echo(f"{host}: {'' if rows else 'no backup below '}{answers[host]['location']}")
        if other := answers[host].get("old_location"):
            click.echo(f"  files of the old scripts are below {other}: -e restore_from={other}")
        if rows:
            _print_backups(rows, verified=verified)


def _print_backups(rows: Sequence[Mapping[str, Any]], *, verified: bool) -> None:
    from runbook.events.render.people import is_terminal

    columns = [*COLUMNS, "intact"] if verified else [*COLUMNS]
    lines = _table(rows, columns)
    room = shutil.get_terminal_size().columns
    if is_terminal(sys.stdout) and max(map(len, lines)) + 2 > room:
        columns.remove("created")  # the id contains it
        lines = _table(rows, columns)
    click.echo(f"  {lines[0]}")
    for row, line in zip(rows, lines[1:], strict=True):
        click.echo(f"  {line}")
        for problem in row["problems"]:
            click.echo(f"    {problem}")


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    head = ["created (UTC)" if name == "created" else name for name in columns]
    cells = ([_cell(row, name) for name in columns] for row in rows)
    return text.columns([head, *cells], NUMBERS)


def _contents(tables: Mapping[str, Any]) -> list[str]:
    """The tables of a manifest, and their sequences."""
    held = [["table", "rows", "size", "objects", "fingerprint"]]
    sequences = [["sequence", "last value"]]
    for name, table in tables.items():
        size = _size(sum(entry["size"] for entry in table["objects"]))
        rows = "" if table["rows"] is None else f"{table['rows']:,}"
        numbers = [rows, size, f"{len(table['objects']):,}"]
        held.append([name, *numbers, table["fingerprint"]])
        sequences += [[key, str(entry["last_value"])] for key, entry in table["sequences"].items()]
    shown = [held, sequences] if sequences[1:] else [held]
    return [line for rows in shown for line in text.columns(rows, NUMBERS)]


def _cell(row: Mapping[str, Any], column: str) -> str:
    if column == "intact":
        return "yes" if row["intact"] else "no"
    if row[column if column != "size" else "bytes"] is None:
        return ""  # rows of the old scripts' files, which were not read
    if column != "backup_id" and not row["created"]:
        return ""  # without a manifest nothing is known
    if column == "size":
        return _size(row["bytes"])
    if column == "created":
        return text.minute(row["created"])
    return f"{row[column]:,}" if column in NUMBERS else str(row[column])


def _size(number: int) -> str:
    from rich.filesize import decimal

    return decimal(number)


def _ask(
    options: Mapping[str, Any],
    *,
    backup_id: str = "",
    verify: str = "none",
    prune: Mapping[str, Any] | None = None,
    check: bool = False,
) -> tuple[dict[str, Any], ExitCode]:
    """The module's answer on each host, and the worst exit code of those that have none."""
    asked = {
        "backup_id": backup_id,
        "verify": verify,
        "prune": prune is not None,
        **(prune or {}),
    }
    if check:
        return query.ask("backups", options, {"backups": asked}, check=True), ExitCode.OK
    return query.ask_each("backups", options, {"backups": asked})
