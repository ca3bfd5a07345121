# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""S3 objects that database steps read: CSV files straight into temporary tables, small ones whole.

The rows of a CSV are never handled one by one, and never become SQL: they stream from S3 into COPY.
A large object of which a run needs few rows is kept as a compressed temporary file until it is
known which (``Csv.fetch``). Columns may stand in any order; other columns are ignored.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Iterator, List, Mapping, Optional, Sequence, Tuple, cast

from . import aws, files, geography, server
from .errors import InvalidInput

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql as _sql

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from psycopg2.sql import Composable

    from .step import Transaction

# A header longer than this is no header.
_HEADER_SIZE = 64 * 1024

# PostgreSQL's limit for the columns of a table is 1,600.
_MOST_COLUMNS = 1000

#: Columns of a CSV of names that matter here; labeller writes others beside them.
_NAMES = {"name": "text", "usage": "text", "label": "text"}

# What COPY is given at a time; psycopg2 would read 8 KiB, which takes twice the CPU time here.
_CHUNK = 256 * 1024

# Numbers are near when they differ in so many of their last bits only.
_NEAR_BITS = 6


class _Stream:
    """A file for COPY: bytes read ahead, then the rest of the body; keeps the body's error."""

    def __init__(self, head: bytes, body: IO[bytes]) -> None:
        self._head = head
        self._body = body
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        try:
            return self._body.read(size)
        except Exception as error:
            self.error = error
            raise


def whole(tx: Transaction, key: str) -> bytes:
    """A small object's content. Raises InvalidInput when it is not there."""
    name = "s3://{}/{}".format(tx.bucket, key)
    with aws.translated("read {}".format(name)):
        content: bytes = tx.s3.get_object(Bucket=tx.bucket, Key=key)["Body"].read()
    return content


class Csv:
    """A CSV object that is being read, and the new, empty temporary table for its rows.

    ``columns`` gives each wanted column's PostgreSQL type, the one that joins use first; one of
    ``optional`` that the file lacks is NULL. ``if_none`` says what to do when there is nothing to
    load. Raises InvalidInput, naming the object and where possible the line, for an object that
    is missing, empty, without rows, without a column or not a CSV of these types.
    """

    def __init__(
        self,
        tx: Transaction,
        key: str,
        table: str,
        columns: Mapping[str, str],
        optional: Sequence[str] = (),
        if_none: str = "",
    ) -> None:
        self.name = "s3://{}/{}".format(tx.bucket, key)
        self._tx = tx
        self._table = _sql.Identifier(table)
        self._first = _sql.Identifier(next(iter(columns)))
        with aws.translated("read {}".format(self.name)):
            body = tx.s3.get_object(Bucket=tx.bucket, Key=key)["Body"]
            head = body.read(_HEADER_SIZE)
        header, more = _header(head, self.name, [name for name in columns if name not in optional])
        twice = [column for column in columns if header.count(column) > 1]
        if twice:
            raise InvalidInput("{}: column {} is there twice".format(self.name, ", ".join(twice)))
        if not more:
            raise InvalidInput("{} has a header and no rows{}".format(self.name, if_none))
        self._columns = [
            column if column in columns else "ignored_{}".format(number)
            for number, column in enumerate(header)
        ]
        self._stream = _Stream(head, body)
        self._loaded = False
        types = {column: columns.get(column, "text") for column in [*self._columns, *optional]}
        tx.execute(
            _sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(
                self._table,
                _sql.SQL(", ").join(
                    _sql.SQL("{} {}").format(_sql.Identifier(column), _sql.SQL(kind))
                    for column, kind in types.items()
                ),
            )
        )

    def fetch(self) -> None:
        """Read the object to its end, before it is known which rows ``load`` is to copy.

        It stays in a compressed temporary file without a name. A server that cannot choose rows
        (before PostgreSQL 12) gets them all now, and so does any when zstandard is missing.
        """
        if zstandard is None or server.version(self._tx.cursor.connection) < 120000:
            self.load()
            return
        with aws.translated("read {}".format(self.name)):
            self._stream = _Stream(b"", _compressed(self._stream))

    def load(self, where: Optional[Composable] = None) -> None:
        """Copy the rows, or those alone for which ``where`` holds; a second call does nothing.

        The other rows are held to the types too.
        """
        if self._loaded:
            return
        self._loaded = True
        statement = _sql.SQL(
            "COPY {} ({}) FROM STDIN WITH (FORMAT csv, HEADER, ENCODING 'UTF8') {}"
        ).format(
            self._table,
            _sql.SQL(", ").join(map(_sql.Identifier, self._columns)),
            _sql.SQL("WHERE {}").format(where) if where else _sql.SQL(""),
        )
        try:
            self._tx.cursor.copy_expert(statement, cast("IO[bytes]", self._stream), _CHUNK)
        except psycopg2.Error as error:
            if self._stream.error is not None:
                with aws.translated("read {}".format(self.name)):
                    raise self._stream.error from error
            if isinstance(error, psycopg2.DataError) or (error.pgcode or "").startswith("22"):
                raise InvalidInput("{}{}".format(self.name, _place(error))) from error
            raise
        # Wide texts need no statistics, and gathering them takes a sixth of the load's time.
        self._tx.execute(_sql.SQL("ANALYZE {} ({})").format(self._table, self._first))


def _compressed(stream: _Stream) -> IO[bytes]:
    """A file that gives a stream's bytes once more. Raises ModuleFailure on a full disk."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it is read later
        with zstandard.ZstdCompressor(level=1).stream_writer(file, closefd=False) as writer:
            while piece := stream.read(_CHUNK):
                writer.write(piece)
        file.seek(0)
    except OSError as error:
        if stream.error is not None:
            raise
        raise files.no_temporary(error) from error
    return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(file))


def near(tx: Transaction, column: str, numbers: Composable) -> Composable:
    """A condition on ``column`` for COPY that holds for all ``numbers`` and for some near them.

    ``numbers`` is a query of integers. The condition has a bit for each 64 possible ones, at most
    8 MB. The cells of an area are numbered along the rows of the grid, so few others pass.
    """
    query = _sql.SQL(
        "SELECT DISTINCT number >> {} AS block FROM ({}) AS n (number)"
        " WHERE number IS NOT NULL ORDER BY block"
    )
    blocks = [block for (block,) in tx.rows(query.format(_sql.Literal(_NEAR_BITS), numbers))]
    if not blocks:
        return _sql.SQL("false")
    first, last = blocks[0], blocks[-1]
    bits = bytearray((last - first) // 8 + 1)
    for block in blocks:
        bits[(block - first) // 8] |= 1 << (block - first) % 8
    return _sql.SQL(
        "CASE WHEN {column} >> {shift} BETWEEN {first} AND {last}"
        " THEN get_bit({bits}::bytea, ({column} >> {shift}) - ({first})) = 1 END"
    ).format(
        column=_sql.Identifier(column),
        shift=_sql.Literal(_NEAR_BITS),
        first=_sql.Literal(first),
        last=_sql.Literal(last),
        bits=_sql.Literal("\\x" + bits.hex()),
    )


def _header(head: bytes, name: str, needed: Sequence[str]) -> Tuple[List[str], bool]:
    """The columns of a CSV from its first bytes, and whether more follows."""
    if not head.strip():
        raise InvalidInput(
            "{} is empty; expected a CSV with the columns {}".format(name, ", ".join(needed))
        )
    try:
        text = head.decode("utf-8-sig", "replace")
        lines = io.StringIO(text)
        header = next(csv.reader(lines, strict=True))
    except (csv.Error, StopIteration) as error:
        raise InvalidInput("{} is no CSV: {}".format(name, error)) from error
    more = lines.read(1)
    cut = len(head) == _HEADER_SIZE and not more
    if cut or len(header) > _MOST_COLUMNS:
        raise InvalidInput(
            "{}: the header has {}{:,} columns, at most {:,} are read; expected a CSV with the "
            "columns {}".format(
                name, "more than " if cut else "", len(header), _MOST_COLUMNS, ", ".join(needed)
            )
        )
    missing = [column for column in needed if column not in header]
    if missing:
        raise InvalidInput(
            "{}: column {} is missing; the header has {}".format(
                name, ", ".join(missing), ", ".join(header)[:300]
            )
        )
    return header, bool(more)


def _place(error: psycopg2.Error) -> str:
    """Where and what, from the server's error: ``, line 7, column cell_id: ...``."""
    found = re.search(r", (line \d+(?:, column [^:]+)?)", error.diag.context or "")
    line = ", {}".format(found.group(1)) if found else ""
    return "{}: {}".format(line, (error.diag.message_primary or str(error)).strip())


def names(tx: Transaction, key: Optional[str]) -> Composable:
    """The query ``name`` of a CSV of names, loaded once in a transaction; no rows without a key.

    Raises InvalidInput for a file that holds an empty name.
    """
    if not key:
        return _sql.SQL("SELECT NULL::text AS name WHERE false")
    if ("names", key) not in tx.shared:
        table = "runbook_names_{}".format(len(tx.shared))
        Csv(tx, key, table, _NAMES, ["usage", "label"], "; for no names give no file").load()
        empty = "SELECT count(*) FROM {} WHERE coalesce(btrim(name), '') = ''"
        count = tx.value(_sql.SQL(empty).format(_sql.Identifier(table)))
        if count:
            raise InvalidInput("s3://{}/{}: {} rows have no name".format(tx.bucket, key, count))
        tx.shared["names table", key] = _sql.Identifier(table)
        tx.shared["names", key] = _sql.SQL("SELECT name FROM {}").format(_sql.Identifier(table))
    found: Composable = tx.shared["names", key]
    return found


def training_names(tx: Transaction, key: Optional[str]) -> Composable:
    """The query ``name`` of those of ``names`` that can train, each once.

    These are the rows with usage train and a true label. A file without either column, or with an
    empty one, says nothing of it: all its names can.
    """
    listed = names(tx, key)
    if not key:
        return listed
    return _sql.SQL(
        "SELECT DISTINCT name FROM (SELECT *, count(label) OVER () = 0 AS unsaid FROM {}) AS n"
        " WHERE coalesce(usage, 'train') = 'train'"
        " AND (unsaid OR lower(btrim(label)) IN ('t', 'true', 'y', 'yes', '1'))"
    ).format(tx.shared["names table", key])


def require_in_grid(tx: Transaction, query: Composable, what: str) -> None:
    """Raise InvalidInput for names of ``query`` (a column ``name``) that master_grid lacks."""
    missing = tx.rows(
        _sql.SQL(
            "SELECT n.name, count(*) OVER () FROM (SELECT DISTINCT name::text FROM ({}) AS q) AS n"
            " LEFT JOIN master_grid g ON g.name = n.name::bpchar WHERE g.name IS NULL"
            " ORDER BY n.name LIMIT 5"
        ).format(query)
    )
    if missing:
        raise InvalidInput(
            "{}: {} names are not in master_grid: {}{}".format(
                what,
                missing[0][1],
                ", ".join(repr(name) for name, _ in missing),
                ", ..." if missing[0][1] > len(missing) else "",
            )
        )


@contextmanager
def blamed(name: str) -> Iterator[None]:
    """Values that the tables cannot take are the fault of the object ``name``: InvalidInput."""
    try:
        yield
    except (psycopg2.DataError, psycopg2.IntegrityError) as error:
        detail = error.diag.message_detail
        raise InvalidInput(
            "{}: {}{}".format(
                name, error.diag.message_primary or error, " ({})".format(detail) if detail else ""
            )
        ) from error


class Area:
    """The cells of one AOI in a temporary table (gid, id, name, col, row), found once."""

    def __init__(self, tx: Transaction, key: str, index: int) -> None:
        self.name = "s3://{}/{}, area {}".format(tx.bucket, key, index)
        self.table = _sql.Identifier("runbook_area_{}".format(len(tx.shared)))
        self._box = _sql.Identifier("runbook_box_{}".format(len(tx.shared)))
        self._spans = "runbook_spans_{}".format(len(tx.shared))
        self.count = 0
        url = "s3://{}/{}".format(tx.bucket, key)
        self.parts = geography.area(whole(tx, key), index, url)
        number, cell = "double precision", "gid integer, id integer, name text"
        for table, columns in (
            (self.table, '{}, col integer, "row" integer'.format(cell)),
            (self._box, "{}, x {number}, y {number}".format(cell, number=number)),
            (_sql.Identifier(self._spans), "y {0}, west {0}, east {0}".format(number)),
        ):
            statement = _sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP")
            tx.execute(statement.format(table, _sql.SQL(columns)))

    def fill(self, tx: Transaction) -> None:
        """Find the cells. Raises InvalidInput when the grid has none in the area."""
        if self.count:
            return
        box = _sql.SQL("x BETWEEN {} AND {} AND y BETWEEN {} AND {}")
        boxes = [box.format(*map(_sql.Literal, each)) for each in geography.boxes(self.parts)]
        tx.execute(
            _sql.SQL("INSERT INTO {} SELECT gid, id, name, x, y FROM master_grid WHERE {}").format(
                self._box, _sql.SQL(" OR ").join(boxes)
            )
        )
        self._find_spans(tx)
        column, row = map(_sql.SQL, geography.column_row())
        self.count = tx.execute(
            _sql.SQL(
                "INSERT INTO {} SELECT gid, id, name, {}, {} FROM {} JOIN {} s USING (y)"
                " WHERE x BETWEEN s.west AND s.east"
            ).format(self.table, column, row, self._box, _sql.Identifier(self._spans))
        )
        if not self.count:
            raise InvalidInput(
                "{} holds no cell of master_grid; is it the right file and aoi_index?".format(
                    self.name
                )
            )
        tx.execute(_sql.SQL("ANALYZE {}").format(self.table))

    def _find_spans(self, tx: Transaction) -> None:
        """Fill the spans; the coordinates go back to the server with every digit."""
        xs, ys = (
            [
                value
                for (value,) in tx.rows(
                    _sql.SQL("SELECT DISTINCT {0} FROM {1} ORDER BY {0}").format(
                        _sql.Identifier(axis), self._box
                    )
                )
            ]
            for axis in ("x", "y")
        )
        try:
            lines = "".join(
                "{!r}\t{!r}\t{!r}\n".format(*span) for span in geography.spans(self.parts, xs, ys)
            )
        except InvalidInput as error:
            raise InvalidInput("{}: {}".format(self.name, error)) from error
        tx.cursor.copy_expert(
            _sql.SQL("COPY {} FROM STDIN").format(_sql.Identifier(self._spans)), io.StringIO(lines)
        )
        for table in (self._box, _sql.Identifier(self._spans)):
            tx.execute(_sql.SQL("ANALYZE {}").format(table))


def area(tx: Transaction, key: str, index: int) -> Area:
    """The area of a GeoJSON object's 1-based row, one for all steps of a transaction."""
    place = ("area", key, index)
    if place not in tx.shared:
        tx.shared[place] = Area(tx, key, index)
    found: Area = tx.shared[place]
    return found
