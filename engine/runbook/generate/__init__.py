"""Files made from others: module schemas, role defaults, IAM policy, docs/modules.md, docs/cli.md.

``python -m runbook.generate`` writes them; with ``--check`` it names those that are out of date
and exits 1. Sources: DOCUMENTATION of plugins/modules, meta/runtime.yml,
schemas/parameters.schema.json, schemas/configuration.schema.json, and the commands' own help.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from runbook import collection
from runbook.cli import cli
from runbook.errors import InvalidInputError
from runbook.generate import iam_policy
from runbook.load import documentation as docs

_STEPS_MODULE = "pg_transaction"

#: Results of pg_transaction and of each step as a module; Ansible has no fragments of RETURN.
_RESULTS = """\
in_place:
  description: Whether the state was in place already, so that no step has run.
  returned: success
  type: bool
plan:
  description: Each table and object with what is done to it, and how much.
  returned: success
  type: list
  elements: dict
diff:
  description: Each table and object that changes, before and after.
  returned: success
  type: list
  elements: dict
"""


def outputs(root: Path) -> dict[Path, str]:
    """Every generated file of the checkout ``root`` and what it must hold."""
    modules = [docs.module(f"{docs.OURS}.{name}") for name in sorted(docs.module_names(docs.OURS))]
    known = {entry.name.rpartition(".")[2]: entry for entry in modules if entry}
    steps = _steps(root, known)
    files = {
        root / "schemas" / "modules" / f"{name}.schema.json": _json(_schema(name, entry, steps))
        for name, entry in known.items()
    }
    files[root / "roles" / "parameters" / "defaults" / "main.yml"] = role_defaults(
        json.loads((root / "schemas" / "parameters.schema.json").read_text(encoding="utf-8"))
    )
    files[root / "plugins" / "module_utils" / "configuration_keys.py"] = configuration_keys(
        json.loads((root / "schemas" / "configuration.schema.json").read_text(encoding="utf-8"))
    )
    for name in known.keys() & {*_step_names(root), _STEPS_MODULE}:
        path = root / "plugins" / "modules" / f"{name}.py"
        text = with_results(path.read_text(encoding="utf-8"))
        files[path] = transaction_module(text, root, known) if name == _STEPS_MODULE else text
    files[root / "docs" / "modules.md"] = "\n".join(_reference(root, known)) + "\n"
    files[root / "docs" / "cli.md"] = "\n".join(_commands()) + "\n"
    files[root / "docs" / "iam-policy.json"] = _json(iam_policy.policy(root))
    return files


def stale(root: Path) -> list[Path]:
    """The generated files that are missing, differ from their sources, or have none."""
    wanted = outputs(root)
    wrong = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    schemas = (root / "schemas" / "modules").glob("*.json")
    return sorted([*wrong, *(path for path in schemas if path not in wanted)])


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _steps(root: Path, known: dict[str, docs.Documentation]) -> dict[str, Any]:
    """The schema of each step of a transaction: its module's options without connections."""
    return {
        name: {
            "description": docs.plain(known[name].content["short_description"]),
            "anyOf": [
                docs.options_schema(known[name].own),
                docs.TEMPLATE,
            ],
        }
        for name in _step_names(root)
        if name in known
    }


def _schema(name: str, entry: docs.Documentation, steps: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Arguments of {entry.name}",
        "description": docs.plain(entry.content["short_description"]),
        **docs.options_schema(entry.options),
        "$defs": dict(docs.TEMPLATE_DEFINITION),
    }
    if name == _STEPS_MODULE and "steps" in schema["properties"]:
        step = {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": steps,
        }
        items = {"anyOf": [step, docs.TEMPLATE]}
        option = schema["properties"]["steps"]
        option["anyOf"] = [{"type": "array", "minItems": 1, "items": items}, docs.TEMPLATE]
    return schema


def transaction_module(text: str, root: Path, known: dict[str, docs.Documentation]) -> str:
    """The module of transactions with the options of every step, from the steps' own modules."""
    steps = {
        name: {
            "description": f"Step M({docs.OURS}.{name}).",
            "type": "dict",
            **({"suboptions": options} if options else {}),
        }
        for name in _step_names(root)
        if name in known
        for options in [_qualified(known[name].own, f"steps[].{name}", set(known[name].options))]
    }
    start, end = text.index("    suboptions:\n"), text.index("extends_documentation_fragment:")
    dumped = yaml.dump({"suboptions": steps}, Dumper=_Indented, width=90, sort_keys=False)
    return text[:start] + textwrap.indent(str(dumped), "    ") + text[end:]


def with_results(text: str) -> str:
    """A module whose RETURN begins with the results of every transaction, before its own."""
    head, start, rest = text.partition('RETURN = r"""\n')
    returned, end, tail = rest.partition('"""')
    common = tuple(f"{name}:" for name in yaml.safe_load(_RESULTS))
    own = [each for each in re.split(r"(?m)^(?=\w)", returned) if not each.startswith(common)]
    return "".join((head, start, _RESULTS, *own, end, tail))


def _qualified(value: Any, prefix: str, options: set[str]) -> Any:
    """A description with its references to ``options``, ``O(x)``, as the transaction has them."""
    if isinstance(value, dict):
        return {key: _qualified(child, prefix, options) for key, child in value.items()}
    if isinstance(value, list):
        return [_qualified(child, prefix, options) for child in value]
    if not isinstance(value, str):
        return value
    return re.sub(
        r"O\((\w+)",
        lambda found: f"O({prefix}.{found[1]}" if found[1] in options else found[0],
        value,
    )


def _step_names(root: Path) -> list[str]:
    return _groups(root)["transaction_steps"]


def _groups(root: Path) -> dict[str, list[str]]:
    runtime = yaml.safe_load((root / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    groups: dict[str, list[str]] = runtime["action_groups"]
    return groups


def role_defaults(schema: dict[str, Any]) -> str:
    """``defaults/main.yml`` of the role ``parameters``: each default with its meaning."""
    lines = [
        "---",
        "# Generated from schemas/parameters.schema.json by `python -m runbook.generate`;",
        "# do not edit.",
    ]
    for name, parameter in schema["properties"].items():
        if "default" in parameter:
            said = parameter["description"]
            comment = textwrap.wrap(said, 96, initial_indent="# ", subsequent_indent="# ")
            lines += ["", *comment, *_yaml(name, parameter)]
    return "\n".join(lines) + "\n"


def configuration_keys(schema: dict[str, Any]) -> str:
    """The schema of ``configuration`` as Python for the target, which has no ``schemas/``."""
    told = ("description", "default")
    rules = {
        key: {name: value for name, value in rule.items() if name not in told}
        for key, rule in schema["properties"].items()
    }
    lines = [f"    {json.dumps(key)}: {rule!r},\n" for key, rule in rules.items()]
    return _KEYS + "".join(lines) + "}\n"


_KEYS = '''\
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys of labeller's table ``configuration``, each with the JSON Schema of its value.

Generated from schemas/configuration.schema.json by `python -m runbook.generate`; do not edit.
"""

from __future__ import annotations

from typing import Any, Dict

# ruff: noqa: E501
# fmt: off
KEYS: Dict[str, Dict[str, Any]] = {
'''


class _Indented(yaml.SafeDumper):
    """Lists below their key are indented, as ansible-lint wants them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002
        return super().increase_indent(flow, False)

    def ignore_aliases(self, _data: Any) -> bool:
        """The same list twice is written twice."""
        return True


def _yaml(name: str, parameter: dict[str, Any]) -> list[str]:
    text = yaml.dump({name: parameter["default"]}, Dumper=_Indented, width=10_000, sort_keys=False)
    return str(text).replace("''", '""').rstrip().split("\n")


def _reference(root: Path, known: dict[str, docs.Documentation]) -> Iterator[str]:
    yield "# Modules"
    yield ""
    yield "Generated from the modules' DOCUMENTATION by `python -m runbook.generate`; do not edit."
    yield "Every module runs in check mode exactly and returns `changed`, `diff` and `plan`."
    for name, entry in known.items():
        yield from _module_reference(name, entry)
    yield ""
    yield "## Options that modules share"
    for fragment in docs.CONNECTION_FRAGMENTS:
        short = fragment.rpartition(".")[2]
        users = [name for name, entry in known.items() if fragment in entry.fragments]
        yield ""
        yield f"### {short}"
        yield ""
        yield f"Options of {', '.join(f'`{name}`' for name in users) or 'no module'}."
        if short in _groups(root):
            yield "A playbook gives them once, in `module_defaults` for"
            yield f"`group/{docs.OURS}.{short}`."
        yield ""
        yield from _table(docs.fragment_options(fragment))


def _module_reference(name: str, entry: docs.Documentation) -> Iterator[str]:
    yield ""
    yield f"## {name}"
    yield ""
    yield f"**{docs.plain(entry.content['short_description'])}.**"
    yield ""
    description = entry.content.get("description", [])
    for sentence in [description] if isinstance(description, str) else description:
        yield f"- {docs.plain(sentence)}"
    yield ""
    if entry.own:
        yield from _table(entry.own)
    groups = [f.rpartition(".")[2] for f in docs.CONNECTION_FRAGMENTS if f in entry.fragments]
    if groups:
        yield ""
        links = " and ".join(f"[{group}](#{group})" for group in groups)
        yield f"And the connection options of {links}."
    if entry.returns:
        yield ""
        yield "Returns:"
        yield ""
        for key, value in entry.returns.items():
            yield f"- `{key}` ({value.get('type', 'raw')}): {docs.plain(value['description'])}"
    yield ""
    yield "```yaml"
    yield entry.examples.strip()
    yield "```"


def _table(options: Any) -> Iterator[str]:
    yield "| option | type | default | meaning |"
    yield "|---|---|---|---|"
    for path, option in _flat(options):
        kind = str(option.get("type", "str"))
        if option.get("elements"):
            kind += f" of {option['elements']}"
        default = "**required**" if option.get("required") else _shown(option.get("default"))
        meaning = docs.plain(option["description"])
        if option.get("choices"):
            meaning += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        yield f"| `{path}` | {kind} | {default} | {meaning.replace('|', chr(92) + '|')} |"


def _shown(default: Any) -> str:
    return "" if default is None else f"`{json.dumps(default)}`"


def _flat(options: Any, lead: str = "") -> Iterator[tuple[str, Any]]:
    for name, option in sorted(options.items()):
        yield lead + name, option
        inner = "[]." if option.get("type") == "list" else "."
        yield from _flat(option.get("suboptions") or {}, f"{lead}{name}{inner}")


def _commands() -> Iterator[str]:
    """The reference of the command line."""
    yield "# The command line"
    yield ""
    yield (
        "Generated by `python -m runbook.generate` from the commands' own help; do not edit.\n"
        "[operations.md](operations.md#exit-codes) has the exit codes."
    )
    whole = click.Context(cli, info_name="runbook")
    for name in cli.list_commands(whole):
        command = cli.get_command(whole, name)
        assert command is not None
        yield from _command(command, click.Context(command, parent=whole, info_name=name))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    """A command's usage, help and options; then its own commands, if it has some."""
    yield ""
    yield f"## {context.command_path}"
    yield ""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"`{usage}`"
    for paragraph in (command.help or "").split("\n\n"):
        yield ""
        yield from textwrap.wrap(_markdown(" ".join(paragraph.split())), 96)
    records = [
        record
        for parameter in command.params
        if (record := parameter.get_help_record(context)) and record[1]
    ]
    if records:
        yield ""
        yield "| option | meaning |"
        yield "|---|---|"
        for option, about in records:
            said = _markdown(" ".join(about.split()))
            yield "| `{}` | {} |".format(option.replace("|", r"\|"), said)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, parent=context, info_name=name))


def _markdown(text: str) -> str:
    return re.sub(r"([|<>*])", r"\\\1", text)


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` name those out of date; return the exit code."""
    root = collection.root()
    try:
        if "--check" in arguments:
            wrong = [f"out of date: {path.relative_to(root)}" for path in stale(root)]
        else:
            wrong = []
            for _ in range(2):  # docs/modules.md follows from the modules, which are written too
                _write(root)
                docs.module.cache_clear()
    except InvalidInputError as error:
        wrong = [str(error)]
    for line in wrong:
        print(line)  # noqa: T201
    return 1 if wrong else 0


def _write(root: Path) -> None:
    wanted = outputs(root)
    for path in stale(root):
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
