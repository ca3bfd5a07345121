"""``runbook comment``: its options."""

from __future__ import annotations

import os
from pathlib import Path

import click

from runbook.commands.options import SETTINGS
from runbook.errors import ExitCode, InvalidInputError

#: Where the token is; nowhere else, so that it stands in no history and no list of processes.
TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the variable's name


@click.command(context_settings=SETTINGS)
@click.argument("files", nargs=-1, required=True, metavar="FILE.md...", type=click.Path(
    exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@click.option("--reviewed", is_flag=True,
              help="Post nothing: see that the comments show the plan files FILE...")  # fmt: skip
@click.option("--repo", default="", metavar="OWNER/NAME",
              help="Of GitHub; GITHUB_REPOSITORY otherwise.")  # fmt: skip
@click.option("--pr", "number", type=click.IntRange(1), help="Number; GITHUB_REF otherwise.")
def comment(*, files: tuple[Path, ...], reviewed: bool, repo: str, number: int | None) -> int:
    """Make reports of plans the comments of a pull request on GitHub.

    One comment for each playbook and target: it is updated when there is one, and marked as
    outdated when no report is given for it. The token comes from the variable GITHUB_TOKEN.

    With --reviewed it ends with exit code 5 unless such a comment names the SHA-256 of each plan
    file, so that what is applied after the merge is what was reviewed.
    """
    from runbook.flow import comment as flow
    from runbook.load import plan_file

    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise InvalidInputError(
            f"no token: set the variable {TOKEN}; a workflow on GitHub has it as github.token"
        )
    where = flow.pull_request(os.environ, repo, number)
    github = flow.GitHub(where.api, token)
    if reviewed:
        flow.require_reviewed([plan_file.read(str(file)) for file in files], where, github)
        return ExitCode.OK
    texts = [file.read_text(encoding="utf-8") for file in files]
    for address in flow.post(texts, where, github):
        click.echo(address)
    return ExitCode.OK
