"""Keeps secret values out of everything that the engine shows or stores.

Three layers, each enough for what it knows:

1. Our modules declare secret options ``no_log`` and put no secret into a result; for foreign
   modules the task's own ``no_log`` holds, and ansible censors before an event leaves it.
2. By field: a parameter that ``schemas/parameters.schema.json`` marks ``writeOnly`` is masked
   wherever it is shown by name.
3. By value: ``Redactor`` replaces known secret values in every string of every event, at the one
   place where events are published. The engine cannot know the values by itself without
   evaluating the inventory, which is ansible's work and slow. So it learns them twice: from what
   it reads itself (``-e``, plain values of inventory files), before ansible starts; and from
   ansible, whose evaluation is exact (vault, lookups, templates): the callback
   ``runbook_quiet`` runs inside the ansible process, evaluates the secret parameters of every
   host and every vaulted variable at the start of each play, before any of its tasks, and hands
   them over a pipe that never touches the disk (``execute``).
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus
from weakref import WeakSet

import yaml

MASK = "********"

#: A shorter value is masked only where it is a whole value: ``a`` inside text says nothing.
SHORTEST_PART = 4

#: Lines of a secret of several lines (a private key) are secrets too, from this length on.
SHORTEST_LINE = 8

#: What occurs in text, ids and checksums by chance. Modules mask a secret of any length in results.
_BY_CHANCE = re.compile(r".{1,3}|[0-9a-fA-F]{4,7}", re.DOTALL)

#: The credentials in a URL, which may well be a secret.
_LOGIN = re.compile(r"(?<=://)[^/@]*@")

#: Variables whose values results hold as well, and what they are.
ALSO_PUBLIC = {
    "inventory_hostname": "the name of the host",
    "mode": "set in the playbook",
    "names": "derived from parameters",
}

T = TypeVar("T")

_redactors: WeakSet[Redactor] = WeakSet()


class Redactor:
    """Knows secret values, and replaces them by ``MASK``."""

    def __init__(self, values: Iterable[object] = ()) -> None:
        _redactors.add(self)
        self._whole: set[str] = set()
        self._parts: set[str] = set()
        self.learn(values)

    def learn(self, values: Iterable[object]) -> None:
        """Add values; empty ones and booleans are no secrets."""
        for value in _leaves(list(values)):
            for text in _texts(value):
                self._whole |= _spellings(text)
                self._parts |= _spellings(text) if len(text) >= SHORTEST_PART else set()

    def text(self, text: str) -> str:
        """``text`` without secrets. Where several overlap, all that they cover is masked."""
        if text in self._whole:
            return MASK
        found = [part for part in self._parts if part in text]
        clear, end = [], 0
        for start, stop in sorted(span for part in found for span in _places(part, text)):
            if start >= end:
                clear.append(text[end:start])
            end = max(end, stop)
        return MASK.join([*clear, text[end:]])

    def value(self, value: Any) -> Any:
        """A JSON-like value without secrets, keys of mappings included."""
        if isinstance(value, Enum) or value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if is_dataclass(value) and not isinstance(value, type):
            return self.event(value)
        if isinstance(value, int | float) and len(str(value)) >= SHORTEST_PART:
            return MASK if str(value) in self._whole else value
        return value

    def event(self, event: T) -> T:
        """A dataclass with every field redacted."""
        return replace(
            event,  # type: ignore[type-var]
            **{
                part.name: self.value(getattr(event, part.name))
                for part in fields(event)  # type: ignore[arg-type]
            },
        )


def without_secrets(text: str) -> str:
    """``text`` without what any living redactor knows; for reports that no run publishes."""
    for redactor in list(_redactors):
        text = redactor.text(text)
    return text


def unmaskable(secret: object, public: Mapping[str, object], places: Mapping[str, str]) -> str:
    """Why the value of a secret cannot be masked without spoiling results; empty if it can.

    Later steps take names and numbers from the results of earlier ones. ``public``: values by the
    names of parameters; ``places``: where those that are not defaults are written.
    """
    for text in _leaves(secret):
        if _BY_CHANCE.fullmatch(text):
            return (
                "a secret this short also occurs by chance in results, which later steps use, and "
                "is masked there too; use one of at least 8 characters"
            )
        for name, value in public.items():
            if any(text in _LOGIN.sub("", part) for part in _leaves(value)):
                place = places.get(name) or ALSO_PUBLIC.get(name, "its default")
                return (
                    f"the value of this secret is part of the value of {name} ({place}), and is "
                    "masked there too: a later step would look for the masked name. Use another "
                    f"secret, or another value of {name}"
                )
    return ""


def _leaves(value: object) -> Iterator[str]:
    """The texts in a value, and its numbers as texts; blank ones and booleans are no secrets."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool) and str(value).strip():
        yield str(value)


def _places(part: str, text: str) -> Iterator[tuple[int, int]]:
    """Where ``part`` is in ``text``: beginnings and ends, overlapping ones too."""
    start = text.find(part)
    while start >= 0:
        yield start, start + len(part)
        start = text.find(part, start + 1)


def _texts(value: str) -> set[str]:
    """A secret as a whole, without the blanks around it, and line by line."""
    lines = [line.strip() for line in value.splitlines()]
    return {value, value.strip(), *(line for line in lines if len(line) >= SHORTEST_LINE)}


@lru_cache(maxsize=1024)
def _spellings(text: str) -> frozenset[str]:
    """A text as it may appear: itself, quoted for other languages, in base64.

    Quoted twice too: a command in JSON, JSON in the ``repr`` of a result.
    """
    once = _quoted(text)
    encoded = {form for text in once for form in _base64(text.encode(errors="surrogateescape"))}
    twice = {form for text in once for form in _quoted(text)}
    return frozenset(twice | encoded | {quote(form, safe="") for form in encoded})


def _quoted(text: str) -> set[str]:
    """The forms of ``text`` inside the quotation marks of other languages."""
    return {text, *(form(text) for form in _QUOTED)}


def _url(safe: str) -> Callable[[str], str]:
    return lambda text: quote(text, safe=safe, errors="surrogateescape")


def _yaml(*, letters: bool) -> Callable[[str], str]:
    """In double quotes; where all can be printed, YAML escapes as JSON does."""
    return lambda text: (
        text
        if text.isascii() and text.isprintable()
        else yaml.safe_dump(text, default_style='"', width=math.inf, allow_unicode=letters).strip()[
            1:-1
        ]
    )


def _backslashed(special: str) -> Callable[[str], str]:
    return lambda text: re.sub(special, r"\\\g<0>", text)


_QUOTED: tuple[Callable[[str], str], ...] = (
    # JSON, also as Jinja's tojson writes it into HTML, and Python
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: re.sub(r"[<>&']", lambda c: f"\\u{ord(c[0]):04x}", json.dumps(text)[1:-1]),
    lambda text: repr(text)[1:-1],
    lambda text: repr(text.encode(errors="surrogateescape"))[2:-1],
    # URLs
    _url(""),
    _url("/"),
    lambda text: quote_plus(text, errors="surrogateescape"),
    # shells: in single quotes, in double quotes, bare
    lambda text: shlex.quote(f"{text} ")[1:-2],
    lambda text: text.replace("'", r"'\''"),
    _backslashed(r'[\\"$`]'),
    _backslashed(r"[^\w@%+=:,./-]"),
    # SQL and YAML in single quotes; SQL's E'' and connection strings
    lambda text: text.replace("'", "''"),
    lambda text: text.replace("\\", r"\\").replace("'", "''"),
    _backslashed(r"[\\']"),
    _yaml(letters=False),
    _yaml(letters=True),
    # HTML and XML
    html.escape,
    lambda text: html.escape(text, quote=False),
    lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    lambda text: html.escape(text).replace("&#x27;", "&apos;"),
)


def _base64(data: bytes) -> Iterator[str]:
    """The base64 forms of ``data`` inside other data, wherever it begins among groups of three.

    Without the characters at the ends that depend on what is around: they hold 4 bits at most.
    """
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode()
        after = (before + len(data)) % 3
        inner = text[(0, 2, 3)[before] : len(text) - (0, 3, 2)[after]]
        if len(inner) >= SHORTEST_PART:
            yield from (inner, inner.translate(str.maketrans("+/", "-_")))
