"""``init``: the files of an operations repository."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

from runbook import collection
from runbook.load import schemas

_TEMPLATES = Path(__file__).parent / "operations"
#: The column at which comments are wrapped.
_WIDTH = 96
#: The beginning of a line that names the schema of a file, for editors.
_SCHEMA = "# yaml-language-server: $schema="
#: What stands for a secret until it is set.
UNSET = "set-me"


@dataclass(frozen=True)
class Operations:
    """An instance: its name in runbook, its address, who logs in with which Python, its run mode.

    ``values``: parameters that are not the defaults.
    """

    target: str
    host: str
    user: str = "mapper"
    python: str = "/home/mapper/runbook/bin/python"
    mode: str = "regular"
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """A parameter as a line of YAML, ``given`` or commented out, below what it means."""

    name: str
    comment: tuple[str, ...]
    value: str
    given: bool


def required() -> list[str]:
    """The parameters, no secrets, that have no default."""
    known = schemas.parameters()
    secret = schemas.secret_names()
    return [name for name in known if known[name].get("x-required") and name not in secret]


def files(about: Operations) -> dict[str, str]:
    """The content of every file by its path, but for the vault."""
    inventory = f"inventories/{about.target}"
    templates = {
        "README.md": "README.md",
        f"{inventory}/hosts.yml": "hosts.yml",
        f"{inventory}/group_vars/all/parameters.yml": "parameters.yml",
        f"playbooks/{about.target}.yml": "playbook.yml",
        ".github/workflows/plan.yml": "plan.yml",
        ".github/workflows/apply.yml": "apply.yml",
        ".pre-commit-config.yaml": "pre-commit-config.yaml",
        ".gitignore": "gitignore",
    }
    made = {path: _rendered(name, about) for path, name in templates.items()}
    nightly = _packaged("docs/examples/nightly.yml")
    made["playbooks/nightly.yml"] = f"{_SCHEMA}../.schemas/playbook.schema.json\n{nightly}"
    return made


def editor_schemas() -> dict[str, str]:
    """The schemas that editors use, of this version of runbook."""
    names = [f"{name}.schema.json" for name in ("inventory", "parameters", "playbook")]
    return {f".schemas/{name}": _packaged(f"schemas/{name}") for name in names}


def vault(about: Operations) -> tuple[str, str]:
    """The path of the vault, and its content before it is encrypted."""
    path = f"inventories/{about.target}/group_vars/all/vault.yml"
    return path, _rendered("vault.yml", about)


def _rendered(name: str, about: Operations) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined,
        block_start_string="[%", block_end_string="%]",
        variable_start_string="[[", variable_end_string="]]",
        comment_start_string="[#", comment_end_string="#]",
        trim_blocks=True, keep_trailing_newline=True, autoescape=False,  # noqa: S701 - YAML, Markdown
    )  # fmt: skip
    template = environment.get_template(f"{name}.j2")
    return template.render(
        target=about.target, host=_yaml(about.host), user=_yaml(about.user),
        python=_yaml(about.python), mode=about.mode, home=f"/home/{about.user}",
        parameters=list(_parameters(about.values)), secrets=list(_secrets()),
    )  # fmt: skip


def _parameters(values: Mapping[str, Any]) -> Iterator[Parameter]:
    for name, schema in schemas.parameters().items():
        if name not in schemas.secret_names():
            value = values.get(name, schema.get("default"))
            yield Parameter(name, _comment(schema), _yaml(value), name in values)


def _secrets() -> Iterator[Parameter]:
    for name, schema in schemas.parameters().items():
        if name in schemas.secret_names():
            needed = bool(schema.get("x-required"))
            yield Parameter(name, _comment(schema), _yaml(UNSET if needed else None), needed)


def _comment(schema: Mapping[str, Any]) -> tuple[str, ...]:
    only = f" Only {', '.join(schema['x-modes'])}." if "x-modes" in schema else ""
    choices = schemas.allowed(schema)
    said = f"{schema['description']}{only}{f' ({choices})' if choices else ''}"
    return tuple(textwrap.wrap(said, _WIDTH))


def _yaml(value: object) -> str:
    """A value on one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return re.sub(r"\n\.\.\.$", "", text)


def _packaged(path: str) -> str:
    return (collection.root() / path).read_text(encoding="utf-8")


def write(folder: Path, texts: Mapping[str, str], *, anew: bool = False) -> dict[str, bool]:
    """Write the files that are not there; gives for each path whether it was written.

    ``anew``: also those that are there and hold something else.
    """
    done = {}
    for name, text in texts.items():
        path = folder / name
        there = path.exists() or path.is_symlink()
        done[name] = not there or (anew and path.read_text(encoding="utf-8") != text)
        if done[name]:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w" if anew else "x", encoding="utf-8") as file:
                file.write(text)
    return done


def encrypted(text: str, password: str) -> str:
    """A text as a vault of ansible-vault."""
    from ansible.parsing.vault import VaultLib, VaultSecret

    vaults = VaultLib([("default", VaultSecret(password.encode()))])
    whole: bytes = vaults.encrypt(text)
    return whole.decode()
