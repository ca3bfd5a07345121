"""The run modes, for ``list``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runbook.load import positions, targets


@dataclass(frozen=True)
class RunMode:
    """A playbook that can be applied: its name, its plays' names, its leading comment."""

    name: str
    path: Path
    title: str
    summary: str


def run_modes() -> list[RunMode]:
    """The playbooks that names reach, the working directory's before the packaged ones."""
    found: dict[str, RunMode] = {}
    for root in targets.roots():
        for path in targets.playbooks(root):
            found.setdefault(path.name, _run_mode(path))
    return [found[name] for name in sorted(found)]


def _run_mode(path: Path) -> RunMode:
    document = positions.load(path, targets.shown(path))
    plays = document.value if isinstance(document.value, list) else []
    names = [str(play["name"]) for play in plays if isinstance(play, dict) and "name" in play]
    return RunMode(path.name, path, ", ".join(names) or path.stem, document.comment)
