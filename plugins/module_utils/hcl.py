# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Terraform's files, as far as they are literal: blocks, attributes, texts, numbers, lists of them.

Read is what Terraform 0.11 (HCL 1) and 0.12 (HCL 2) read alike. Everything else is either kept as
an expression without a value, or is Unreadable with its line; nothing is left out. A library would
have to be on the target, which has none beside those of the modules; python-hcl2, besides, reads
HCL 2 only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from .errors import InvalidInput

_TOKEN = re.compile(
    r"(?P<space>[ \t\r]+|(?:\#|//)[^\n]*|/\*.*?\*/)"
    r"|(?P<newline>\n)"
    r"|(?P<heredoc><<-?(?P<end>\w+)[ \t\r]*\n.*?^[ \t]*(?P=end)[ \t\r]*(?=\n|\Z))"
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][\w-]*(?:\.[\w*-]+)*)"
    r"|(?P<sign>==|!=|<=|>=|=>|&&|\|\||[][{}()=,:?!>+*%.-]|/(?!\*)|<(?!<))",
    re.DOTALL | re.MULTILINE,
)
_CLOSING = {"[": "]", "{": "}", "(": ")"}
#: Blocks within blocks; Terraform's have three.
_DEEPEST = 20


class Unreadable(InvalidInput):
    """A file that is not understood, and must not be taken as if it were."""


class Token(NamedTuple):
    """A piece of a file; a ``text`` still has its quotes."""

    kind: str
    text: str
    line: int


class Value(NamedTuple):
    """The value of an attribute; ``literal`` is None for an expression."""

    source: str
    literal: Optional[Union[str, List[str]]]


@dataclass(frozen=True)
class Block:
    """The content between two braces; a file is a block without a name."""

    name: str
    labels: Tuple[str, ...]
    attributes: Dict[str, Value]
    blocks: List[Block]

    def all(self, name: str) -> List[Block]:
        """The blocks of this name directly in this one."""
        return [block for block in self.blocks if block.name == name]

    def sources(self) -> Iterator[str]:
        """Every expression in this block and those within, as it is written."""
        for value in self.attributes.values():
            yield value.source
        for block in self.blocks:
            yield from block.sources()

    def literal(self, name: str) -> Optional[Union[str, List[str]]]:
        """The value of an attribute; None for one that is not there or is an expression."""
        value = self.attributes.get(name)
        return value.literal if value else None


def parse(content: bytes) -> Block:
    """The file as a block; Unreadable with the line."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable("line {}: not UTF-8".format(line)) from None
    tokens = list(_tokens(text))
    tokens.append(Token("end", "", tokens[-1].line if tokens else 1))
    return _Parser(tokens).block("", (), 0)


def _tokens(text: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(text):
        if text[at] == '"':
            kind, end = "text", _text_end(text, at, line)
        else:
            found = _TOKEN.match(text, at)
            if found is None:
                raise _unreadable(line, text[at : at + 20].partition("\n")[0])
            kind = next(name for name, part in found.groupdict().items() if part and name != "end")
            end = found.end()
        if kind != "space":
            yield Token(kind, text[at:end], line)
        line += text.count("\n", at, end)
        at = end


def _text_end(text: str, start: int, line: int) -> int:
    """Where a text in quotes ends; it may hold ``${...}`` with texts in it."""
    at = start + 1
    closing = ['"']  # what ends the text, and each interpolation and text within
    while closing and at < len(text):
        here, inside = text[at], closing[-1] == '"'
        if here == closing[-1]:
            closing.pop()
        elif inside and here == "\n":
            break
        elif inside and (here == "\\" or text.startswith(("$${", "%%{"), at)):
            at += 1 if here == "\\" else 2
        elif inside and text.startswith(("${", "%{"), at):
            closing.append("}")
            at += 1
        elif not inside and here in '"{':
            closing.append('"' if here == '"' else "}")
        at += 1
    if closing:
        raise Unreadable("line {}: a text without its closing quotation mark".format(line))
    return at


class _Parser:
    def __init__(self, tokens: List[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def block(self, name: str, labels: Tuple[str, ...], depth: int) -> Block:
        """The rest of a block, after its opening brace."""
        found = Block(name, labels, {}, [])
        closing = ("sign", "}") if depth else ("end", "")
        while True:
            token = self._next()
            if token.kind == "newline":
                continue
            if (token.kind, token.text) == closing:
                return found
            if token.kind not in ("word", "text") or depth > _DEEPEST:
                raise _unreadable(token.line, token.text)
            key = _decoded(token)
            if self._peek().text == "=":
                self._next()
                if key in found.attributes:
                    raise Unreadable("line {}: {} for the second time".format(token.line, key))
                found.attributes[key] = self._value()
                continue
            own = self._labels()
            found.blocks.append(self.block(key, own, depth + 1))

    def _labels(self) -> Tuple[str, ...]:
        labels = []
        while self._peek().kind in ("word", "text"):
            labels.append(_decoded(self._next()))
        token = self._next()
        if token.text != "{":
            raise _unreadable(token.line, token.text)
        return tuple(labels)

    def _value(self) -> Value:
        """An expression, up to the end of its line where no bracket is open."""
        tokens: List[Token] = []
        opened: List[str] = []
        while True:
            token = self._peek()
            ends = token.kind in ("newline", "end") or token.text == "}"
            if not opened and ends:
                break
            if token.kind == "end" or (not opened and token.text in ("=", ",")):
                raise _unreadable(token.line, token.text)
            if token.text in _CLOSING:
                opened.append(_CLOSING[token.text])
            elif token.text in _CLOSING.values():
                if token.text != (opened or [""])[-1]:
                    raise _unreadable(token.line, token.text)
                opened.pop()
            self._next()
            if token.kind != "newline":
                tokens.append(token)
        if not tokens:
            raise _unreadable(self._peek().line, "=")
        return Value(" ".join(token.text for token in tokens), _literal(tokens))

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token


def _literal(tokens: List[Token]) -> Optional[Union[str, List[str]]]:
    if len(tokens) == 1:
        return _scalar(tokens[0])
    if (tokens[0].text, tokens[-1].text) != ("[", "]"):
        return None
    items, between = tokens[1:-1:2], tokens[2:-1:2]
    values = [_scalar(token) for token in items]
    if None in values or any(token.text != "," for token in between):
        return None
    return [value for value in values if value is not None]


def _scalar(token: Token) -> Optional[str]:
    if token.kind == "text":
        return None if re.search(r"[$%]\{", token.text) else _decoded(token)
    literal = token.kind == "number" or token.text in ("true", "false")
    return token.text if literal else None


def _decoded(token: Token) -> str:
    if token.kind != "text":
        return token.text
    try:
        return str(json.loads(token.text, strict=False))
    except ValueError:
        raise _unreadable(token.line, token.text) from None


def _unreadable(line: int, text: str) -> Unreadable:
    where = '"{}"'.format(text.strip()[:40]) if text.strip() else "the end"
    return Unreadable("line {}: not understood at {}".format(line, where))
