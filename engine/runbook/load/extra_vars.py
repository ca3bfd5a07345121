"""The parameters that ``-e`` gives."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook.home import expanded, is_pipe
from runbook.load import positions, schemas
from runbook.load.diagnostics import Problem
from runbook.load.positions import VAULT, Document

_NAME = re.compile(r"[A-Za-z_]\w*")
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}


@dataclass(frozen=True)
class ExtraVars:
    """The variables of all ``-e`` options, later ones winning, and what is wrong with them.

    ``encrypted``: a file was encrypted as a whole, so that more names may be given than are known.
    ``read``: every option as a document. ``arguments``: every option as ansible takes it, typed
    values as JSON, a file by its absolute name. ``given``: the same with files as they were named.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    documents: Mapping[str, Document] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    encrypted: bool = False
    read: tuple[Document, ...] = field(default=(), compare=False)
    arguments: tuple[str, ...] = field(default=(), compare=False)
    given: tuple[str, ...] = field(default=(), compare=False)

    def secrets(self) -> list[Any]:
        """The values of secret parameters."""
        return [value for name, value in self.values.items() if name in schemas.secret_names()]


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
    given: list[str] = []
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
        given.append(option if file else arguments[-1])
    encrypted = any(document.value is VAULT for document in read)
    return ExtraVars(
        values, documents, tuple(problems), encrypted, tuple(read), tuple(arguments), tuple(given)
    )


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
    if option.startswith("@") and is_pipe(expanded(option[1:])):
        return _malformed(
            f"{option[1:]} is a pipe, which can be read once, and each run reads it again; give a "
            "file"
        )
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
