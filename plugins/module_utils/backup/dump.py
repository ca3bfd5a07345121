# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Old backups: TABLE.sql files of ``pg_dump -a -t TABLE`` (docs/labeller.md 2.1) as data.

No SQL of such a file is executed. The lines of its COPY blocks go to COPY; from ``setval`` calls
and ``client_encoding`` the values are read; everything else must be something that pg_dump writes
around them, or is ignored.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, Iterator, List, NamedTuple, Tuple

from ..errors import InvalidInput

SUFFIX = ".sql"
#: pg_dump's last words; a file without them was cut off.
COMPLETE = b"PostgreSQL database dump complete"
_NAME = r'(?:"(?:[^"]|"")+"|[a-z_\x80-\U0010ffff][\w$]*)'
_COPY = re.compile(
    r"COPY (?:(?P<schema>{0})\.)?(?P<table>{0}) \((?P<columns>.*)\) FROM stdin;$".format(_NAME)
)
_COLUMN = re.compile(_NAME)
_SETVAL = re.compile(
    r"SELECT (?:pg_catalog\.)?setval\('(?P<name>(?:[^']|'')+)'(?:::regclass)?, "
    r"(?P<value>-?\d+), (?P<called>true|false)\);$"
)
_ENCODING = re.compile(r"SET client_encoding = '(?P<encoding>[A-Za-z0-9_]+)';$")
_SEARCH_PATH = re.compile(r"SET search_path = (?P<schema>{}),".format(_NAME))
_LONGEST = 1 << 20


class Block(NamedTuple):
    """The COPY block of a table: what is known before its rows come."""

    schema: str
    table: str
    columns: List[str]
    encoding: str


class Dump:
    """Reads one file from its start: first ``block``, then ``rows`` to their end, then the rest.

    ``where`` names the file in errors.
    """

    def __init__(self, pieces: Iterator[bytes], where: str) -> None:
        self._pieces, self.where = pieces, where
        self._buffer = b""
        self._encoding = "UTF8"
        self._schema = "public"
        self.sequences: Dict[Tuple[str, str], Tuple[int, bool]] = {}
        self.complete = False

    def block(self) -> Block:
        """The next COPY block. InvalidInput when there is none."""
        for line in self._lines():
            found = _COPY.match(line)
            if found:
                schema = unquoted(found.group("schema") or "") or self._schema
                columns = [unquoted(name) for name in _COLUMN.findall(found.group("columns"))]
                return Block(schema, unquoted(found.group("table")), columns, self._encoding)
        raise InvalidInput(
            "{} has no COPY block: only files of pg_dump -a in its default format can be "
            "restored".format(self.where)
        )

    def rows(self) -> Iterator[bytes]:
        r"""The block's lines in pieces, without the ``\.`` that ends them."""
        start = True  # of a line: the end may come before the first row
        while True:
            end = self._buffer.find(b"\n\\.\n") + 1
            if start and self._buffer.startswith(b"\\.\n"):
                self._buffer = self._buffer[3:]
                return
            if end:
                yield self._buffer[:end]
                self._buffer = self._buffer[end + 3 :]
                return
            # What might be the beginning of the end stays.
            keep = min(len(self._buffer), 3)
            if len(self._buffer) > keep:
                yield self._buffer[: len(self._buffer) - keep]
                start = self._buffer[-keep - 1 : -keep] == b"\n"
                self._buffer = self._buffer[-keep:]
            if not self._more():
                raise InvalidInput("{} was cut off: its COPY block has no end".format(self.where))

    def rest(self) -> None:
        """Read on to the end, for ``sequences`` and ``complete``; other blocks are passed over."""
        for line in self._lines():
            if _COPY.match(line):
                for _ in self.rows():
                    pass

    def _lines(self) -> Iterator[str]:
        while True:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > _LONGEST:
                    raise InvalidInput("{} is no dump of pg_dump: endless line".format(self.where))
                if self._more():
                    continue
                return
            raw, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
            line = raw.decode("utf-8", "replace")
            self._note(line)
            yield line

    def _note(self, line: str) -> None:
        encoding, path, value = _ENCODING.match(line), _SEARCH_PATH.match(line), _SETVAL.match(line)
        if encoding:
            self._encoding = encoding.group("encoding")
        elif path and unquoted(path.group("schema")) != "pg_catalog":
            self._schema = unquoted(path.group("schema"))
        elif value:
            names = [
                unquoted(name) for name in _COLUMN.findall(value.group("name").replace("''", "'"))
            ]
            place = (names[-2] if len(names) > 1 else self._schema, names[-1])
            self.sequences[place] = (int(value.group("value")), value.group("called") == "true")
        elif line.startswith("--") and COMPLETE.decode() in line:
            self.complete = True

    def _more(self) -> bool:
        piece = next((piece for piece in self._pieces if piece), b"")
        self._buffer += piece
        return bool(piece)


def tables(keys: Iterable[str], prefix: str) -> Dict[str, str]:
    """Table names and keys of the dumps directly below ``prefix``."""
    names = {key[len(prefix) : -len(SUFFIX)]: key for key in keys if key.endswith(SUFFIX)}
    return {name: key for name, key in sorted(names.items()) if name and "/" not in name}


def unquoted(name: str) -> str:
    """An identifier without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
