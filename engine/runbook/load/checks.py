"""Playbooks, inventories and parameters cross-checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from runbook import collection
from runbook.errors import InvalidInputError
from runbook.home import is_file, is_folder
from runbook.load import positions, targets
from runbook.load.diagnostics import Path as DocumentPath
from runbook.load.diagnostics import Problem, ordered, suggest
from runbook.load.positions import Document
from runbook.load.targets import Target

from . import documentation, schemas
from .extra_vars import ExtraVars
from .inventory import Inventory, read
from .source import Selection, Source
from .walk.node import Node
from .walk.playbook import Walk
from .walk.variables import MAGIC

if TYPE_CHECKING:
    from runbook.load.vault import Passwords


@dataclass(frozen=True)
class Walked:
    """A walk through all of a run's input.

    ``own`` are the names that the playbook and ``-e`` define, ``needed`` the parameters that the
    playbook uses or sets, ``hosts`` those that its plays change.
    """

    walk: Walk
    own: frozenset[str]
    needed: frozenset[str]
    hosts: frozenset[str]


def check(
    source: Source, selection: Selection, passwords: Passwords | None = None
) -> tuple[Walked, list[Problem]]:
    """Everything that is wrong with a run, before anything is done.

    Vaults are looked at only with ``passwords``. Warnings are among the problems
    (``Problem.warning``); they do not stop a run.
    """
    playbook, inventory, extra = source.playbook, source.inventory, source.extra
    walked = _walked(source, selection.limit)
    walk = walked.walk
    problems = [*walk.problems, *_types(walk)]
    if passwords is not None:
        problems += _closed_vaults(walked, source, passwords)
    if playbook:
        tags = {"--tags": selection.tags, "--skip-tags": selection.skip_tags}
        problems += _tag_problems(walk, playbook, tags)
        problems += _start_problems(walk, playbook, selection.start_at_task)
        problems += _unused_extra(walk, playbook, extra)
    if inventory:
        problems += inventory.all_problems()
        problems += [] if walk.open_uses else _unknown(inventory, walk.variables.used)
        problems += _host_problems(walk, inventory, selection.limit)
        if playbook and not walk.open_names:
            for missing in _missing(inventory, walked):
                problems.append(missing.problem([playbook.name]))
    return walked, ordered(problems)


def _walked(source: Source, limit: str = "") -> Walked:
    inventory, extra = source.inventory, source.extra
    # Without a playbook no play says whether it has the role that gives the others.
    parameters = schemas.without_default() if source.playbook else set(schemas.parameters())
    given = parameters | (inventory.names() if inventory else set())
    walk = Walk(
        frozenset(given | set(extra.values)),
        open_names=bool(inventory and inventory.open) or extra.sealed,
    )
    variables = walk.variables
    if source.playbook:
        walk.playbook(source.playbook)
    written = frozenset(variables.definitions)
    walk.problems += extra.problems
    values = [Node(extra.documents[name], (name,), value) for name, value in extra.values.items()]
    for name, node in zip(extra.values, values, strict=True):
        variables.definitions.setdefault(name, []).append(node)
    for layer in inventory.layers if inventory else []:
        values.append(Node(layer.document, layer.path, layer.values))
        variables.define(values[-1])
    variables.finish()
    needed = frozenset(variables.used | (written & extra.values.keys()))
    # What the playbook does not use can be wrong as well; others have the role.
    variables.given |= schemas.from_role()
    for node in values:
        variables.check_anywhere(node)
    variables.finish()
    hosts = frozenset(_hosts(walk, inventory, limit) if inventory else ())
    return Walked(walk, written | extra.values.keys(), needed, hosts)


def check_paths(paths: Sequence[Path], extra: ExtraVars | None = None) -> list[Problem]:
    """Everything that is wrong in the playbooks and inventories at ``paths``.

    Without paths: those of the working directory, or the packaged ones if it has neither. Each
    target is checked with each playbook that changes a host of it: those at ``paths``, or, when no
    playbook is named, all that ``apply`` knows by name.
    """
    found = _Found()
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
        problems += _on_each(playbook, found.inventories, extra or ExtraVars(), uses)
    for file in found.tasks:
        walk = Walk(frozenset(schemas.parameters()), open_names=True)
        walk.tasks_file(file)
        problems += walk.problems
    for inventory in map(read, found.inventories):
        walk = _walked(Source(None, inventory, ExtraVars())).walk
        problems += [*walk.problems, *_types(walk)] if inventory.target not in uses.targets else []
        problems += inventory.all_problems()
        problems += [] if uses.open else _unknown(inventory, uses.names | walk.variables.used)
    return ordered([*problems, *uses.missing()])


@dataclass
class _Uses:
    """What playbooks use of targets."""

    names: set[str] = field(default_factory=set)
    open: bool = False
    targets: set[Target] = field(default_factory=set)
    lacking: dict[Problem, tuple[_Missing, list[str]]] = field(default_factory=dict)

    def missing(self) -> Iterable[Problem]:
        """Parameters that targets lack, each once, with the playbooks that need it."""
        return (missing.problem(names) for missing, names in self.lacking.values())


def _on_each(
    playbook: Path, where: Sequence[Target], extra: ExtraVars, uses: _Uses
) -> Iterable[Problem]:
    """What is wrong with a playbook; what is so on some targets only, names them."""
    inventories = [read(target, playbook.parent) for target in where]
    walks = {
        inventory.target: (inventory, _walked(Source(playbook, inventory, extra)))
        for inventory in inventories
    }
    fitting = {
        target: (inventory, walked)
        for target, (inventory, walked) in walks.items()
        if not inventory.static or walked.hosts
    }
    if not fitting:  # for hosts of none of them: looked at by itself
        names = set(schemas.without_default()).union(
            *(inventory.names() for inventory in inventories)
        )
        walk = Walk(frozenset(names), open_names=any(inventory.open for inventory in inventories))
        walk.playbook(playbook)
        walk.variables.finish()
        uses.names |= walk.variables.used
        uses.open = uses.open or walk.open_uses
        return [*walk.problems, *_types(walk)]
    places: dict[Problem, list[str]] = {}
    files: set[str] = set()
    for target, (inventory, walked) in fitting.items():
        walk = walked.walk
        uses.targets.add(target)
        uses.names |= walk.variables.used
        uses.open = uses.open or walk.open_uses
        files |= {document.file for document in inventory.documents}
        for problem in {*walk.problems, *_types(walk)}:
            places.setdefault(problem, []).append(target.name)
        if not walk.open_names:
            for missing in _missing(inventory, walked):
                entry = uses.lacking.setdefault(missing.problem([""]), (missing, []))
                entry[1].append(playbook.name)
    return [
        problem
        if problem.file in files or len(names) == len(fitting)
        else replace(problem, message=f"{problem.message} (on {', '.join(names)})")
        for problem, names in places.items()
    ]


def _default_root() -> Path:
    here = Path.cwd()
    own = (here / "playbooks").is_dir() or (here / "inventories").is_dir()
    return here if own else collection.root()


@dataclass
class _Found:
    """What lies at paths; ``named``: a playbook was named itself."""

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
        document = positions.load(path, targets.shown(path))
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


def _types(walk: Walk) -> Iterable[Problem]:
    """Values of parameters, wherever they are set, that are not of the parameter's type."""
    for name in schemas.parameters():
        for node in walk.variables.definitions.get(name, ()):
            for path, message in schemas.check_parameter(name, node.value):
                yield node.document.problem((*node.path, *path), message)


def _tag_problems(
    walk: Walk, playbook: Path, given: Mapping[str, Sequence[str]]
) -> Iterable[Problem]:
    for option, entries in given.items():
        for tag in (tag.strip() for entry in entries for tag in entry.split(",")):
            if tag not in walk.known_tags and not walk.open_uses:
                message = f"no task of {playbook.name} has the tag {tag!r}"
                yield Problem(option, 0, 0, tag, message, suggest(tag, walk.tags))
            elif option == "--skip-tags" and tag == "always":
                message = "the tasks with this tag check what must be so before anything is changed"
                yield Problem(option, 0, 0, tag, message)


def _start_problems(walk: Walk, playbook: Path, start: str) -> Iterable[Problem]:
    """A step to begin with that does not exist, or before which others must have run."""
    if not start:
        return
    option, steps = "--start-at-task", [step for step in walk.steps if not step.handler]
    # As Ansible compares: by the name itself, or as a pattern.
    places = [n for n, s in enumerate(steps) if s.name == start or fnmatch(s.name, start)]
    if not places:
        if not walk.open_uses:
            message = f"no task of {playbook.name} has this name"
            yield Problem(option, 0, 0, start, message, suggest(start, [s.name for s in steps]))
        return
    gates = [n for n, step in enumerate(steps) if "always" in step.tags]
    before = [steps[n].name for n in gates if n < places[0]]
    if before:
        safe = ", ".join(step.name for step in steps[: gates[0] + 1])
        message = (
            f"it would leave out what must run before it: {', '.join(before)}. Safe to start at: "
            f"{safe}. A run mode does what is still missing: apply it as a whole"
        )
        yield Problem(option, 0, 0, start, message)


def _unused_extra(walk: Walk, playbook: Path, extra: ExtraVars) -> Iterable[Problem]:
    if walk.open_uses:
        return
    for name in extra.values:
        if name in walk.variables.used or name in MAGIC or _is_ansibles(name):
            continue
        document = extra.documents[name]
        if name in schemas.parameters():
            if document.file.startswith("-e @"):
                continue  # a file of parameters serves several playbooks
            message = (
                f"nothing in {playbook.name} uses this parameter, so it would have no effect; "
                "inventories and files (-e @FILE) may hold parameters of other playbooks"
            )
            yield document.problem((name,), message, key=True)
        else:
            yield _unknown_parameter(document, (name,), walk.variables.used)


def _unknown_parameter(
    document: Document, path: tuple[str | int, ...], used: Iterable[str]
) -> Problem:
    name = str(path[-1])
    known = {*schemas.parameters(), *used}
    if name.startswith("ansible_"):
        known = {*documentation.connection_variables()}
    guess = suggest(name, known)
    return document.problem(path, f"unknown parameter {name!r}", guess, key=True)


def _unknown(inventory: Inventory, used: set[str]) -> Iterable[Problem]:
    """Variables of the inventory that are no parameters and that nothing uses."""
    candidates = [
        (layer, name)
        for layer in inventory.layers
        for name in map(str, layer.values)
        if name not in schemas.parameters() and name not in used and not _is_ansibles(name)
    ]
    if not candidates:
        return
    everywhere = used | _used_by_all()
    for layer, name in candidates:
        if name not in everywhere:
            yield _unknown_parameter(layer.document, (*layer.path, name), used)


def _is_ansibles(name: str) -> bool:
    """Whether Ansible or one of its plugins may take the variable: no near miss of a known one."""
    known = documentation.connection_variables()
    return name.startswith("ansible_") and (
        name in known or not get_close_matches(name, known, n=1, cutoff=0.9)
    )


def _used_by_all() -> set[str]:
    """What the other playbooks use: an inventory serves them all."""
    used: set[str] = set()
    for path in [path for root in targets.roots() for path in targets.playbooks(root)]:
        walk = Walk(frozenset(), open_names=True)
        walk.playbook(path)
        walk.variables.finish()
        used |= walk.variables.used
    return used


def _hosts(walk: Walk, inventory: Inventory, limit: str) -> set[str]:
    """The hosts that the plays change."""
    patterns = ["all" if "{{" in hosts.value else hosts.value for hosts in walk.hosts]
    hosts = set().union(*(inventory.match(pattern) for pattern in patterns))
    return hosts & inventory.match(limit) if limit else hosts


def _host_problems(walk: Walk, inventory: Inventory, limit: str) -> Iterable[Problem]:
    if not inventory.static:
        return
    known = {*inventory.hosts, *inventory.groups}
    for hosts in walk.hosts:
        if "{{" not in hosts.value and not inventory.match(hosts.value):
            message = f"{hosts.value!r} matches no host of {inventory.target.name}"
            yield hosts.problem(message, suggest(hosts.value, known))
    if limit and not limit.startswith("@") and not inventory.match(limit):
        message = f"matches no host of {inventory.target.name}"
        yield Problem("--limit", 0, 0, limit, message, suggest(limit, known))


def _closed_vaults(walked: Walked, source: Source, passwords: Passwords) -> Iterable[Problem]:
    """What the run reads and no password opens: whole files, and variables that it uses."""
    walk, inventory = walked.walk, source.inventory
    read = [*walk.files.documents.values(), *source.extra.read]
    places: list[tuple[Document, DocumentPath, bool]] = [(each, (), False) for each in read]
    if inventory:
        used = {id(layer) for host in walked.hosts for layer in inventory.of_host(host)}
        layers = [layer for layer in inventory.layers if id(layer) in used]
        if not inventory.static:  # of its hosts none may be known
            layers += [layer for layer in inventory.layers if layer.group == "all"]
        places += [(layer.document, layer.path, True) for layer in layers]
    for document, start, only_used in places:
        for path, text in document.vaults.items():
            inside = path[: len(start)] == start
            name = path[len(start)] if len(path) > len(start) else None
            if inside and (name is None or not only_used or name in walk.variables.used):
                problem = passwords.problem(text)
                if problem:
                    yield document.problem(path, problem)


@dataclass(frozen=True)
class _Missing:
    """A required parameter that hosts of a target lack."""

    document: Document
    path: DocumentPath
    name: str
    hosts: str

    def problem(self, users: Sequence[str]) -> Problem:
        """It as a problem of the playbooks ``users``."""
        shown = ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")
        need = "needs" if len(users) == 1 else "need"
        meaning = schemas.parameters()[self.name]["description"]
        return self.document.problem(
            self.path,
            f"{shown} {need} the parameter {self.name}, and {self.hosts} has none: {meaning}",
        )


def _missing(inventory: Inventory, walked: Walked) -> Iterable[_Missing]:
    """Parameters without a default that a host of the target does not have."""
    hosts = sorted(walked.hosts)
    for name, schema in schemas.parameters().items():
        if not schema.get("x-required") or name not in walked.walk.variables.used - walked.own:
            continue
        lacking = [
            host
            for host in hosts
            if not any(name in layer.values for layer in inventory.of_host(host))
        ]
        if lacking:
            document, path = inventory.place(lacking[0])
            several = f" (and {len(lacking) - 1} more hosts)" if len(lacking) > 1 else ""
            place = (*path, name) if path else (lacking[0], name)
            yield _Missing(document, place, name, f"{lacking[0]}{several}")
