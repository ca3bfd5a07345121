"""``runbook doctor``: whether targets can be operated, and how to put right what is wrong.

The module ``doctor_info`` looks on the target (``queries/doctor.yml``).
"""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import click

from runbook.commands.options import SETTINGS, query_options
from runbook.errors import ExitCode
from runbook.events.render.people import WIDEST
from runbook.events.render.report import loop
from runbook.flow import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Finding = Mapping[str, str]

#: The statuses, and their colours at a terminal; the worst is the last.
STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command("doctor", context_settings=SETTINGS)
@query_options
def doctor(**options: Any) -> int:
    """Look whether TARGET can be operated, and say how to put right what is not as it must be.

    Connection, Python, disks, clock, database, privileges, S3, EC2, crontab, daemons, backups. One
    object is written to S3 and removed again; nothing else is changed. The exit code is 1 if
    anything has failed, 4 if a host cannot be reached.
    """
    answers = query.survey("doctor", options)
    found = {host: list(findings(answer)) for host, answer in answers.found.items()}
    for host, message in answers.failed.items():
        found[host] = [{"check": "connection", "status": "failed", "found": message, "fix": ""}]
    if options["as_json"]:
        click.echo(json.dumps({"hosts": found}))
    else:
        width = min(shutil.get_terminal_size().columns, WIDEST)
        for host, each in found.items():
            click.echo("\n".join(lines(host, each, width)))
    if answers.failed:
        return answers.exit_code
    failed = any(each["status"] == "failed" for host in found.values() for each in host)
    return ExitCode.FAILED if failed else ExitCode.OK


def findings(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """A host's findings: the module's, and those of the modules that were asked besides."""
    found = list(answer["findings"])
    failed = {each["check"] for each in found if each["status"] == "failed"}
    yield {"check": "connection", "status": "ok", "found": "modules run there", "fix": ""}
    yield from found
    if "database" not in failed:
        problem = answer["database"].get("error_kind") and str(answer["database"]["msg"])
        yield _judged("data", problem or "as labeller's code assumes", well=not problem)
    if "s3" not in failed:
        backup = loop.newest_backup(answer["backup"])
        if backup["backup_id"]:
            fix = "runbook apply backup.yml makes a new one"
            yield _judged("backup", loop.proof(backup), fix, well=not backup["problems"])
        else:
            fix = "runbook apply backup.yml makes one, and so does every run mode"
            yield _judged("backup", backup["problems"][0], fix, well=False)


def _judged(check: str, found: str, fix: str = "", *, well: bool) -> Finding:
    if well:
        return {"check": check, "status": "ok", "found": found, "fix": ""}
    return {"check": check, "status": "warning", "found": found, "fix": fix}


def lines(host: str, found: Sequence[Finding], width: int) -> Iterator[str]:
    """A host's findings as lines, each with its remedy below; the worst, and how many, are last.

    So a small terminal shows them.
    """
    counts = {status: sum(each["status"] == status for each in found) for status in STYLES}
    said = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    yield f"{host}:"
    for each in sorted(found, key=lambda each: [*STYLES].index(each["status"])):
        status = click.style(f"{each['status']:<8}", fg=STYLES[each["status"]])
        first, *more = textwrap.wrap(each["found"], width - 25, break_on_hyphens=False) or [""]
        yield f"  {status} {each['check']:<12}  {first}"
        yield from (" " * 25 + line for line in more)
        if each["fix"]:
            yield f"{' ' * 25}fix: {each['fix']}"
    yield f"{host}: {said}"
