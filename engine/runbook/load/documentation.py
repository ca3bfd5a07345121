"""Modules' options as schemas: DOCUMENTATION read as text, fragments merged.

Nothing is imported: neither our modules, which need a target's packages, nor ansible-core, which
takes longer to import than all packaged playbooks take to validate.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from runbook import collection
from runbook.home import expanded, is_file, is_folder

#: Fragments with options of connections and of whole transactions: their steps have none of them.
CONNECTION_FRAGMENTS = (
    "labeller.runbook.postgres",
    "labeller.runbook.aws",
    "labeller.runbook.transaction",
    "labeller.runbook.plan",
    "labeller.runbook.lease",
)
OURS = f"{collection.NAMESPACE}.{collection.NAME}"
BUILTIN = "ansible.builtin"

TEMPLATE = {"$ref": "#/$defs/template"}
TEMPLATE_DEFINITION = {
    "template": {
        "description": "A Jinja expression, in place of any value.",
        "type": "string",
        "pattern": r"\{[{%]",
    }
}


@dataclass(frozen=True)
class Documentation:
    """One module: its DOCUMENTATION with the fragments' options merged, RETURN and EXAMPLES."""

    name: str
    content: Mapping[str, Any]
    options: Mapping[str, Any]
    connection: frozenset[str] = frozenset()
    fragments: tuple[str, ...] = ()
    returns: Mapping[str, Any] = field(default_factory=dict)
    examples: str = ""

    @property
    def own(self) -> dict[str, Any]:
        """The options without those of connections, which a step of a transaction does not take."""
        return {
            name: option for name, option in self.options.items() if name not in self.connection
        }


def assigned_text(path: Path, name: str) -> str | None:
    """The string literal that the Python file ``path`` assigns to ``name``."""
    return _assigned(path.read_text(encoding="utf-8"), name)


def _assigned(source: str, name: str) -> str | None:
    found = re.search(rf"^[ \t]*{name} = (r?(\"\"\"|''').*?\2)", source, re.MULTILINE | re.DOTALL)
    return str(ast.literal_eval(found[1])) if found else None


def _yaml(text: str | None) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader) if text else {}


@cache
def _ansible() -> Path:
    spec = find_spec("ansible")  # finds the package and does not import it
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def collection_root(name: str) -> Path | None:
    """The folder of an installed collection (``namespace.name``), none if it is not installed."""
    if name == OURS:
        return collection.root()
    if not re.fullmatch(r"\w+\.\w+", name):
        return None
    places = [Path.cwd() / "collections", expanded("~/.ansible/collections")]
    for place in [*places, Path("/usr/share/ansible/collections"), *map(Path, sys.path)]:
        folder = place / "ansible_collections" / Path(*name.split("."))
        if is_folder(folder):
            return folder
    return None


def module_folder(collection_name: str) -> Path | None:
    """Where the modules of a collection are; ``ansible.builtin`` counts as one."""
    if collection_name in (BUILTIN, "ansible.legacy"):
        return _ansible() / "modules"
    root = collection_root(collection_name)
    return root / "plugins" / "modules" if root else None


@cache
def module_names(collection_name: str) -> frozenset[str]:
    """The modules that a collection has, by short name."""
    folder = module_folder(collection_name)
    if folder is None:
        return frozenset()
    return frozenset(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


@cache
def plugin_names(kind: str) -> frozenset[str]:
    """The filters or tests of ansible-core and of our collection, short and full names."""
    core = {path.stem for path in (_ansible() / "plugins" / kind).glob("*.yml")}
    ours = {
        name
        for path in (collection.root() / "plugins" / kind).glob("*.py")
        for name in _declared(path, f"{kind}s")
    }
    return frozenset(
        core | {f"{BUILTIN}.{name}" for name in core} | {f"{OURS}.{name}" for name in ours}
    )


@cache
def connection_variables() -> frozenset[str]:
    """The ``ansible_*`` variables that ansible-core's connection, become and shell plugins take."""
    files = [p for k in ("connection", "become", "shell") for p in _plugins(k)]
    texts = [path.read_text(encoding="utf-8") for path in [*files, *_plugins("doc_fragments")]]
    texts.append((_ansible() / "config" / "base.yml").read_text(encoding="utf-8"))
    names = {name for text in texts for name in re.findall(r"name: (ansible_\w+)", text)}
    return frozenset({*names, "ansible_connection", "ansible_shell_type"})


def _plugins(kind: str) -> list[Path]:
    return sorted((_ansible() / "plugins" / kind).glob("*.py"))


def _declared(path: Path, method: str) -> set[str]:
    """The keys of the mappings in the method ``filters`` or ``tests`` of a plugin file."""
    return {
        key.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == method
        for item in ast.walk(node)
        if isinstance(item, ast.Dict)
        for key in item.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


@cache
def _fragment(name: str) -> Mapping[str, Any]:
    parts = name.split(".")
    if len(parts) > 2:
        root, parts = collection_root(".".join(parts[:2])), parts[2:]
        folder = root / "plugins" / "doc_fragments" if root else None
    else:
        folder = _ansible() / "plugins" / "doc_fragments"
    if folder is None or not is_file(folder / f"{parts[0]}.py"):
        return {}
    variable = parts[1].upper() if len(parts) > 1 else "DOCUMENTATION"
    content = _yaml(assigned_text(folder / f"{parts[0]}.py", variable))
    return content if isinstance(content, dict) else {}


def fragment_options(name: str) -> Mapping[str, Any]:
    """The options of a documentation fragment."""
    return _fragment(name).get("options") or {}


@cache
def module(full_name: str) -> Documentation | None:
    """The documentation of a module; none when the module or its documentation does not exist."""
    collection_name, _, short = full_name.rpartition(".")
    folder = module_folder(collection_name)
    path = folder / f"{short}.py" if folder else None
    if path is None or not is_file(path):
        return None
    source = path.read_text(encoding="utf-8")
    content = _yaml(_assigned(source, "DOCUMENTATION"))
    if not isinstance(content, dict) or "module" not in content:
        return None
    options: dict[str, Any] = {}
    connection: set[str] = set()
    named = content.get("extends_documentation_fragment", [])
    fragments = (named,) if isinstance(named, str) else tuple(named)
    for fragment in fragments:
        added = fragment_options(fragment)
        options.update(added)
        if fragment in CONNECTION_FRAGMENTS:
            connection.update(added)
    own = content.get("options") or {}
    for name, option in own.items():
        options[name] = {**options.get(name, {}), **option}
    if collection_name != OURS:
        return Documentation(full_name, content, options)
    return Documentation(
        full_name,
        content,
        options,
        frozenset(connection - own.keys()),
        fragments,
        _yaml(_assigned(source, "RETURN")) or {},
        _assigned(source, "EXAMPLES") or "",
    )


def plain(text: Any) -> str:
    """A description (text or list) without Ansible's markup, on one line."""
    joined = " ".join(text) if isinstance(text, list) else str(text or "")
    return " ".join(re.sub(r"\b[A-Z]+\(([^)]*)\)", r"\1", joined).split())


_NUMBER_TEXT = {
    "int": r"^\s*[+-]?\d+\s*$",
    "float": r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$",
}
_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": ["string", "number"]},
    "path": {"type": "string"},
    "bytes": {"type": ["string", "integer"]},
    "bits": {"type": ["string", "integer"]},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "dict": {"type": "object"},
    "raw": {},
    "any": {},
    "json": {},
    "jsonarg": {},
}


def option_schema(option: Mapping[str, Any], *, lenient: bool = False) -> dict[str, Any]:
    """The schema of one option's value, a template in its place allowed.

    ``lenient`` also takes what Ansible converts (text for numbers, booleans and lists), for
    modules of other collections.
    """
    kind = str(option.get("type", "str"))
    if kind == "list":
        items = option_schema(
            {**option, "type": option.get("elements", "raw"), "default": None}, lenient=lenient
        )
        items.pop("description", None)
        value: dict[str, Any] = {"type": "array", "items": items}
    elif kind == "dict" and option.get("suboptions"):
        value = options_schema(option["suboptions"], lenient=lenient)
    elif option.get("choices"):
        value = {"enum": _choices(option["choices"], kind)}
    else:
        value = dict(_TYPES.get(kind, {}))
    choices: list[dict[str, Any]] = [value]
    if lenient:
        choices += _converted(kind, has_choices=bool(option.get("choices")))
    schema: dict[str, Any] = {"anyOf": [*choices, TEMPLATE]}
    if not value or value in (_TYPES["str"], _TYPES["path"]):
        schema = value
    described = {}
    if option.get("description"):
        described["description"] = plain(option["description"])
    if option.get("default") is not None:
        described["default"] = option["default"]
    return {**described, **schema}


def _choices(choices: Any, kind: str) -> list[Any]:
    values = list(choices)
    if kind in ("str", "path"):
        # YAML reads yes and no as booleans; Ansible hands them on as text again.
        return [{True: "yes", False: "no"}.get(v, v) if isinstance(v, bool) else v for v in values]
    return values


def _converted(kind: str, *, has_choices: bool) -> list[dict[str, Any]]:
    if kind in _NUMBER_TEXT:
        return [{"type": "string", "pattern": _NUMBER_TEXT[kind]}]
    if kind == "bool":
        return [{"enum": ["yes", "no", "on", "off", "true", "false", "True", "False", 0, 1]}]
    if kind == "list":
        return [{"type": ["string", "number"]}]
    if kind == "str" and not has_choices:
        return [{"type": "boolean"}]
    if kind == "dict" and not has_choices:
        return [{"type": "string", "pattern": "[={]"}]
    return []


def options_schema(options: Mapping[str, Any], *, lenient: bool = False) -> dict[str, Any]:
    """The schema of a mapping of options."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    one_of_names: list[dict[str, Any]] = []
    for name, option in sorted(options.items()):
        schema = option_schema(option, lenient=lenient)
        aliases = option.get("aliases") or []
        for spelling in [name, *aliases]:
            properties[spelling] = schema
        if option.get("required") is True:
            if aliases:
                one_of_names.append({"anyOf": [{"required": [n]} for n in [name, *aliases]]})
            else:
                required.append(name)
    result: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    if required:
        result["required"] = required
    if one_of_names:
        result["allOf"] = one_of_names
    return result
