"""The files of a playbook: each read once, and found as Ansible finds it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import collection
from runbook.home import is_file, is_folder
from runbook.load import documentation, schemas, targets
from runbook.load.walk.arguments import OURS, unknown_keyword
from runbook.load.walk.node import Node

if TYPE_CHECKING:
    from runbook.load.diagnostics import Problem
    from runbook.load.positions import Document, Reader


class Files:
    """The documents of a walk, by path; their own problems go into ``problems``."""

    def __init__(self, problems: list[Problem], read: Reader) -> None:
        self.documents: dict[Path, Document] = {}
        self._problems = problems
        self._read = read

    def load(self, path: Path) -> Node:
        """The content of a file."""
        if path not in self.documents:
            document = self.documents[path] = self._read(path, targets.shown(path))
            self._problems += document.problems
        document = self.documents[path]
        return Node(document, (), document.value)

    def check(self, content: Node, kind: str) -> None:
        """Check a file's structure: a ``playbook``, or a list of ``tasks`` or ``handlers``."""
        self._problems += schemas.check(
            _validator(kind), content.document, (), content.value, unknown_keyword
        )


@cache
def _validator(kind: str) -> Any:
    """The compiled schema of a playbook, or of a file of ``tasks`` or ``handlers``."""
    if kind == "playbook":
        return schemas.validator("playbook")
    whole = schemas.read("playbook")
    return schemas.compiled({"$defs": whole["$defs"], "$ref": f"#/$defs/{kind}"})


def playbook(name: str, folder: Path) -> Path:
    """The file of an imported playbook: one of the collection by its name, or beside ``folder``."""
    short = name.removeprefix(f"{OURS}.")
    packaged = collection.root() / "playbooks" / f"{short.removesuffix('.yml')}.yml"
    return _plain(folder / name) if short == name else packaged


def role(name: str, folder: Path) -> Path | None:
    """The folder of a role: of a collection, or from a file of tasks or plays in ``folder``."""
    home = documentation.collection_root(name.rpartition(".")[0])
    beside = [folder / "roles", folder.parent.parent]  # of a play, of a role's task
    places = [home / "roles" / name.rpartition(".")[2]] if home else [p / name for p in beside]
    return next(filter(is_folder, places), None)


def own_roles() -> list[str]:
    """The full names of the collection's roles."""
    return [f"{OURS}.{p.name}" for p in (collection.root() / "roles").iterdir() if p.is_dir()]


def role_file(folder: Path, part: str, entry: str) -> Path | None:
    """A file of a role: its ``tasks`` or ``handlers`` with the name ``entry``."""
    names = [folder / part / f"{entry}{ending}" for ending in ("", ".yml", ".yaml")]
    return next(filter(is_file, names), None)


def beside(folder: Path, name: str, kind: str) -> Path:
    """The file ``name`` beside the including one, or in the role's folder of that kind."""
    folders = [folder, folder / kind, folder.parent / kind, folder.parent]
    places = [_plain(each / name) for each in folders]
    return next(filter(is_file, places), places[0])


def _plain(path: Path) -> Path:
    """The path without ``..``, for people to read."""
    return Path(os.path.normpath(path))
