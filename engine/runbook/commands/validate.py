"""``runbook validate``: schemas and cross-references, offline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from runbook.commands.options import SETTINGS
from runbook.errors import ExitCode


@click.command(context_settings=SETTINGS)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("-e", "--extra-vars", multiple=True, metavar="K=V|@FILE",
              help="Parameters that targets get when they are used.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a problem and line.")
def validate(paths: tuple[Path, ...], extra_vars: tuple[str, ...], *, as_json: bool) -> ExitCode:
    """Check playbooks and inventories at PATHS, all of them here or packaged by default.

    Every target is checked with every playbook that it can be used with, or with those at PATHS.
    Contacts nothing and opens no vault. Each problem is a line: file:line:col: path: what is wrong.
    Exits 3 if any is more than a warning.
    """
    from runbook.load.extra_vars import parse_extra_vars
    from runbook.load.paths import check_paths

    problems = check_paths(paths, parse_extra_vars(extra_vars) if extra_vars else None)
    for problem in problems:
        click.echo(json.dumps(asdict(problem)) if as_json else str(problem))
    if any(not problem.warning for problem in problems):
        return ExitCode.INVALID
    if not as_json:
        click.echo("No problems found." if not problems else "No errors, only warnings.")
    return ExitCode.OK
