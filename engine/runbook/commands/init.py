"""``runbook init``: its options, and what it asks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from runbook.commands.options import SETTINGS, complete_extra_vars
from runbook.errors import ExitCode, InvalidInputError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@click.command(context_settings=SETTINGS)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--target", default="", metavar="NAME", help="The instance's name in runbook.")
@click.option("--host", default="", metavar="ADDRESS", help="Its address; NAME otherwise.")
@click.option("--user", default="mapper", show_default=True, help="Who logs in to it.")
@click.option("--python", default="/home/mapper/runbook/bin/python", show_default=True,
              help="The Python of its virtual environment for modules.")  # fmt: skip
@click.option("--mode", default="regular", show_default=True, help="Its run mode.")
@click.option("-e", "--extra-vars", multiple=True, metavar="K=V|@FILE", help="Parameters.",
              shell_complete=complete_extra_vars)  # fmt: skip
@click.option("--vault-password-file", metavar="FILE", help="The password of its new vault.")
def init(folder: Path, extra_vars: tuple[str, ...], vault_password_file: str | None,
         target: str, host: str, **given: str) -> int:  # fmt: skip
    """Make an operations repository in DIR: inventory, vault, playbooks, hooks, a workflow.

    What no option gives is asked for. Files that are there stay as they are.
    """
    from runbook.flow import init as flow
    from runbook.load import schemas

    if target:
        _check_name(target)
    name = target or _asked("Name of the instance", "--target NAME", _check_name)
    _known_mode(given["mode"])
    values = {"ec2_instance": name, **_values(extra_vars)}
    for missing in [each for each in flow.required() if each not in values]:
        about = schemas.parameters()[missing]["description"]
        question, check = f"{missing} ({about.rstrip('.')})", partial(_check_value, missing)
        values[missing] = _asked(question, f"-e {missing}=VALUE", check)
    _check(values)
    about = flow.Operations(name, host or name, **given, values=values)
    vault, secrets = flow.vault(about)
    texts = flow.files(about)
    if (folder / vault).exists():
        texts[vault] = ""
    else:
        texts[vault] = flow.encrypted(secrets, _password(vault_password_file))
    made = flow.write(folder, texts) | flow.write(folder, flow.editor_schemas(), anew=True)
    for path, written in sorted(made.items()):
        click.echo(f"{'made' if written else 'kept'}  {folder / path}")
    click.echo(f"\nNext: {folder / 'README.md'} explains the first hour.")
    return ExitCode.OK


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} is no name; expected letters, digits, '.', '_' and '-'")


def _known_mode(mode: str) -> None:
    from runbook import collection
    from runbook.load import targets
    from runbook.load.diagnostics import hint

    names = [path.stem for path in targets.playbooks(collection.root())]
    if mode not in names:
        raise InvalidInputError(
            f"there is no run mode {mode!r}{hint(mode, names)}; known: {', '.join(names)}"
        )


def _values(extra_vars: tuple[str, ...]) -> dict[str, Any]:
    from runbook.load import schemas
    from runbook.load.diagnostics import fail_on
    from runbook.load.extra_vars import parse_extra_vars

    given = parse_extra_vars(extra_vars)
    fail_on(given.problems)
    for name in given.values.keys() & schemas.secret_names():
        raise InvalidInputError(f"-e {name}: a secret belongs into the vault, which is made here")
    return dict(given.values)


def _check(values: Mapping[str, Any]) -> None:
    """Refuse values that ``validate`` would refuse."""
    from runbook.load import schemas

    for name, value in values.items():
        if name not in schemas.parameters():
            raise InvalidInputError(f"-e {name}: there is no such parameter")
        _check_value(name, value)


def _check_value(name: str, value: object) -> None:
    from runbook.load import schemas

    for _, message in schemas.check_parameter(name, value):
        raise InvalidInputError(f"{name}: {message}")


def _asked(
    question: str,
    option: str,
    check: Callable[[str], None] = lambda _: None,
    *,
    hidden: bool = False,
) -> str:
    """The answer, asked for again while ``check`` raises InvalidInputError."""

    def checked(given: str) -> str:
        try:
            check(given)
        except InvalidInputError as error:
            raise click.BadParameter(str(error)) from error
        return given

    if not sys.stdin.isatty():
        raise InvalidInputError(f"{question}: there is no terminal to ask on; give it as {option}")
    answer: str = click.prompt(
        question, err=True, hide_input=hidden, confirmation_prompt=hidden, value_proc=checked
    )
    return answer


def _password(file: str | None) -> str:
    from runbook.load import vault

    if file is None:
        return _asked("Password of the new vault", "--vault-password-file FILE", hidden=True)
    return vault.passwords({}, [file]).values[0].decode()
