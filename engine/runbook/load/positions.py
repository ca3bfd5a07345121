"""YAML with positions: plain Python values, and the line and column of every one of them.

Whatever the bytes, the answer is a ``Document``, with problems in place of exceptions. The events
of libyaml are composed here and not by PyYAML, whose composer recurses (a deeply nested file kills
the interpreter), expands aliases without bound and keeps the last of two equal keys silently.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import yaml

from runbook.load.diagnostics import Path, Problem, path_text

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 60
MAX_NODES = 50_000

_TAG = "tag:yaml.org,2002:"
#: It is not repeated, nor is an alias: it may be an unquoted password.
_UNKNOWN_TAG = "a tag that is not known {}; quote text that begins with !"
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RESOLVERS: dict[str | None, list[tuple[str, re.Pattern[str]]]] = (
    yaml.CSafeLoader.yaml_implicit_resolvers
)
_CONSTRUCT = yaml.constructor.SafeConstructor()


class Vault:
    """A value that ansible-vault holds; its content is never looked at."""

    def __repr__(self) -> str:
        return "<vault>"


#: The only instance: every encrypted value, and every wholly encrypted file, is this.
VAULT = Vault()


class Unsafe(str):
    """Text tagged ``!unsafe``: Ansible never takes it for a template."""

    __slots__ = ()


class Mark(NamedTuple):
    """A place in a file, counted from 1."""

    line: int
    col: int


_START = Mark(1, 1)


@dataclass(frozen=True)
class Document:
    """The content of one file: its value, where each part stands, and what is wrong with it."""

    file: str
    value: Any = None
    marks: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    comment: str = ""
    problems: tuple[Problem, ...] = ()
    vaults: dict[Path, str] = field(default_factory=dict)  # the encrypted texts
    digest: str = ""  # SHA-256 of the file

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where the value at ``path`` begins, or its key; the nearest one around it otherwise.

        Line 0 when the document was not read from text.
        """
        for end in range(len(path), -1, -1):
            table = self.keys if key and end and path[:end] in self.keys else self.marks
            if path[:end] in table:
                return table[path[:end]]
        return Mark(0, 0)

    def problem(
        self, path: Path, message: str, suggestion: str = "", *, key: bool = False
    ) -> Problem:
        """A problem with the value (or the key) at ``path``."""
        mark = self.mark(path, key=key)
        return Problem(self.file, mark.line, mark.col, path_text(path), message, suggestion)


class _BrokenError(Exception):
    """Ends the reading of a document; what went before cannot be used."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark, self.message = mark, message


@dataclass
class _Node:
    mark: Mark
    value: Any  # a scalar, a list of nodes, or a list of (key node, value node)
    kind: str = "scalar"
    size: int = 1
    height: int = 1
    anchor: str | None = None
    encrypted: str = ""  # the text of a vault


def load(path: FilePath, shown: str | None = None) -> Document:
    """The document in the file ``path``; problems name it ``shown``."""
    file = shown if shown is not None else str(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            return _failed(
                file,
                _START,
                f"the file has {size / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.1f} MB are read",
            )
        data = path.read_bytes()
    except OSError as error:
        return _failed(file, _START, f"cannot be read: {error.strerror or error}")
    return replace(load_bytes(data, file), digest=hashlib.sha256(data).hexdigest())


def digest(path: FilePath) -> str:
    """SHA-256 of a file that is no document here; empty for one that cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


class Reader:
    """The documents of files, each file read once."""

    def __init__(self) -> None:
        self._documents: dict[FilePath, Document] = {}

    def __call__(self, path: FilePath, shown: str) -> Document:
        """The document in the file ``path``; problems name it ``shown``."""
        if path not in self._documents:
            self._documents[path] = load(path, shown)
        return self._documents[path]


def load_bytes(data: bytes, file: str) -> Document:
    """The document that the UTF-8 ``data`` hold; ``file`` is the name to show."""
    if len(data) > MAX_BYTES:
        return _failed(
            file,
            _START,
            f"{len(data) / 1e6:.1f} MB of text; at most {MAX_BYTES / 1e6:.1f} MB are read",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        byte = data[error.start]
        return _failed(file, _place(before), f"byte 0x{byte:02x} is not UTF-8 text")
    return load_text(text, file)


def load_text(text: str, file: str) -> Document:
    """The document that ``text`` holds; ``file`` is the name to show."""
    if text.startswith("$ANSIBLE_VAULT;"):
        return Document(file, VAULT, {(): _START}, vaults={(): text})
    bad = _UNPRINTABLE.search(text)
    if bad:
        return _failed(
            file, _place(text[: bad.start()]), f"control character U+{ord(bad[0]):04X} in the text"
        )
    problems: list[Problem] = []

    def report(path: Path, mark: Mark, message: str) -> None:
        problems.append(Problem(file, mark.line, mark.col, path_text(path), message))

    try:
        node = _Composer().compose(text)
        flat = _Flattener(report)
        value = flat.flatten(node, ()) if node else None
    except _BrokenError as error:
        return _failed(file, error.mark, error.message)
    marks = flat.marks or {(): _START}
    comment = _comment(text)
    return Document(file, value, marks, flat.keys, comment, tuple(problems), flat.vaults)


def _failed(file: str, mark: Mark, message: str) -> Document:
    return Document(file, problems=(Problem(file, mark.line, mark.col, "document", message),))


def _place(before: str) -> Mark:
    lines = before.split("\n")
    return Mark(len(lines), len(lines[-1]) + 1)


def _comment(text: str) -> str:
    """The comment lines at the top, without their signs; those for editors are none."""
    lines = []
    for line in text.splitlines():
        if line.startswith("# yaml-language-server:"):
            continue
        if line.startswith("#"):
            lines.append(line.lstrip("#").strip())
        elif line.strip() not in ("", "---") or lines:
            break
    return " ".join(lines).strip()


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        unended = error.context == "while scanning a quoted scalar"
        mark = error.context_mark if unended else error.problem_mark or error.context_mark
        place = Mark(mark.line + 1, mark.column + 1) if mark else _START
        raise _BrokenError(place, _explain(error, text, place)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise _BrokenError(_START, f"not YAML: {error}") from None


def _explain(error: yaml.MarkedYAMLError, text: str, place: Mark) -> str:
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    if line[place.col - 1 : place.col] == "\t":
        return "a tab where YAML wants spaces"
    said = " ".join(filter(None, (error.context, error.problem)))
    return f"not YAML: {said}"


class _Composer:
    """Events to nodes, without recursion and within the limits."""

    def __init__(self) -> None:
        self.root: _Node | None = None
        self.anchors: dict[str | None, _Node] = {}
        self.open: list[_Node] = []
        self.waiting: list[_Node | None] = []  # each open mapping's key that has no value yet
        self.total = 0

    def compose(self, text: str) -> _Node | None:
        """The one document of ``text``; none if it is empty."""
        documents = 0
        for event in _events(text):
            mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _BrokenError(mark, "a second document begins here; a file holds one")
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self.open.append(_collection(event, mark))
                self.waiting.append(None)
                self._check_depth(mark, len(self.open))
            elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
                self._complete(event, mark)
        return self.root

    def _complete(self, event: Any, mark: Mark) -> None:
        if isinstance(event, yaml.AliasEvent):
            node = self._alias(event.anchor, mark)
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node(mark, _scalar(event, mark), anchor=event.anchor)
            node.encrypted = event.value if node.value is VAULT else ""
        else:
            node = self.open.pop()
            self.waiting.pop()
        self._attach(node)
        if node.anchor:  # only now: an alias inside its own anchor would be endless
            self.anchors[node.anchor] = node
        self.total += node.size if isinstance(event, yaml.AliasEvent) else 1
        if self.total > MAX_NODES:
            raise _BrokenError(mark, f"more than {MAX_NODES:,} values, its aliases written out")
        self._check_depth(mark, node.height + len(self.open))

    def _alias(self, anchor: str | None, mark: Mark) -> _Node:
        node = self.anchors.get(anchor)
        if node is None:
            raise _BrokenError(
                mark, "an alias without an anchor before it; quote text that begins with *"
            )
        return _Node(mark, node.value, node.kind, node.size, node.height, encrypted=node.encrypted)

    def _attach(self, node: _Node) -> None:
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if parent.kind == "sequence":
            parent.value.append(node)
        elif self.waiting[-1] is None:
            self.waiting[-1] = node
        else:
            parent.value.append((self.waiting[-1], node))
            self.waiting[-1] = None

    def _check_depth(self, mark: Mark, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _BrokenError(mark, f"nested deeper than {MAX_DEPTH} levels")


def _collection(event: Any, mark: Mark) -> _Node:
    kind = "sequence" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
    expected = _TAG + ("seq" if kind == "sequence" else "map")
    if event.tag not in (None, "!", expected):
        raise _BrokenError(mark, _UNKNOWN_TAG.format(f"for a {kind}"))
    return _Node(mark, [], kind, anchor=event.anchor)


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "bool": _CONSTRUCT.construct_yaml_bool,
    "int": _CONSTRUCT.construct_yaml_int,
    "float": _CONSTRUCT.construct_yaml_float,
    "null": _CONSTRUCT.construct_yaml_null,
    "timestamp": _CONSTRUCT.construct_yaml_timestamp,
}


class _Merge:
    """The key ``<<``."""


_MERGE = _Merge()


def _scalar(event: Any, mark: Mark) -> Any:
    tag = event.tag
    if tag in (None, "!"):
        tag = _implicit(event.value) if event.implicit[0] and tag is None else _TAG + "str"
    text = event.value
    if tag in ("!vault", "!vault-encrypted"):
        return VAULT
    if tag == "!unsafe":
        return Unsafe(text)
    name = tag.removeprefix(_TAG)
    if name in ("str", "value"):
        return text
    if name == "merge":
        return _MERGE
    if name not in _SCALARS or not tag.startswith(_TAG):
        raise _BrokenError(mark, _UNKNOWN_TAG.format("here"))
    try:
        value = _SCALARS[name](yaml.ScalarNode(tag, text))
    except (ValueError, KeyError, IndexError, AttributeError, OverflowError):
        raise _BrokenError(
            mark, f"written as a {name}, which it is not; quote it if it is text"
        ) from None
    # A date reaches a module as its text, so it is validated as text.
    return text if name == "timestamp" else value


def _implicit(text: str) -> str:
    for tag, pattern in [*_RESOLVERS.get(text[:1], []), *_RESOLVERS.get(None, [])]:
        if pattern.match(text):
            return tag
    return _TAG + "str"


class _Flattener:
    """Nodes to plain values, filling the tables of places. Recursion is bounded by MAX_DEPTH."""

    def __init__(self, report: Callable[[Path, Mark, str], None]) -> None:
        self.report = report
        self.marks: dict[Path, Mark] = {}
        self.keys: dict[Path, Mark] = {}
        self.vaults: dict[Path, str] = {}

    def flatten(self, node: _Node, path: Path) -> Any:
        self.marks[path] = node.mark
        if node.encrypted:
            self.vaults[path] = node.encrypted
        if node.kind == "sequence":
            return [self.flatten(item, (*path, index)) for index, item in enumerate(node.value)]
        if node.kind == "mapping":
            return self._mapping(node, path)
        if isinstance(node.value, _Merge):
            return "<<"
        return node.value

    def _mapping(self, node: _Node, path: Path) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, tuple[Any, _Flattener]] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node.value, _Merge):
                self._merge(value_node, path, merged)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in own:
                first = self.keys[(*path, key)]
                self.report(
                    (*path, key),
                    key_node.mark,
                    f"the key is given twice; the first is on line {first.line}",
                )
                continue
            own[key] = self.flatten(value_node, (*path, key))
            self.keys[(*path, key)] = key_node.mark
        for key, (value, inner) in merged.items():
            if key not in own:
                own[key] = value
                self.marks.update(inner.marks)
                self.keys.update(inner.keys)
                self.vaults.update(inner.vaults)
        return own

    def _key(self, node: _Node, path: Path) -> str | int | None:
        value = node.value
        if node.kind != "scalar" or isinstance(value, Vault):
            hint = "; quote a value that begins with {{" if node.kind == "mapping" else ""
            self.report(path, node.mark, f"a key must be text{hint}")
            return None
        if value is None or isinstance(value, bool | float):
            text = "null" if value is None else str(value).lower()
            self.report(path, node.mark, f"the key is read as {text}, not as text; quote it")
            return None
        return value  # type: ignore[no-any-return]

    def _merge(self, node: _Node, path: Path, merged: dict[Any, tuple[Any, _Flattener]]) -> None:
        sources = node.value if node.kind == "sequence" else [node]
        for source in sources:
            if source.kind != "mapping":
                self.report(path, source.mark, "<< takes a mapping or a list of mappings")
                continue
            whole = _Flattener(self.report)
            value = whole.flatten(source, path)
            parts = whole.by_key(len(path))
            for key in value:
                merged.setdefault(key, (value[key], parts[key]))

    def by_key(self, depth: int) -> dict[Any, _Flattener]:
        """The tables of places, divided by the part of the paths at ``depth``."""
        parts: dict[Any, _Flattener] = {}
        for name in ("marks", "keys", "vaults"):
            for path, mark in getattr(self, name).items():
                if len(path) > depth:
                    part = parts.setdefault(path[depth], _Flattener(self.report))
                    getattr(part, name)[path] = mark
        return parts
