# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From S3 into a table: objects stream through checksum and decompressor into COPY.

A thread fetches ahead of COPY by a few pieces, so memory is flat and neither waits for long.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Iterable, Iterator, List, Optional, Sequence, Union

from .. import progress
from ..errors import ModuleFailure, missing
from . import catalog

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable, Composed

    from ..s3 import Bucket
    from .manifest import ObjectEntry

PIECE = 1 << 20
_AHEAD = 4
#: The schema of stages: temporary tables, gone with the connection.
STAGES = "pg_temp"


def contents(bucket: Bucket, entry: ObjectEntry, compression: str) -> Iterator[bytes]:
    """The CSV of one object; ModuleFailure at its end when it is not what was written."""
    try:
        yield from decompressed(_checked(bucket, entry), compression)
    except (zlib.error, getattr(zstandard, "ZstdError", zlib.error)) as error:
        raise ModuleFailure(
            "{} is not what was written: {}".format(bucket.url(entry["key"]), error)
        ) from error


def _checked(bucket: Bucket, entry: ObjectEntry) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    for piece in bucket.stream(entry["key"]):
        digest.update(piece)
        size += len(piece)
        yield piece
    if (size, digest.hexdigest()) != (entry["size"], entry["sha256"]):
        raise ModuleFailure(
            "{} is not what was written: size or SHA-256 differ from the manifest".format(
                bucket.url(entry["key"])
            )
        )


def decompressed(pieces: Iterator[bytes], compression: str) -> Iterator[bytes]:
    """Decompressed pieces of at most ``PIECE`` bytes, however well they were compressed."""
    if compression == "gzip":
        return _gunzip(pieces)
    if zstandard is None:
        raise missing("zstandard")
    return _unzstd(pieces)


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(31)
    for piece in pieces:
        rest = piece
        while rest:
            yield decoder.decompress(rest, PIECE)
            rest = decoder.unconsumed_tail


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    source: Any = _File(pieces)
    reader = zstandard.ZstdDecompressor().stream_reader(
        source, read_size=PIECE, read_across_frames=True
    )
    while True:
        piece = reader.read(PIECE)
        if not piece:
            return
        yield piece


class _File:
    """An iterator of bytes as a file that can only be read on."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        """The next piece that is not empty, whatever its size; nothing at the end."""
        return next((piece for piece in self._pieces if piece), b"")


class Ahead:
    """The same pieces, fetched by a thread that is a few of them ahead; a file for COPY.

    As a context manager it ends the thread. An error of the thread is raised by ``read``.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._fetched: queue.Queue[Union[bytes, BaseException]] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        self.error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._fetch, daemon=True, name="fetch")

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def read(self, _size: int = -1) -> bytes:
        """The next piece, whatever its size; nothing at the end."""
        item = self._fetched.get()
        if isinstance(item, BaseException):
            self.error = item
            raise item
        return item

    def _fetch(self) -> None:
        try:
            for piece in self._pieces:
                if piece and not self._put(piece):
                    return
            self._put(b"")
        except BaseException as error:  # noqa: BLE001 - raised in the reader's thread
            self._put(error)

    def _put(self, item: Union[bytes, BaseException]) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._fetched.put(item, timeout=0.2)
                return True
        return False


def encoding_for(server_encoding: str) -> str:
    """The encoding of the CSV: UTF8, or the bytes as they are where the server knows none."""
    return "SQL_ASCII" if server_encoding == "SQL_ASCII" else "UTF8"


def stage(name: str) -> Composed:
    """A stage's quoted name."""
    return sql.SQL("{}.{}").format(sql.Identifier(STAGES), sql.Identifier(name))


def create_stage(
    cursor: Cursor, name: str, columns: Sequence[str], like: Optional[Composable] = None
) -> None:
    """A temporary table of these columns: of the types that ``like``, a query, has; else text.

    In text, a value is what COPY wrote, and its fingerprint is that of the value itself.
    """
    if like is None:
        definition = sql.SQL("({})").format(
            sql.SQL(", ").join(
                sql.SQL("{} text").format(sql.Identifier(column)) for column in columns
            )
        )
    else:
        definition = sql.SQL("AS {} LIMIT 0").format(like)
    cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {} {}").format(stage(name), definition))


def copy_in(
    cursor: Cursor,
    table: Composable,
    columns: Sequence[str],
    pieces: Iterable[bytes],
    options: str,
) -> int:
    """COPY the pieces into a table; gives the number of rows. ``options`` are COPY's, as SQL."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN ({})").format(
        table, catalog.column_list(columns), sql.SQL(options)
    )
    counter = progress.of_this_thread()
    with Ahead(counter.over(pieces)) as fetched:
        try:
            cursor.copy_expert(statement, fetched, PIECE)  # type: ignore[arg-type]
        except psycopg2.Error:
            if fetched.error is not None:  # psycopg2 reports it as an error of the server
                raise fetched.error from None
            raise
    counter.end(cursor.rowcount, parts=0)
    return int(cursor.rowcount)


def load(
    bucket: Bucket,
    cursor: Cursor,
    table: Composable,
    columns: Sequence[str],
    entries: List[ObjectEntry],
    compression: str,
    encoding: str,
) -> int:
    """Load objects of a backup into a table; gives the rows. Each must hold what it was said to."""
    options = "FORMAT csv, HEADER, ENCODING '{}'".format(encoding)
    total = 0
    for entry in entries:
        rows = copy_in(cursor, table, columns, contents(bucket, entry, compression), options)
        if rows != entry["rows"]:
            raise ModuleFailure(
                "{} holds {} rows, its manifest says {}".format(
                    bucket.url(entry["key"]), rows, entry["rows"]
                )
            )
        total += rows
    return total
