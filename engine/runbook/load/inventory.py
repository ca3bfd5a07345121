"""The hosts of a target and their variables, as far as they are written in YAML."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from runbook.load import positions, schemas, targets
from runbook.load.diagnostics import Path as DocumentPath
from runbook.load.diagnostics import Problem, suggest
from runbook.load.positions import Document, Reader
from runbook.load.targets import Target

_YAML = (".yml", ".yaml", ".json")
# ansible-core's INVENTORY_IGNORE_EXTS and INVENTORY_IGNORE_PATTERNS.
_IGNORED = (
    *(".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".ini", ".cfg"),
    ".retry",
)
_MAX_HOSTS = 20_000
#: Connection variables that are one text or number.
_CONNECTION = frozenset(
    f"ansible_{name}"
    for name in ("become_method", "become_user", "connection", "host", "port", "python_interpreter",
                 "shell_type", "ssh_common_args", "user")
)  # fmt: skip

#: The value of the variable ``sandbox_state`` in an inventory of the sandbox.
_SANDBOX_STATE = "{{ lookup('labeller.runbook.sandbox_state') }}"


@dataclass(frozen=True)
class Layer:
    """Variables from one place: the mapping at ``path`` of ``document``.

    ``rank`` is Ansible's precedence among inventory variables; later layers of a host win.
    """

    document: Document
    path: DocumentPath
    group: str  # or
    host: str
    rank: tuple[int, int, str]

    @property
    def values(self) -> dict[str, Any]:
        """The variables; empty when they are encrypted as a whole or not a mapping."""
        value = self.document.value
        for part in self.path:
            value = value[part]
        return value if isinstance(value, dict) else {}

    @property
    def encrypted(self) -> bool:
        """Whether the whole file is encrypted, so that not even the names are known."""
        return self.document.value is positions.VAULT


@dataclass
class Inventory:
    """The hosts, groups and variables of a target's files.

    ``static`` is false when a part of it is made by ansible (INI, scripts, plugins): hosts and
    variables that are not here may exist then. ``foreign``: SHA-256 of these files, by name.
    """

    target: Target
    documents: list[Document] = field(default_factory=list)
    groups: dict[str, set[str]] = field(default_factory=lambda: {"all": set(), "ungrouped": set()})
    children: dict[str, set[str]] = field(default_factory=dict)
    places: dict[str, tuple[Document, DocumentPath]] = field(default_factory=dict)
    group_layers: list[Layer] = field(default_factory=list)
    host_layers: dict[str, list[Layer]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    written: list[Document] = field(default_factory=list)
    foreign: dict[str, str] = field(default_factory=dict)
    static: bool = True

    def all_problems(self) -> list[Problem]:
        """The problems that reading found, and those that the schema finds.

        Apart from reading, since whether hosts are local must be known at once, and jsonschema
        takes long to import.
        """
        found = list(self.problems)
        for layer in self.layers:
            for name in _CONNECTION & layer.values.keys():
                value = layer.values[name]
                if isinstance(value, list | dict):
                    kind = "a list" if isinstance(value, list) else "a mapping"
                    message = f"expected text, found {kind}"
                    found.append(layer.document.problem((*layer.path, name), message))
        for document in self.written:
            against = schemas.validator("inventory")
            found += schemas.check(against, document, (), document.value, schemas.unknown_key)
        return found

    @property
    def hosts(self) -> set[str]:
        """Every host that is written down."""
        return self.groups["all"]

    @property
    def open(self) -> bool:
        """Whether variables may exist whose names are not known here."""
        return not self.static or any(layer.encrypted for layer in self.layers)

    @property
    def local(self) -> bool:
        """Whether every host is this machine (``ansible_connection: local``), as far as known."""
        found = [self._variable(host, "ansible_connection") for host in self.hosts]
        return self.static and bool(found) and all(value == "local" for value in found)

    @property
    def sandboxed(self) -> bool:
        """Whether every host asks the lookup ``sandbox_state`` what the sandbox is."""
        found = [self._variable(host, "sandbox_state") for host in self.hosts]
        return bool(found) and all(value == _SANDBOX_STATE for value in found)

    def _variable(self, host: str, name: str) -> Any:
        """The winning value of a host's variable; None when no layer has it."""
        return next((x.values[name] for x in self.of_host(host)[::-1] if name in x.values), None)

    def names(self) -> set[str]:
        """The name of every variable of any host or group."""
        return {str(name) for layer in self.layers for name in layer.values}

    def of_host(self, host: str) -> list[Layer]:
        """The layers that apply to ``host``, the winning one last."""
        groups = [layer for layer in self.group_layers if host in self.groups.get(layer.group, ())]
        return sorted([*groups, *self.host_layers.get(host, ())], key=lambda layer: layer.rank)

    @property
    def layers(self) -> list[Layer]:
        """All variables of groups, then of hosts."""
        return [*self.group_layers, *(layer for own in self.host_layers.values() for layer in own)]

    def add(self, layer: Layer) -> None:
        """Take up the variables of a group or host."""
        if layer.host:
            self.host_layers.setdefault(layer.host, []).append(layer)
        else:
            self.group_layers.append(layer)

    def match(self, pattern: str) -> set[str]:
        """The hosts that Ansible's host pattern names; one that only leaves out begins with all."""
        parts = [part.strip() for part in re.split(r"[,:](?![^\[]*\])", pattern) if part.strip()]
        excluding = parts and all(part[0] in "!&" for part in parts)
        chosen = {*self.hosts} if excluding else set()
        for part in sorted(parts, key=lambda part: {"&": 1, "!": 2}.get(part[0], 0)):
            hosts = self._match_one(part.lstrip("!&"))
            if part[0] == "!":
                chosen -= hosts
            elif part[0] == "&":
                chosen &= hosts
            else:
                chosen |= hosts
        return chosen

    def _match_one(self, part: str) -> set[str]:
        name = re.sub(r"\[[-\d:]*\]$", "", part)
        try:
            expression = part[1:] if part.startswith("~") else fnmatch.translate(name)
            fits = re.compile(expression).match
        except re.error:
            return set()
        found = {host for host in self.hosts if fits(host)}
        for group, hosts in self.groups.items():
            if fits(group):
                found |= hosts
        if part in ("localhost", "127.0.0.1"):
            found.add(part)
        return found

    def place(self, host: str) -> tuple[Document, DocumentPath]:
        """Where ``host`` is written."""
        return self.places.get(host, (Document(f"-i {self.target.name}"), ()))


def read(
    target: Target, playbook_folder: Path | None = None, load: Reader | None = None
) -> Inventory:
    """The inventory of ``target`` with the group_vars and host_vars beside it and the playbook."""
    load = load or Reader()
    inventory = Inventory(target)
    for host in target.hosts:
        inventory.hosts.add(host)
    path = target.path
    if path is not None:
        for file in _inventory_files(path):
            if file.suffix in _YAML:
                _read_hosts(inventory, load(file, targets.shown(file)))
            else:
                inventory.static = False
                inventory.foreign[targets.shown(file)] = positions.digest(file)
    _spread(inventory)
    folders = [(path if path.is_dir() else path.parent)] if path is not None else []
    if playbook_folder is not None and playbook_folder not in folders:
        folders.append(playbook_folder)
    for number, folder in enumerate(folders):
        _read_vars(inventory, folder, number, load)
    return inventory


def _inventory_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for entry in sorted(path.iterdir()):
        skipped = entry.name.startswith(".") or entry.name.endswith(_IGNORED)
        if entry.name in ("group_vars", "host_vars", "vars_plugins") or skipped:
            continue
        yield from _inventory_files(entry)


def _read_hosts(inventory: Inventory, document: Document) -> None:
    inventory.documents.append(document)
    inventory.problems += document.problems
    if document.problems and document.value is None:
        inventory.static = False
        return
    if not isinstance(document.value, dict) or "plugin" in document.value:
        inventory.static = False
        if not isinstance(document.value, dict) and document.value is not positions.VAULT:
            message = "an inventory is a mapping of groups, for instance all"
            inventory.problems.append(document.problem((), message))
        return
    inventory.written.append(document)
    for name, group in document.value.items():
        _read_group(inventory, document, (name,), str(name), group, 1)


def _read_group(
    inventory: Inventory,
    document: Document,
    path: DocumentPath,
    name: str,
    group: Any,
    depth: int,
) -> None:
    members = inventory.groups.setdefault(name, set())
    if not isinstance(group, dict):
        return
    if isinstance(group.get("vars"), dict):
        rank = (0, 0 if name == "all" else depth, name)
        inventory.add(Layer(document, (*path, "vars"), name, "", rank))
    hosts = group.get("hosts")
    for pattern, values in (hosts if isinstance(hosts, dict) else {}).items():
        for host in islice(expand(str(pattern)), _MAX_HOSTS - len(inventory.places)):
            members.add(host)
            place = (*path, "hosts", pattern)
            inventory.places.setdefault(host, (document, place))
            if isinstance(values, dict):
                inventory.add(Layer(document, place, "", host, (5, 0, host)))
    children = group.get("children")
    for child, content in (children if isinstance(children, dict) else {}).items():
        inventory.children.setdefault(name, set()).add(str(child))
        place = (*path, "children", child)
        _read_group(inventory, document, place, str(child), content, depth + 1)


def expand(pattern: str) -> Iterator[str]:
    """The hosts of a range such as ``web[01:10]`` or ``db-[a:c]``; else the name itself."""
    found = re.search(r"\[(?:(\d+):(\d+)|([A-Za-z]):([A-Za-z]))(?::(\d+))?\]", pattern)
    if not found:
        yield pattern
        return
    step = max(int(found[5] or 1), 1)
    if found[1]:
        width = len(found[1]) if found[1].startswith("0") else 0
        numbers = islice(range(int(found[1][:9]), int(found[2][:9]) + 1, step), _MAX_HOSTS)
        parts = [str(number).zfill(width) for number in numbers]
    else:
        parts = [chr(code) for code in range(ord(found[3]), ord(found[4]) + 1, step)]
    for part in parts:
        yield from expand(pattern[: found.start()] + part + pattern[found.end() :])


def _spread(inventory: Inventory) -> None:
    """A group has its children's hosts, and ``all`` has every host."""
    changed = True
    while changed:
        changed = False
        for parent, children in inventory.children.items():
            for child in children:
                missing = inventory.groups[child] - inventory.groups[parent]
                inventory.groups[parent] |= missing
                changed = changed or bool(missing)
    grouped = set().union(
        *(h for g, h in inventory.groups.items() if g not in ("all", "ungrouped"))
    )
    inventory.groups["all"] |= grouped
    inventory.groups["ungrouped"] |= inventory.groups["all"] - grouped


def _read_vars(inventory: Inventory, folder: Path, number: int, load: Reader) -> None:
    known = {"group_vars": set(inventory.groups), "host_vars": set(inventory.hosts)}
    for kind, names in known.items():
        if not (folder / kind).is_dir():
            continue
        for entry in sorted((folder / kind).iterdir()):
            name = entry.name if entry.is_dir() else _stem(entry)
            if entry.name.startswith(".") or entry.name.endswith(_IGNORED):
                continue
            files = list(_vars_files(entry))
            documents = [load(file, targets.shown(file)) for file in files]
            _add_vars(inventory, documents, kind, name, number)
            if name not in names and inventory.static and files and number == 0:
                what = kind.removesuffix("_vars")
                message = f"the inventory has no {what} {name!r}, so nothing reads this file"
                file = targets.shown(files[0])
                guess = suggest(name, names - {"ungrouped"})
                inventory.problems.append(
                    Problem(file, 1, 1, "document", message, guess, warning=True)
                )


def _stem(path: Path) -> str:
    return path.stem if path.suffix in _YAML else path.name


def _vars_files(entry: Path) -> Iterator[Path]:
    if entry.is_file():
        yield entry
        return
    for path in sorted(entry.iterdir()):
        if not path.name.startswith(".") and not path.name.endswith(_IGNORED):
            yield from _vars_files(path)


def _add_vars(
    inventory: Inventory, documents: list[Document], kind: str, name: str, number: int
) -> None:
    for document in documents:
        inventory.documents.append(document)
        inventory.problems += document.problems
        if document.value is not None and not isinstance(document.value, dict | positions.Vault):
            message = "a file of variables is a mapping of names"
            inventory.problems.append(document.problem((), message))
        if kind == "host_vars":
            rank, group, host = (6 + number, 0, name), "", name
        else:
            rank, group, host = ((1 if name == "all" else 3) + number, 0, name), name, ""
        inventory.add(Layer(document, (), group, host, rank))
