"""The variables, tags and defaults of arguments that apply at one place of a playbook."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from runbook.load.walk.node import Node

#: Among names: others may exist too, which cannot be known before the run.
ANY = "*"


@dataclass(frozen=True)
class Play:
    """The handlers that the tasks of one play notify, and those that it has, by name.

    ``lacking`` are the variables of the role ``parameters`` that it uses and has not; without it,
    such a variable is as undefined as any other.
    """

    name: str = ""
    notified: list[Node] = field(default_factory=list)
    handlers: set[str] = field(default_factory=set)
    lacking: set[str] | None = None


@dataclass(frozen=True)
class Scope:
    """The variables, tags and defaults of arguments that apply to the tasks at one place.

    ``known``: the variables of play, roles, blocks, tasks and loops; ``guarded``: the names that
    a ``when`` around tests to be defined; ``defaults``: the entries of ``module_defaults``;
    ``files`` led here, to notice one that includes itself.
    """

    folder: Path
    known: frozenset[str] = frozenset()
    guarded: frozenset[str] = frozenset()
    defaults: tuple[Node, ...] = ()
    tags: tuple[str, ...] = ()
    play: Play = field(default_factory=Play)
    handler: bool = False
    files: tuple[Path, ...] = ()

    def knowing(self, names: frozenset[str] | set[str]) -> Scope:
        """The scope with more variables."""
        return replace(self, known=self.known | names)
