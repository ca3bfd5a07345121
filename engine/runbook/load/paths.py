"""Validation of paths: the playbooks and inventories of a repository, each with each that fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from runbook import collection
from runbook.errors import InvalidInputError
from runbook.home import is_file, is_folder
from runbook.load import inventory as inventories
from runbook.load import schemas, targets
from runbook.load.checks import (
    Missing,
    Walked,
    missing_parameters,
    type_problems,
    unknown_variables,
    walk_input,
)
from runbook.load.diagnostics import Problem, ordered
from runbook.load.extra_vars import ExtraVars
from runbook.load.inventory import Inventory
from runbook.load.parameters import secret_problems
from runbook.load.positions import Reader
from runbook.load.source import Source
from runbook.load.targets import Target
from runbook.load.walk.playbook import Walk


def check_paths(paths: Sequence[Path], extra: ExtraVars | None = None) -> list[Problem]:
    """Everything that is wrong in the playbooks and inventories at ``paths``.

    Without paths: those of the working directory, or the packaged ones if it has neither. Each
    target is checked with each playbook that changes a host of it: those at ``paths``, or, when no
    playbook is named, all that ``apply`` knows by name.
    """
    read = _Read()
    found = _Found(read.document)
    for path in paths or [_default_root()]:
        found.sort(path)
    playbooks = found.playbooks
    if found.inventories and not found.named:
        known = {
            path.name: path for root in targets.roots()[::-1] for path in targets.playbooks(root)
        }
        known |= {path.name: path for path in playbooks}
        playbooks = list(known.values())
    problems = found.problems
    uses = _Uses()
    for playbook in playbooks:
        problems += _on_each(playbook, found.inventories, extra or ExtraVars(), uses, read)
    for file in found.tasks:
        walk = Walk(frozenset(schemas.parameters()), open_names=True, read=read.document)
        walk.tasks_file(file)
        problems += walk.problems
    for inventory in map(read.inventory, found.inventories):
        walk = walk_input(Source(None, inventory, ExtraVars()), load=read.document).walk
        problems += (
            [*walk.problems, *type_problems(walk)] if inventory.target not in uses.targets else []
        )
        problems += inventory.all_problems()
        problems += (
            [] if uses.open else unknown_variables(inventory, uses.names | walk.variables.used)
        )
    return ordered([*problems, *uses.missing()])


class _Read:
    """Reads each file and each inventory once for one validation."""

    def __init__(self) -> None:
        self.document = Reader()
        self._inventories: dict[tuple[Target, Path | None], Inventory] = {}

    def inventory(self, target: Target, playbook_folder: Path | None = None) -> Inventory:
        """The inventory of ``target``, with the variables in the playbook's folder."""
        key = target, playbook_folder
        if key not in self._inventories:
            self._inventories[key] = inventories.read(target, playbook_folder, self.document)
        return self._inventories[key]


@dataclass
class _Uses:
    """The variables and parameters that playbooks use of targets."""

    names: set[str] = field(default_factory=set)
    open: bool = False
    targets: set[Target] = field(default_factory=set)
    lacking: dict[Problem, tuple[Missing, list[str]]] = field(default_factory=dict)

    def note(self, playbook: Path, inventory: Inventory, walked: Walked) -> None:
        """Take in what a playbook uses of a target."""
        walk = walked.walk
        self.targets.add(inventory.target)
        self.names |= walk.variables.used
        self.open = self.open or walk.open_uses
        if not walk.open_names:
            for missing in missing_parameters(inventory, walked):
                entry = self.lacking.setdefault(missing.problem([""]), (missing, []))
                entry[1].append(playbook.name)

    def missing(self) -> Iterable[Problem]:
        """Parameters that targets lack, each once, with the playbooks that need it."""
        return (missing.problem(names) for missing, names in self.lacking.values())


def _on_each(
    playbook: Path, where: Sequence[Target], extra: ExtraVars, uses: _Uses, read: _Read
) -> Iterable[Problem]:
    """The problems of a playbook; those that it has on some targets only, name them."""
    found = [read.inventory(target, playbook.parent) for target in where]
    walks = [
        (each, walk_input(Source(playbook, each, extra), load=read.document)) for each in found
    ]
    fitting = [(each, walked) for each, walked in walks if not each.static or walked.hosts]
    if not fitting:
        return _by_itself(playbook, found, uses, read)
    places: dict[Problem, list[str]] = {}
    for inventory, walked in fitting:
        uses.note(playbook, inventory, walked)
        source = Source(playbook, inventory, extra)
        secrets = secret_problems(source, walked.needed, walked.hosts)
        for problem in {*walked.walk.problems, *type_problems(walked.walk), *secrets}:
            places.setdefault(problem, []).append(inventory.target.name)
    files = {document.file for inventory, _ in fitting for document in inventory.documents}
    return [
        problem
        if problem.file in files or len(names) == len(fitting)
        else replace(problem, message=f"{problem.message} (on {', '.join(names)})")
        for problem, names in places.items()
    ]


def _by_itself(
    playbook: Path, found: Sequence[Inventory], uses: _Uses, read: _Read
) -> Iterable[Problem]:
    """The problems of a playbook for hosts of none of the targets."""
    names = set(schemas.without_default()).union(*(each.names() for each in found))
    open_names = any(each.open for each in found)
    walk = Walk(frozenset(names), open_names=open_names, read=read.document)
    walk.playbook(playbook)
    walk.variables.finish()
    uses.names |= walk.variables.used
    uses.open = uses.open or walk.open_uses
    return [*walk.problems, *type_problems(walk)]


def _default_root() -> Path:
    here = Path.cwd()
    own = (here / "playbooks").is_dir() or (here / "inventories").is_dir()
    return here if own else collection.root()


@dataclass
class _Found:
    """Playbooks, inventories, files of tasks at paths; ``named``: a playbook was named itself."""

    load: Reader
    playbooks: list[Path] = field(default_factory=list)
    inventories: list[Target] = field(default_factory=list)
    tasks: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    named: bool = False

    def sort(self, path: Path) -> None:
        """Say what ``path`` is: a repository, an inventory, a playbook, a file of tasks, a name."""
        path = path if is_file(path) or is_folder(path) else _by_name(path)
        path = path.absolute()
        if path.is_dir():
            repository = path.parent if path.name in ("playbooks", "inventories") else path
            if path.name != "inventories" and (repository / "playbooks").is_dir():
                self.playbooks += targets.playbooks(repository)
                self.named = self.named or path.name == "playbooks"
            if path.name == "playbooks":
                return
            if (repository / "inventories").is_dir():
                self.inventories += map(_target, targets.inventories(repository))
            elif not (repository / "playbooks").is_dir():
                self.inventories.append(_target(path))
            return
        document = self.load(path, targets.shown(path))
        if document.problems and document.value is None:
            self.problems += document.problems
        elif not isinstance(document.value, list):
            self.inventories.append(_target(path))
        elif any(isinstance(p, dict) and ("hosts" in p or _imports(p)) for p in document.value):
            self.playbooks.append(path)
            self.named = True
        else:
            self.tasks.append(path)


def _target(path: Path) -> Target:
    return Target(path.stem if path.is_file() else path.name, str(path), path)


def _by_name(path: Path) -> Path:
    """The playbook or target that ``apply`` knows by this name; else the path as it is."""
    for find in (targets.playbook, lambda name: targets.target(name).path):
        with suppress(InvalidInputError):
            return find(str(path)) or path
    return path


def _imports(entry: dict[object, object]) -> bool:
    return any(str(key).endswith("import_playbook") for key in entry)
