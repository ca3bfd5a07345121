"""Parameters of a run: what ``-e`` gives, and each one's value and where it comes from."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook.events.redaction import MASK
from runbook.home import expanded

from . import positions, schemas
from .diagnostics import Problem
from .positions import VAULT, Document

if TYPE_CHECKING:
    from .run_input import Source

_NAME = re.compile(r"[A-Za-z_]\w*")
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}


@dataclass(frozen=True)
class ExtraVars:
    """The variables of all ``-e`` options, later ones winning, and what is wrong with them.

    ``sealed``: a file was encrypted as a whole, so that more names may be given than are known.
    ``read``: every option as a document. ``arguments``: every option as ansible takes it, typed
    values as JSON, a file by its absolute name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, Document] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    sealed: bool = False
    read: tuple[Document, ...] = field(default=(), compare=False)
    arguments: tuple[str, ...] = field(default=(), compare=False)

    def secrets(self) -> list[Any]:
        """The values of secret parameters."""
        return [value for name, value in self.values.items() if name in schemas.secret_names()]


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
    read: list[Document] = []
    arguments: list[str] = []
    for option in map(str.strip, options):
        document = _document(option)
        named = dict(_named(document, problems))
        values |= named
        documents |= dict.fromkeys(named, document)
        read.append(document)
        file = option.startswith("@")
        arguments.append(
            f"@{expanded(option[1:]).absolute()}" if file else json.dumps(named, default=str)
        )
    sealed = any(document.value is VAULT for document in read)
    return ExtraVars(values, documents, tuple(problems), sealed, tuple(read), tuple(arguments))


def _named(document: Document, problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    """The variables of one option; what is wrong with it goes to ``problems``."""
    problems += document.problems
    if document.value is None or document.value is VAULT:
        return
    if not isinstance(document.value, dict):
        problems.append(document.problem((), "a mapping of names is expected"))
        return
    for name, value in document.value.items():
        if isinstance(name, str) and _NAME.fullmatch(name):
            yield name, value
        else:  # Not repeated: {db_pwd:VALUE}, without a blank, is one long name.
            mark = document.mark((name,), key=True)
            message = "a key that is no name for a variable; NAME: VALUE wants a blank"
            problems.append(Problem(document.file, mark.line, mark.col, "", message))


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


def resolve(source: Source, needed: Collection[str], hosts: Collection[str]) -> Iterator[Parameter]:
    """The parameters ``needed`` of a run, with the values that it would take on ``hosts``.

    In the order of the schema. One that differs between the hosts is given for each.
    """
    for name, schema in schemas.parameters().items():
        if name in needed:
            by_host = {host: _value(name, schema, source, host) for host in sorted(hosts) or [""]}
            yield from _per_host(name, schema, by_host)


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


def _value(name: str, schema: Mapping[str, Any], source: Source, host: str) -> tuple[Any, str]:
    """The value of a parameter for a host, and where it is written."""
    if name in source.extra.values:
        return source.extra.values[name], _source(source.extra.documents[name], (name,))
    for layer in reversed(source.inventory.of_host(host) if source.inventory else []):
        if name in layer.values:
            return layer.values[name], _source(layer.document, (*layer.path, name))
    if "default" in schema:
        return schema["default"], "default"
    return None, ""


def _source(document: Document, path: tuple[str | int, ...]) -> str:
    mark = document.mark(path, key=True)
    return f"{document.file}:{mark.line}" if mark.line else document.file
