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

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus
from weakref import WeakSet

MASK = "********"

#: A shorter value is masked only where it is a whole value: ``a`` inside text says nothing.
SHORTEST_PART = 4

#: Lines of a secret of several lines (a private key) are secrets too, from this length on.
SHORTEST_LINE = 8

T = TypeVar("T")

_redactors: WeakSet[Redactor] = WeakSet()


class Redactor:
    """Knows secret values, and replaces them by ``MASK``."""

    def __init__(self, values: Iterable[object] = ()) -> None:
        _redactors.add(self)
        self._whole: set[str] = set()
        self._parts: list[str] = []
        self.learn(values)

    def learn(self, values: Iterable[object]) -> None:
        """Add values; empty ones and booleans are no secrets."""
        for value in values:
            if isinstance(value, Mapping):
                self.learn(value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                self.learn(value)
            elif value is not None and not isinstance(value, bool) and str(value).strip():
                self._whole |= _spellings(str(value))
        parts = {text for text in self._whole if len(text) >= SHORTEST_PART}
        # The longest first: a secret that contains another must go as a whole.
        self._parts = sorted(parts, key=lambda text: (-len(text), text))

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        if text in self._whole:
            return MASK
        for part in self._parts:
            if part in text:
                text = text.replace(part, MASK)
        return text

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


def _spellings(value: str) -> set[str]:
    """A secret as it may stand in JSON, in a URL, and line by line."""
    texts = {value, value.strip()}
    lines = value.splitlines()
    if len(lines) > 1:
        texts |= {line.strip() for line in lines if len(line.strip()) >= SHORTEST_LINE}
    for text in list(texts):
        texts |= {
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            quote(text, safe=""),
            quote(text),
            quote_plus(text),
        }
    return texts
