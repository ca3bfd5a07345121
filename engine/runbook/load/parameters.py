"""Parameters of a run: each one's value, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.events.redaction import MASK, unmaskable
from runbook.load import schemas
from runbook.load.diagnostics import Path, Problem
from runbook.load.positions import VAULT, Document
from runbook.load.source import Source
from runbook.load.templates import is_template

#: What takes the place of a value that depends on what a step finds.
LATER = "(known during the run)"


@dataclass(frozen=True)
class Parameter:
    """One parameter as a run would use it.

    ``kind`` is its type, and ``allowed`` in words what else its schema demands: choices, a range.
    ``value`` is typed, a template as it is written, and ``MASK`` for a secret that is set.
    ``source`` is ``default``, ``-e``, ``file:line``, or empty when it is not set without a
    default: a required one is missing then, an optional one leaves the choice to another.
    ``place`` is ``source`` with the column. ``host`` is set when hosts of the target differ in it.
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
    place: str = ""

    @property
    def differs(self) -> bool:
        """Whether it is set to another value than its default."""
        return self.source not in ("", "default") and (self.secret or self.value != self.default)


def resolve(source: Source, needed: Collection[str], hosts: Collection[str]) -> Iterator[Parameter]:
    """The parameters ``needed`` of a run, with the values that it would take on ``hosts``.

    In the order of the schema. One that differs between the hosts is given for each.
    """
    for name, schema in schemas.parameters().items():
        if name in needed:
            by_host = {host: _value(name, schema, source, host) for host in sorted(hosts) or [""]}
            yield from _per_host(name, schema, by_host)


def secret_problems(
    source: Source, needed: Collection[str], hosts: Collection[str]
) -> Iterator[Problem]:
    """The secrets in plain text that cannot be masked in results without spoiling them.

    Ansible's process looks at those in vaults and lookups.
    """
    for host in sorted(hosts) or [""]:
        found = {n: _value(n, schema, source, host) for n, schema in schemas.parameters().items()}
        plain = {n: each for n, each in found.items() if not schemas.is_opaque(each.value)}
        secret = plain.keys() & schemas.secret_names()
        public = {name: each.value for name, each in plain.items() if name not in secret}
        places = {name: each.place for name, each in found.items()}
        for name in sorted(secret.intersection(needed)):
            document, path = plain[name].document, plain[name].path
            said = unmaskable(plain[name].value, {**public, "inventory_hostname": host}, places)
            if said and document:
                yield document.problem(path, said, key=True)


def differing(found: Iterable[Parameter], seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters that differ from their defaults, by name, with the host where hosts differ.

    ``seen``: by host, the values as Ansible evaluated them. What it could not evaluate before the
    first step is ``LATER``.
    """
    values: dict[str, Any] = {}
    for each in found:
        if not each.differs:
            continue
        by_host = {
            host: _evaluated(each, seen.get(host, {}))
            for host in ([each.host] if each.host else list(seen) or [""])
        }
        same = not each.host and len({repr(value) for value in by_host.values()}) == 1
        for host, value in list(by_host.items())[:1] if same else by_host.items():
            if each.secret or value != each.default:
                values[each.name if same else f"{each.name} [{host}]"] = value
    return values


def _evaluated(parameter: Parameter, seen: Mapping[str, Any]) -> Any:
    """The value of a parameter as the tasks of a host see it; a secret is never looked at."""
    if parameter.secret or parameter.value == MASK:
        return parameter.value
    written = json.dumps(parameter.value, default=str)
    return seen.get(parameter.name, LATER if is_template(written) else parameter.value)


def _per_host(
    name: str, schema: Mapping[str, Any], by_host: Mapping[str, _Setting]
) -> list[Parameter]:
    secret = bool(schema.get("writeOnly"))
    same = len({repr((each.value, each.source)) for each in by_host.values()}) == 1
    shown = list(by_host.items())[:1] if same else list(by_host.items())
    return [
        Parameter(
            name,
            MASK
            if (secret and each.value not in (None, "")) or each.value is VAULT
            else each.value,
            schema.get("default"),
            each.source,
            secret,
            schema["description"],
            str(schema["type"]),
            schemas.allowed(schema),
            bool(schema.get("x-required")),
            "" if same else host,
            each.place,
        )
        for host, each in shown
    ]


@dataclass(frozen=True)
class _Setting:
    """The value of a parameter for a host, and the place where it is written, if it is."""

    value: Any
    document: Document | None = None
    path: Path = ()

    @property
    def place(self) -> str:
        """``file:line:col``, or ``-e``; empty for a value that is not written anywhere."""
        if self.document is None:
            return ""
        mark = self.document.mark(self.path, key=True)
        return f"{self.document.file}:{mark.line}:{mark.col}" if mark.line else self.document.file

    @property
    def source(self) -> str:
        """The same without the column; ``default`` for a default."""
        if self.document is None:
            return "" if self.value is None else "default"
        mark = self.document.mark(self.path, key=True)
        return f"{self.document.file}:{mark.line}" if mark.line else self.document.file


def _value(name: str, schema: Mapping[str, Any], source: Source, host: str) -> _Setting:
    """The value of a parameter for a host, and where it is written."""
    if name in source.extra.values:
        return _Setting(source.extra.values[name], source.extra.documents[name], (name,))
    for layer in reversed(source.inventory.of_host(host) if source.inventory else []):
        if name in layer.values:
            return _Setting(layer.values[name], layer.document, (*layer.path, name))
    return _Setting(schema.get("default"))
