"""Playbooks, inventories and parameters held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from runbook import collection, positions, targets
from runbook.diagnostics import Path as DocumentPath
from runbook.diagnostics import Problem, ordered, suggest
from runbook.positions import Document
from runbook.targets import Target

from . import documentation, schemas
from .inventory import Inventory, read
from .playbook import MAGIC, Definition, Walk, known_tags

if TYPE_CHECKING:
    from runbook.parameters import ExtraVars
    from runbook.vault import Passwords


def check(
    playbook: Path | None,
    target: Target | None = None,
    extra: ExtraVars | None = None,
    tags: Sequence[str] = (),
    skip_tags: Sequence[str] = (),
    limit: str | None = None,
    passwords: Passwords | None = None,
) -> list[Problem]:
    """Everything that is wrong with a run of ``playbook`` on ``target``, before anything is done.

    Vaults are looked at only with ``passwords``. Warnings are among the problems
    (``Problem.warning``); they do not stop a run.
    """
    folder = playbook.parent if playbook else None
    inventory = read(target, folder) if target else None
    given = set(schemas.parameters()) | (inventory.names() if inventory else set())
    walk = Walk(
        frozenset(given | set(extra.values if extra else ())),
        open_names=bool(inventory and inventory.open) or bool(extra and extra.sealed),
    )
    if playbook:
        walk.playbook(playbook)
    own = set(walk.definitions)
    if extra:
        walk.problems += extra.problems
        own |= set(extra.values)
        for name, value in extra.values.items():
            walk.definitions.setdefault(name, []).append(
                Definition(extra.documents[name], (name,), value)
            )
            walk.expressions(extra.documents[name], (name,), value)
    if inventory:
        _add(walk, inventory)
    walk.finish()
    problems = [*walk.problems, *_types(walk)]
    if passwords is not None:
        hosts = _hosts(walk, inventory, limit) if inventory else set()
        problems += _closed_vaults(walk, inventory, hosts, extra, passwords)
    if playbook:
        problems += _tag_problems(walk, playbook, {"--tags": tags, "--skip-tags": skip_tags})
        problems += _unused_extra(walk, playbook, extra)
    if inventory:
        problems += inventory.all_problems()
        problems += [] if walk.open_uses else _unknown(inventory, walk.used)
        problems += _host_problems(walk, inventory, limit)
        if playbook and not walk.open_names:
            hosts = _hosts(walk, inventory, limit)
            problems += _missing(inventory, hosts, walk.used - own, playbook.name)
    return ordered(problems)


def check_paths(paths: Sequence[Path]) -> list[Problem]:
    """Everything that is wrong in the playbooks and inventories at ``paths``, each for itself.

    Without paths: those of the working directory, or the packaged ones if it has neither.
    Undefined variables are held against all inventories together, unknown parameters against all
    playbooks.
    """
    playbooks: list[Path] = []
    folders: list[Path] = []
    tasks: list[Path] = []
    problems: list[Problem] = []
    for path in paths or [_default_root()]:
        _sort(path, playbooks, folders, tasks, problems)
    inventories = [read(Target(path.stem, str(path), path)) for path in folders]
    names = set(schemas.parameters()).union(*(inventory.names() for inventory in inventories))
    opened = any(inventory.open for inventory in inventories)
    used: set[str] = set()
    unsure = False
    for playbook in playbooks:
        walk = Walk(frozenset(names), open_names=opened)
        walk.playbook(playbook)
        walk.finish()
        used |= walk.used
        unsure = unsure or walk.open_uses
        problems += [*walk.problems, *_types(walk)]
    for file in tasks:
        walk = Walk(frozenset(names), open_names=True)
        walk.tasks_file(file)
        problems += walk.problems
    for inventory in inventories:
        problems += inventory.all_problems()
        walk = Walk(frozenset(names), open_names=opened)
        _add(walk, inventory)
        walk.finish()
        problems += [*walk.problems, *_types(walk)]
        problems += [] if unsure else _unknown(inventory, used | walk.used)
        problems += [] if opened else _missing(inventory, inventory.hosts, used, "the playbooks")
    return ordered(problems)


def _default_root() -> Path:
    here = Path.cwd()
    own = (here / "playbooks").is_dir() or (here / "inventories").is_dir()
    return here if own else collection.root()


def _sort(
    path: Path,
    playbooks: list[Path],
    folders: list[Path],
    tasks: list[Path],
    problems: list[Problem],
) -> None:
    """Say what ``path`` is: a repository, an inventory, a playbook, a file of tasks."""
    path = path.absolute()
    if path.is_dir():
        if (path / "playbooks").is_dir() or (path / "inventories").is_dir():
            playbooks += targets.playbooks(path)
            folders += targets.inventories(path)
        elif path.name == "inventories":
            folders += targets.inventories(path.parent)
        elif path.name == "playbooks":
            playbooks += targets.playbooks(path.parent)
        else:
            folders.append(path)
        return
    document = positions.load(path, targets.shown(path))
    if document.problems and document.value is None:
        problems += document.problems
    elif not isinstance(document.value, list):
        folders.append(path)
    elif any(isinstance(p, dict) and ("hosts" in p or _imports(p)) for p in document.value):
        playbooks.append(path)
    else:
        tasks.append(path)


def _imports(entry: dict[object, object]) -> bool:
    return any(str(key).endswith("import_playbook") for key in entry)


def _add(walk: Walk, inventory: Inventory) -> None:
    """The inventory's variables become known, and its expressions are looked at."""
    for layer in inventory.layers:
        walk.define(layer.document, layer.path, layer.values)
    for layer in inventory.layers:
        walk.expressions(layer.document, layer.path, layer.values)


def _types(walk: Walk) -> Iterable[Problem]:
    """Values of parameters, wherever they are set, that are not of the parameter's type."""
    for name in schemas.parameters():
        for place in walk.definitions.get(name, ()):
            for message in schemas.check_parameter(name, place.value):
                yield place.document.problem(place.path, message)


def _tag_problems(walk: Walk, playbook: Path, given: dict[str, Sequence[str]]) -> Iterable[Problem]:
    for option, entries in given.items():
        for tag in (tag.strip() for entry in entries for tag in entry.split(",")):
            if tag not in known_tags(walk) and not walk.open_uses:
                message = f"no task of {playbook.name} has the tag {tag!r}"
                yield Problem(option, 0, 0, tag, message, suggest(tag, walk.tags))


def _unused_extra(walk: Walk, playbook: Path, extra: ExtraVars | None) -> Iterable[Problem]:
    if not extra or walk.open_uses:
        return
    for name in extra.values:
        if name in walk.used or name in MAGIC or _is_ansibles(name):
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
            yield _unknown_parameter(document, (name,), walk.used)


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
        walk.finish()
        used |= walk.used
    return used


def _hosts(walk: Walk, inventory: Inventory, limit: str | None) -> set[str]:
    """The hosts that the plays change."""
    patterns = [pattern if "{{" not in pattern else "all" for _, _, pattern in walk.hosts]
    hosts = set().union(*(inventory.match(pattern) for pattern in patterns))
    return hosts & inventory.match(limit) if limit else hosts


def _host_problems(walk: Walk, inventory: Inventory, limit: str | None) -> Iterable[Problem]:
    if not inventory.static:
        return
    known = {*inventory.hosts, *inventory.groups}
    for document, path, pattern in walk.hosts:
        if "{{" not in pattern and not inventory.match(pattern):
            message = f"{pattern!r} matches no host of {inventory.target.name}"
            yield document.problem(path, message, suggest(pattern, known))
    if limit and not limit.startswith("@") and not inventory.match(limit):
        message = f"matches no host of {inventory.target.name}"
        yield Problem("--limit", 0, 0, limit, message, suggest(limit, known))


def _closed_vaults(
    walk: Walk,
    inventory: Inventory | None,
    hosts: Iterable[str],
    extra: ExtraVars | None,
    passwords: Passwords,
) -> Iterable[Problem]:
    """What the run reads and no password opens: whole files, and variables that it uses."""
    read = [*walk.documents.values(), *(extra.read if extra else ())]
    places: list[tuple[Document, DocumentPath, bool]] = [(each, (), False) for each in read]
    if inventory:
        used = {id(layer) for host in hosts for layer in inventory.of_host(host)}
        layers = [layer for layer in inventory.layers if id(layer) in used]
        if not inventory.static:  # of its hosts none may be known
            layers += [layer for layer in inventory.layers if layer.group == "all"]
        places += [(layer.document, layer.path, True) for layer in layers]
    for document, start, only_used in places:
        for path, text in document.vaults.items():
            inside = path[: len(start)] == start
            name = path[len(start)] if len(path) > len(start) else None
            if inside and (name is None or not only_used or name in walk.used):
                problem = passwords.problem(text)
                if problem:
                    yield document.problem(path, problem)


def _missing(
    inventory: Inventory, hosts: Iterable[str], used: set[str], user: str
) -> Iterable[Problem]:
    """Parameters without a default that a host of the target does not have."""
    hosts = sorted(hosts)
    for name, schema in schemas.parameters().items():
        if not schema.get("x-required") or name not in used:
            continue
        lacking = [
            host
            for host in hosts
            if not any(name in layer.values for layer in inventory.of_host(host))
        ]
        if lacking:
            document, path = inventory.place(lacking[0])
            several = f" (and {len(lacking) - 1} more hosts)" if len(lacking) > 1 else ""
            yield document.problem(
                (*path, name) if path else (lacking[0], name),
                f"{user} needs the parameter {name}, and {lacking[0]}{several} has none:"
                f" {schema['description']}",
            )
