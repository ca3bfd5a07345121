"""Parameters of a run: what ``-e`` gives, and each one's value and where it comes from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook.home import expanded

from . import inventory as inventories
from . import positions, schemas
from .diagnostics import Problem
from .positions import VAULT, Document
from .targets import Target

_NAME = re.compile(r"[A-Za-z_]\w*")
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}
#: What takes the place of a secret wherever a parameter is shown.
MASK = "********"


@dataclass(frozen=True)
class ExtraVars:
    """The variables of all ``-e`` options, later ones winning, and what is wrong with them.

    ``sealed``: a file was encrypted as a whole, so that more names may be given than are known.
    ``read``: every option as a document.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, Document] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    sealed: bool = False
    read: tuple[Document, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Parameter:
    """One parameter as a run would use it.

    ``kind`` is its type, and ``allowed`` in words what else its schema demands: choices, a range.
    ``value`` is typed, a template as it is written, and ``MASK`` for a secret that is set.
    ``source`` is ``default``, ``-e``, ``file:line``, or empty when it is not set without a
    default: a required one is missing then, an optional one leaves the choice to another.
    ``host`` is set when hosts of the target differ in it.
    """

    name: str
    value: Any
    default: Any
    source: str
    secret: bool
    description: str
    kind: str
    allowed: str = ""
    required: bool = False
    host: str = ""

    @property
    def differs(self) -> bool:
        """Whether somebody set it to another value than its default."""
        return self.source not in ("", "default") and (self.secret or self.value != self.default)


def parse_extra_vars(options: Iterable[str]) -> ExtraVars:
    """The variables of ``-e`` options: ``k=v k2=v2``, ``@file``, or a YAML or JSON mapping.

    A value of ``k=v`` is read by its parameter's type; one that cannot be stays text, and
    validation reports it.
    """
    values: dict[str, Any] = {}
    documents: dict[str, Document] = {}
    problems: list[Problem] = []
    read = [_document(option.strip()) for option in options]
    sealed = False
    for document in read:
        problems += document.problems
        sealed = sealed or document.value is VAULT
        if document.value is None or document.value is VAULT:
            continue
        if not isinstance(document.value, dict):
            problems.append(document.problem((), "a mapping of names is expected"))
            continue
        for name, value in document.value.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                # Not repeated: {db_pwd:VALUE}, without a blank, is one long name.
                mark = document.mark((name,), key=True)
                message = "a key that is no name for a variable; NAME: VALUE wants a blank"
                problems.append(Problem(document.file, mark.line, mark.col, "", message))
                continue
            values[name], documents[name] = value, document
    return ExtraVars(values, documents, tuple(problems), sealed, tuple(read))


def _document(option: str) -> Document:
    if option.startswith("@"):
        return positions.load(expanded(option[1:]), f"-e {option}")
    if option.startswith(("{", "[")) and not option.startswith("{{"):
        return positions.load_text(option, "-e")
    return _pairs(option)


def _pairs(option: str) -> Document:
    """``NAME=VALUE`` and more of them; no error repeats a word, which may be part of a secret."""
    try:
        words = shlex.split(option)
    except ValueError as error:
        return _malformed(f"the text cannot be split into words: {error}")
    pairs = [word.partition("=") for word in words]
    for number, (name, equals, _) in enumerate(pairs, 1):
        if not equals or not _NAME.fullmatch(name):
            which = f"word {number} of {len(words)}" if len(words) > 1 else "the text"
            known = name.partition(":")[0]
            hint = f"; write {known}=VALUE" if known in schemas.parameters() else ""
            return _malformed(f"{which} is neither NAME=VALUE, @FILE nor a mapping{hint}")
    return Document("-e", {name: typed(name, text) for name, _, text in pairs})


def _malformed(message: str) -> Document:
    return Document("-e", {}, problems=(Problem("-e", 0, 0, "", message),))


def typed(name: str, text: str) -> Any:
    """The text of ``-e name=text`` as the parameter's type, or as it is where it cannot be."""
    kind = schemas.parameters().get(name, {}).get("type", "string")
    if kind == "integer" and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text):
        return int(text)
    if kind == "number":
        try:
            return float(text) if not re.fullmatch(r"[+-]?\d{1,18}", text) else int(text)
        except ValueError:
            return text
    if kind == "boolean":
        return _BOOLEANS.get(text.strip().lower(), text)
    if kind in ("array", "object"):
        document = positions.load_text(text, "-e")
        return text if document.problems else document.value
    return text


def resolve(
    playbook: Path, target: Target | None, extra: ExtraVars | None = None
) -> list[Parameter]:
    """The parameters that ``playbook`` uses, with the values that a run on ``target`` would take.

    In the order of the schema. One that differs between the target's hosts is given for each.
    """
    extra = extra or ExtraVars()
    from .playbook import Walk  # not before ansible has begun to be imported

    inventory = inventories.read(target, playbook.parent) if target else None
    walk = Walk(frozenset(schemas.parameters()), open_names=True)
    walk.playbook(playbook)
    own = {name for name in walk.definitions if name in extra.values}
    for layer in inventory.layers if inventory else []:
        walk.define(layer.document, layer.path, layer.values)
    walk.finish()
    hosts = (
        sorted(set().union(*(inventory.match(p) for _, _, p in walk.hosts))) if inventory else []
    )
    resolved = []
    for name, schema in schemas.parameters().items():
        if name in walk.used or name in own:
            by_host = {host: _value(name, schema, inventory, host, extra) for host in hosts or [""]}
            resolved += _per_host(name, schema, by_host)
    return resolved


def _per_host(
    name: str, schema: Mapping[str, Any], by_host: Mapping[str, tuple[Any, str]]
) -> list[Parameter]:
    secret = bool(schema.get("writeOnly"))
    same = len({repr(found) for found in by_host.values()}) == 1
    shown = list(by_host.items())[:1] if same else list(by_host.items())
    return [
        Parameter(
            name,
            MASK if (secret and value not in (None, "")) or value is VAULT else value,
            schema.get("default"),
            source,
            secret,
            schema["description"],
            str(schema["type"]),
            schemas.allowed(schema),
            bool(schema.get("x-required")),
            "" if same else host,
        )
        for host, (value, source) in shown
    ]


def _value(
    name: str,
    schema: Mapping[str, Any],
    inventory: inventories.Inventory | None,
    host: str,
    extra: ExtraVars,
) -> tuple[Any, str]:
    """The value of a parameter for a host, and where it is written."""
    if name in extra.values:
        document = extra.documents[name]
        return extra.values[name], _source(document, (name,))
    for layer in reversed(inventory.of_host(host) if inventory else []):
        if name in layer.values:
            return layer.values[name], _source(layer.document, (*layer.path, name))
    if "default" in schema:
        return schema["default"], "default"
    return None, ""


def _source(document: Document, path: tuple[str | int, ...]) -> str:
    mark = document.mark(path, key=True)
    return f"{document.file}:{mark.line}" if mark.line else document.file
