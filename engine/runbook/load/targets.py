"""The files that ``-i NAME`` and ``PLAYBOOK`` mean."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runbook import collection
from runbook.errors import InvalidInputError
from runbook.home import expanded, is_file, is_folder
from runbook.load.diagnostics import hint

_YAML = (".yml", ".yaml")
#: What a portable name begins with that is looked up in the collection.
_PACKAGED = f"{collection.NAMESPACE}.{collection.NAME}:"


@dataclass(frozen=True)
class Target:
    """The inventory of a run.

    ``inventory`` is ansible's ``-i``; ``path`` is the file or folder, or none for ``host,``.
    ``name`` is what the operator types to confirm.
    """

    name: str
    inventory: str
    path: Path | None

    @property
    def hosts(self) -> list[str]:
        """The hosts of a ``host,`` target; empty when a file names them."""
        return [] if self.path else [host for host in self.inventory.split(",") if host]


def roots() -> list[Path]:
    """Where names are looked up, first match wins: the working directory, then what is packaged."""
    places = [Path.cwd(), collection.root()]
    return [place for index, place in enumerate(places) if place not in places[:index]]


def target(name: str) -> Target:
    """The target that ``-i name`` names. InvalidInputError lists the known ones."""
    if "," in name:
        return Target(name.strip(","), name, None)
    path = _find(name, "inventories", ("", *_YAML, ".ini"))
    if path is None:
        raise _unknown("target", name, target_names())
    return Target(path.stem if path.is_file() else path.resolve().name, str(path), path)


def playbook(name: str) -> Path:
    """The playbook that ``name`` names. InvalidInputError lists the known ones."""
    path = _find(name, "playbooks", ("", *_YAML), files_only=True)
    if path is None:
        raise _unknown("playbook", name, playbook_names())
    return path


def target_names() -> list[str]:
    """The names that ``target`` knows without a path."""
    return _names(path for root in roots() for path in inventories(root))


def playbook_names() -> list[str]:
    """The names that ``playbook`` knows without a path."""
    return _names(path for root in roots() for path in playbooks(root))


def playbooks(root: Path) -> list[Path]:
    """The playbooks of ``root``, sorted; files that playbooks include lie in folders below."""
    return sorted(path for path in _entries(root / "playbooks") if path.suffix in _YAML)


def inventories(root: Path) -> list[Path]:
    """The inventories of ``root``, files and folders, sorted."""
    return sorted(
        path
        for path in _entries(root / "inventories", folders=True)
        if path.name not in ("group_vars", "host_vars")
    )


def shown(path: Path) -> str:
    """``path`` as people write it: below the working directory or the package, relative."""
    for root in roots():
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return str(path)


def portable(path: Path) -> str:
    """A file's name in a plan: from the collection, else the working directory, else absolute."""
    real = Path(os.path.realpath(path))
    root = Path(os.path.realpath(collection.root()))
    if real.is_relative_to(root):
        return f"{_PACKAGED}{real.relative_to(root)}"
    here = Path(os.path.realpath(Path.cwd()))
    return str(real.relative_to(here) if real.is_relative_to(here) else real)


def located(name: str) -> str:
    """The real path of a file that a plan names (``portable``)."""
    packaged = name.startswith(_PACKAGED)
    root = collection.root() if packaged else Path.cwd()
    return os.path.realpath(root / name.removeprefix(_PACKAGED))


def _entries(folder: Path, *, folders: bool = False) -> list[Path]:
    if not folder.is_dir():
        return []
    return [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and (path.is_file() or (folders and path.is_dir()))
    ]


def _find(
    name: str, below: str, endings: tuple[str, ...], *, files_only: bool = False
) -> Path | None:
    places = [] if os.sep in name else [root / below for root in roots()]
    for place in [*places, Path.cwd()]:
        for ending in endings:
            path = place / expanded(name + ending)
            if name and (is_file(path) or (is_folder(path) and not files_only)):
                return Path(os.path.normpath(path))
    return None


def _names(paths: Iterable[Path]) -> list[str]:
    return sorted({path.stem if path.is_file() else path.name for path in paths})


def _unknown(what: str, name: str, known: list[str]) -> InvalidInputError:
    guess = hint(name.removesuffix(".yml"), known)
    choices = f"known: {', '.join(known)}" if known else "none is known here"
    return InvalidInputError(f"{what} {name!r} does not exist{guess}; {choices}, or a path")
