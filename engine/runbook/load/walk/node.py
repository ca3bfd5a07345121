"""A value in a YAML document, together with its position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runbook.load.diagnostics import Path, Problem
    from runbook.load.positions import Document


@dataclass(frozen=True)
class Node:
    """A value in a document, and the path to it."""

    document: Document
    path: Path
    value: Any

    def __getitem__(self, key: Any) -> Node:
        """The value below a key of a mapping; None where it has none."""
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return Node(self.document, (*self.path, key), value)

    def __iter__(self) -> Any:
        """The entries of a list; none of anything else."""
        entries = self.value if isinstance(self.value, list) else []
        return iter([Node(self.document, (*self.path, n), each) for n, each in enumerate(entries)])

    def each(self) -> list[Node]:
        """The entries of a list; anything else but None stands for a list of itself."""
        return [self] if self.value is not None and not isinstance(self.value, list) else [*self]

    def without(self, *keys: str) -> Node:
        """The mapping without some of its keys."""
        return replace(self, value={k: v for k, v in self.value.items() if k not in keys})

    def problem(self, message: str, suggestion: str = "", *, key: bool = False) -> Problem:
        """A problem with the value, or with its key."""
        return self.document.problem(self.path, message, suggestion, key=key)


def tags_of(holder: Node) -> tuple[str, ...]:
    """The tags of a play, role, block or task."""
    return tuple(
        tag.strip()
        for entry in holder["tags"].each()
        for tag in str(entry.value).split(",")
        if tag.strip()
    )
