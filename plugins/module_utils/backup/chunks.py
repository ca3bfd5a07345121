# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tables in chunks, ranges of their pages, which several connections read and fingerprint."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .. import fingerprint, progress
from ..fingerprint import Column, Fingerprint
from . import catalog, source

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.sql import Composed

    from .manifest import TableEntry

_TID_RANGES = 140000


class Chunk(NamedTuple):
    """A range of pages of a physical table: ``first`` included, ``end`` not, None is the end."""

    table: str
    relation: catalog.Relation
    number: int
    first: int
    end: Optional[int]

    def condition(self) -> Optional[Composed]:
        """The condition that selects its rows (without children's), None for all of them."""
        terms = []
        if self.relation.has_children:
            terms.append(sql.SQL("tableoid = {}::oid").format(sql.Literal(self.relation.oid)))
        if self.first:
            terms.append(
                sql.SQL("ctid >= {}::tid").format(sql.Literal("({},0)".format(self.first)))
            )
        if self.end is not None:
            terms.append(sql.SQL("ctid < {}::tid").format(sql.Literal("({},0)".format(self.end))))
        return sql.SQL(" AND ").join(terms) if terms else None


def split(table: str, relations: List[catalog.Relation], size: int, version: int) -> List[Chunk]:
    """Ranges of about ``size`` bytes; before PostgreSQL 14 a range would read the whole table."""
    found: List[Chunk] = []
    for relation in relations:
        pages = relation.pages
        if version >= _TID_RANGES and relation.bytes > size and pages > 1:
            pages = max(1, pages * size // relation.bytes)
        starts = list(range(0, relation.pages, pages or 1)) or [0]
        for start, end in zip(starts, [*starts[1:], None]):
            found.append(Chunk(table, relation, len(found), start, end))
    return found


def cost(chunk: Chunk) -> int:
    """The bytes to read for a chunk: its pages' share of the table."""
    pages = (chunk.relation.pages if chunk.end is None else chunk.end) - chunk.first
    return pages * chunk.relation.bytes // max(1, chunk.relation.pages)


def fingerprinting(pieces: Sequence[Chunk]) -> Dict[str, progress.Total]:
    """The size of a fingerprint of all the chunks, by table: as the catalogue estimates it."""
    found: Dict[str, progress.Total] = {}
    for chunk in pieces:
        before = found.get(chunk.table, progress.Total(0, 0, parts=0))
        rows = 0 if chunk.first else chunk.relation.rows
        found[chunk.table] = progress.Total(
            rows=None if rows is None or before.rows is None else before.rows + rows,
            bytes=(before.bytes or 0) + cost(chunk),
            parts=before.parts + 1,
        )
    return found


def copying(pieces: Sequence[Chunk], known: Mapping[str, TableEntry]) -> Dict[str, progress.Total]:
    """The size of a copy of all the chunks: rows, exactly for tables whose rows are ``known``.

    The size of the rows as CSV is not known before.
    """
    return {
        table: total._replace(
            rows=known[table]["rows"] if table in known else total.rows,
            bytes=None,
            exact=table in known,
        )
        for table, total in fingerprinting(pieces).items()
    }


class Wanted(NamedTuple):
    """A table to fingerprint: its place, its columns, and a fingerprint to compare with."""

    place: Tuple[str, str]
    columns: Sequence[Column]
    like: str


def fingerprints(
    snapshot: source.Snapshot, tables: Mapping[str, Wanted], params: Mapping[str, Any]
) -> Dict[str, Fingerprint]:
    """The fingerprints of tables, computed side by side in chunks."""
    parts: Dict[str, List[Fingerprint]] = {
        name: [fingerprint.empty(snapshot.version, wanted.like)] for name, wanted in tables.items()
    }

    def work(chunk: Chunk, wanted: Wanted, session: Connection) -> None:
        found = fingerprint_of(session, chunk, wanted.columns, wanted.like)
        progress.add(progress.FINGERPRINT, chunk.table, found.rows, cost(chunk))
        parts[chunk.table].append(found)

    tasks: List[source.Task] = []
    every: List[Chunk] = []
    places = [wanted.place for wanted in tables.values()]
    relations = catalog.relations_all(snapshot.cursor, places)
    for name, wanted in tables.items():
        size = params["chunk_size"] << 20
        pieces = split(name, relations[wanted.place], size, snapshot.version)
        tasks += [partial(work, chunk, wanted) for chunk in pieces]
        every += pieces
    progress.begin(progress.FINGERPRINT, lambda: fingerprinting(every))
    source.in_parallel(tasks, params["jobs"], snapshot.reader)
    return {name: fingerprint.combine(found) for name, found in parts.items()}


def fingerprint_of(
    session: Connection, chunk: Chunk, columns: Sequence[Column], like: str = ""
) -> Fingerprint:
    """The fingerprint of a chunk's rows."""
    place, condition = (chunk.relation.schema, chunk.relation.name), chunk.condition()
    return fingerprint.of_columns(session.cursor(), *place, columns, condition, like)
