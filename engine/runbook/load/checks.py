"""Playbooks, inventories and parameters cross-checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.load import documentation, parameters, schemas, targets
from runbook.load.diagnostics import Path as DocumentPath
from runbook.load.diagnostics import Problem, ordered, suggest
from runbook.load.extra_vars import ExtraVars
from runbook.load.inventory import Inventory
from runbook.load.positions import Document, Reader
from runbook.load.source import Selection, Source
from runbook.load.walk.node import Node
from runbook.load.walk.playbook import Walk
from runbook.load.walk.variables import MAGIC

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
    walked = walk_input(source, selection.limit)
    walk = walked.walk
    problems = [*walk.problems, *type_problems(walk), *_shown_secrets(extra)]
    if not selection.asks:
        problems += parameters.secret_problems(source, walked.needed, walked.hosts)
    if passwords is not None:
        problems += _closed_vaults(walked, source, passwords)
    if playbook:
        tags = {"--tags": selection.tags, "--skip-tags": selection.skip_tags}
        problems += _tag_problems(walk, playbook, tags)
        problems += _start_problems(walk, playbook, selection.start_at_task)
        problems += [] if selection.others else _unused_extra(walk, playbook, extra)
    if inventory:
        problems += inventory.all_problems()
        problems += [] if walk.open_uses else unknown_variables(inventory, walk.variables.used)
        problems += _host_problems(walk, inventory, selection.limit)
        if playbook and not walk.open_names:
            for missing in missing_parameters(inventory, walked):
                problems.append(missing.problem([playbook.name]))
    return walked, ordered(problems)


def walk_input(source: Source, limit: str = "", load: Reader | None = None) -> Walked:
    """Walk through a run's input; files that ``load`` has read are not read again."""
    inventory, extra = source.inventory, source.extra
    # Without a playbook no play says whether it has the role that gives the others.
    parameters = schemas.without_default() if source.playbook else set(schemas.parameters())
    given = parameters | (inventory.names() if inventory else set())
    walk = Walk(
        frozenset(given | set(extra.values)),
        open_names=bool(inventory and inventory.open) or extra.encrypted,
        read=load,
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


def type_problems(walk: Walk) -> Iterable[Problem]:
    """Values of parameters, wherever they are set, that are not of the parameter's type."""
    for name in schemas.parameters():
        for node in walk.variables.definitions.get(name, ()):
            for path, message in schemas.check_parameter(name, node.value):
                yield node.document.problem((*node.path, *path), message)


def _shown_secrets(extra: ExtraVars) -> Iterable[Problem]:
    """Secrets on the command line, which the shell and the process list keep; a warning each."""
    for name, value in extra.values.items():
        typed = extra.documents[name].file == "-e" and name in schemas.secret_names()
        if typed and value and "{{" not in str(value):
            message = (
                "a secret on the command line is in the shell's history and the process list; "
                "put it into a vault, or refer to it by a lookup (docs/operations.md)"
            )
            yield Problem("-e", 0, 0, name, message, warning=True)


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
            guess = suggest(start, [step.name for step in steps])
            lists = "" if guess else f"; runbook show {playbook.name} lists them"
            yield Problem(option, 0, 0, start, message + lists, guess)
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


def unknown_variables(inventory: Inventory, used: set[str]) -> Iterable[Problem]:
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
    """Whether Ansible or one of its plugins may take it: no near miss of a known one."""
    known = documentation.connection_variables()
    return name.startswith("ansible_") and (
        name in known or not get_close_matches(name, known, n=1, cutoff=0.9)
    )


def _used_by_all() -> set[str]:
    """The variables that the other playbooks use: an inventory serves them all."""
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
    """Encrypted files and variables that the run reads and no password opens."""
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
class Missing:
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


def missing_parameters(inventory: Inventory, walked: Walked) -> Iterable[Missing]:
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
            yield Missing(document, place, name, f"{lacking[0]}{several}")
