# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tables to S3: one snapshot, several connections, compressed CSV that streams, a manifest last.

No temporary file, and memory that does not depend on the tables: a row goes from COPY through the
compressor into parts of a multipart upload, of which a bounded number is in memory.
"""

from __future__ import annotations

import io
import platform
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Tuple,
)

from .. import change, fingerprint, journal, lease, marker, progress
from ..errors import InvalidInput, ModuleFailure, missing
from ..fingerprint import Fingerprint
from ..s3 import Bucket, Sender, Writer
from . import catalog, source, store
from . import load as loading
from . import manifest as manifests
from . import verify as verification
from .chunks import Chunk, copying, cost, fingerprint_of, fingerprinting, split

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.sql import Composed

    from .manifest import Manifest, ObjectEntry, TableEntry

EXTENSIONS = {"zstd": "csv.zst", "gzip": "csv.gz"}
LEVELS = {"zstd": 1, "gzip": 1}
#: COPY gives a row at a time; the compressor and the hashes are called with pieces of this size.
PIECE = 1 << 20
#: Bytes of tables whose fingerprint is worth a connection of its own.
CONNECTION = 8 << 20
#: The server's limit for one value is 1 GB; COPY writes bytea in hex, two bytes for one.
_FIELD_LIMITS = {"bytea": (1 << 29) - 64}
_FIELD_LIMIT = (1 << 30) - 64
_TEXT_TYPES = ("bytea", "text", "character varying", "character")


def present(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
    """Back up the tables below the prefix, unless the newest backup is equal."""
    if not params["tables"]:
        raise InvalidInput("tables is empty: name the tables to back up")
    if params["compression"] == "zstd" and zstandard is None and not check_mode:
        raise missing("zstandard", otherwise=", or set compression to gzip")
    bucket, root = Bucket(params["bucket"], params), manifests.root(params["prefix"])
    bucket.check()
    if check_mode:
        return _present(params, bucket, root, planned=True)
    with lease.held(params) as leased, source.exclusively(params, bucket.name, root, leased):
        return _present(params, bucket, root, planned=False)


def _present(
    params: Mapping[str, Any], bucket: Bucket, root: str, planned: bool
) -> Mapping[str, Any]:
    newest, damage = None, []
    try:
        newest = store.newest(bucket, root)
    except InvalidInput as error:  # its manifest: what cannot be read is no reason to have none
        damage = [str(error)]
    with source.Snapshot.of(params, params["tables"]) as snapshot:
        run = _Run(params, bucket, root, snapshot)
        if newest is not None or planned:
            run.read(fingerprints=True, copies=False)
            if newest is not None and run.equals(newest):
                damage = verification.problems(params, bucket, newest, params["verify"])
                if not damage:
                    return _result(newest, newest, bucket, root, damage)
        intended = [_intended(params, bucket, root)]
        if planned:
            journal.require_writable(params, intended)
            return _result(newest, run.manifest(manifests.PLANNED, []), bucket, root, damage)
        others = store.ids(bucket, root)
        owner = manifests.identity(params)
        with journal.begun(params, intended) as entry:
            store.remove(bucket, store.leftovers(bucket, root, owner, store.utc_now()))
            made = run.make(manifests.new_id(store.utc_now(), owner, others), newest is None)
            entry.facts["backup_id"] = made["backup_id"]
    return _result(newest, made, bucket, root, damage)


def _intended(params: Mapping[str, Any], bucket: Bucket, root: str) -> change.Change:
    """The change as the target's journal says it beforehand: rows are read in the copying."""
    tables = len(params["tables"])
    text = "a backup of {} tables\n".format(tables)
    return change.Change(bucket.url(root), "back up", "", text, {"tables": tables})


def _result(
    newest: Optional[Manifest], made: Manifest, bucket: Bucket, root: str, damage: List[str]
) -> Mapping[str, Any]:
    tables = made["tables"]
    known = newest["tables"] if newest else {}
    saved = "" if made is newest else manifests.saved(tables, known)
    saved += "".join("the backup before is damaged: {}\n".format(line) for line in damage)
    alteration = change.Change(
        resource=bucket.url(root),
        action="back up",
        # Nothing is replaced: the backup before stays where it is.
        before="",
        after=saved,
        # No sizes of objects: a check, which must say the same, cannot know them.
        counts={
            "tables": len(tables),
            "rows": sum(table["rows"] for table in tables.values()),
        },
        fingerprint=manifests.digest(known),
    )
    return change.result([alteration], backup_id=made["backup_id"], manifest=made)


class _Run:
    """The tables of one snapshot, and the making of a backup of it."""

    def __init__(
        self, params: Mapping[str, Any], bucket: Bucket, root: str, snapshot: source.Snapshot
    ) -> None:
        self.params, self.bucket, self.root, self.snapshot = params, bucket, root, snapshot
        cursor = snapshot.cursor
        self.tables: Dict[str, TableEntry] = {}
        self.chunks: List[Chunk] = []
        self._parts: Dict[str, List[Fingerprint]] = {}
        places = list(dict.fromkeys(snapshot.places.values()))
        entries = catalog.describe_all(cursor, places)
        size = params["chunk_size"] << 20
        for place, relations in catalog.relations_all(cursor, places).items():
            name = catalog.label(*place)
            self.tables[name] = entries[place]
            self._parts[name] = []
            self.chunks += split(name, relations, size, snapshot.version)

    def equals(self, other: Manifest) -> bool:
        """Whether a backup holds all these tables as they are now, and says which run they are."""
        theirs = other["tables"]
        return other.get("run") == marker.saved(self.snapshot.cursor) and all(
            name in theirs and manifests.state_of(theirs[name]) == manifests.state_of(table)
            for name, table in self.tables.items()
        )

    def manifest(self, backup_id: str, objects: List[Tuple[Chunk, ObjectEntry]]) -> Manifest:
        """The manifest of this snapshot, with the objects that were written."""
        for table in self.tables.values():
            table["objects"] = []
        for chunk, entry in sorted(objects, key=lambda pair: pair[1]["key"]):
            self.tables[chunk.table]["objects"].append(entry)
        version = self.snapshot.one("SHOW server_version")
        return {
            "format_version": manifests.FORMAT_VERSION,
            "backup_id": backup_id,
            "bucket": self.bucket.name,
            "prefix": store.prefix_of(self.root, backup_id),
            "planned": backup_id == manifests.PLANNED,
            "created": store.utc_now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "label": self.params.get("label") or "",
            "database": self.params["login_db"],
            "server_version": str(version),
            "server_encoding": self.snapshot.encoding,
            "snapshot_lsn": self.snapshot.lsn(),
            "compression": self.params["compression"],
            "tools": _tools(),
            "run": marker.saved(self.snapshot.cursor),
            "tables": self.tables,
        }

    def make(self, backup_id: str, fingerprints: bool) -> Manifest:
        """Write the backup: objects, their verification, the manifest."""
        objects = self.read(fingerprints=fingerprints, copies=True, backup_id=backup_id)
        made = self.manifest(backup_id, objects)
        for name, table in self.tables.items():
            copied = sum(entry["rows"] for entry in table["objects"])
            if copied != table["rows"]:
                raise ModuleFailure(
                    "table {}: {} rows were copied, but its snapshot has {}; nothing is recorded "
                    "as a backup".format(name, copied, table["rows"])
                )
        damage = verification.problems(self.params, self.bucket, made, self.params["verify"])
        if damage:
            raise ModuleFailure("the upload is damaged: {}".format("; ".join(damage)))
        key = made["prefix"] + manifests.FILE
        options = store.write_options({**self.params, "storage_class": None})
        if not self.bucket.create(key, manifests.dumps(made), options):
            raise ModuleFailure("{} exists already".format(self.bucket.url(key)))
        return made

    def read(
        self, *, fingerprints: bool, copies: bool, backup_id: str = ""
    ) -> List[Tuple[Chunk, ObjectEntry]]:
        """Fingerprint the tables, copy them, or both side by side; gives the objects written."""
        objects: List[Tuple[Chunk, ObjectEntry]] = []
        jobs = self.params["jobs"]
        if not copies:  # a small piece is read before another connection is there
            jobs = min(jobs, 1 + sum(map(cost, self.chunks)) // CONNECTION)
        if copies:
            known = {} if fingerprints else self.tables
            progress.begin(progress.BACK_UP, lambda: copying(self.chunks, known))
        else:
            progress.begin(progress.FINGERPRINT, lambda: fingerprinting(self.chunks))
        with ThreadPoolExecutor(jobs) as executor:
            sender = Sender(executor, jobs + 2)
            tasks: List[source.Task] = []
            for chunk in sorted(self.chunks, key=cost, reverse=True):
                if copies:
                    tasks.append(partial(self._copy, chunk, backup_id, sender, objects))
                if fingerprints:
                    tasks.append(partial(self._fingerprint, chunk))
            source.in_parallel(tasks, jobs, self.snapshot.reader)
        if fingerprints:
            for name, parts in self._parts.items():
                table = self.tables[name]
                table["rows"], table["fingerprint"] = fingerprint.combine(
                    [fingerprint.empty(self.snapshot.version), *parts]
                )
        return objects

    def _fingerprint(self, chunk: Chunk, session: Connection) -> None:
        with self._named(chunk):
            found = fingerprint_of(session, chunk, manifests.columns(self.tables[chunk.table]))
        progress.add(progress.FINGERPRINT, chunk.table, found.rows, cost(chunk))
        self._parts[chunk.table].append(found)

    def _copy(
        self,
        chunk: Chunk,
        backup_id: str,
        sender: Sender,
        objects: List[Tuple[Chunk, ObjectEntry]],
        session: Connection,
    ) -> None:
        compression = self.params["compression"]
        key = "{}{}/{:04d}.{}".format(
            store.prefix_of(self.root, backup_id),
            manifests.folder(chunk.table),
            chunk.number,
            EXTENSIONS[compression],
        )
        compress = compressor(compression, self.params["compression_level"])
        with Writer(self.bucket, key, sender, store.write_options(self.params)) as writer:
            counter = progress.counter(progress.BACK_UP, chunk.table)
            sink = _Sink(compress, writer, counter)
            cursor = session.cursor()
            with self._named(chunk):
                buffered = io.BufferedWriter(sink, PIECE)
                cursor.copy_expert(self._copy_statement(chunk), buffered)
            if cursor.rowcount:
                buffered.flush()
            counter.end(cursor.rowcount)
            if not cursor.rowcount:
                return
            writer.write(compress.flush())
            written = writer.finish()
        entry: ObjectEntry = {
            "key": key,
            "size": written.size,
            "sha256": written.sha256,
            "checksum_sha256": written.checksum_sha256,
            "etag": written.etag,
            "rows": cursor.rowcount,
            "bytes": sink.bytes,
            "relation": chunk.relation.label,
        }
        objects.append((chunk, entry))

    def _copy_statement(self, chunk: Chunk) -> Composed:
        condition = chunk.condition()
        names = [column["name"] for column in self.tables[chunk.table]["columns"]]
        columns = catalog.column_list(names)
        name = catalog.identifier(chunk.relation.schema, chunk.relation.name)
        if condition is None:
            what = sql.SQL("{} ({})").format(name, columns)
        else:
            what = sql.SQL("(SELECT {} FROM ONLY {} WHERE {})").format(columns, name, condition)
        return sql.SQL("COPY {} TO STDOUT (FORMAT csv, HEADER, ENCODING {})").format(
            what, sql.Literal(loading.encoding_for(self.snapshot.encoding))
        )

    @contextmanager
    def _named(self, chunk: Chunk) -> Iterator[None]:
        """Errors of the server about values that are too large say where the value is."""
        try:
            yield
        except psycopg2.Error as error:
            message = str(error)
            if error.pgcode != "54000" and "invalid memory alloc request size" not in message:
                raise
            raise InvalidInput(
                "table {}: {}; PostgreSQL cannot write a value or row of 1 GB or more as text, so "
                "it cannot be backed up by COPY: shorten or remove it".format(
                    chunk.table, self.oversized(chunk) or message.splitlines()[0]
                )
            ) from error

    def oversized(self, chunk: Chunk) -> str:
        """Which value of a chunk is too large for COPY, in words; empty when none is found."""
        columns = [
            column
            for column in self.tables[chunk.table]["columns"]
            if column["type"].partition("(")[0] in _TEXT_TYPES
        ]
        with self.snapshot.reader() as session:
            cursor = session.cursor()
            for column in columns:
                limit = _FIELD_LIMITS.get(column["type"], _FIELD_LIMIT)
                # The length of a TOASTed value is in its pointer: this reads no value.
                query = sql.SQL(
                    "SELECT ctid, octet_length({c}) FROM ONLY {t}"
                    " WHERE octet_length({c}) > {n} LIMIT 1"
                ).format(
                    c=sql.Identifier(column["name"]),
                    t=catalog.identifier(chunk.relation.schema, chunk.relation.name),
                    n=sql.Literal(limit // 2),
                )
                cursor.execute(query)
                row = cursor.fetchone()
                if row is not None:
                    return "column {} has a value of {} bytes in the row with ctid {}".format(
                        column["name"], row[1], row[0]
                    )
        return ""


class _Sink(io.RawIOBase):
    """Where COPY writes: counts and compresses into an object."""

    def __init__(self, compress: Any, writer: Writer, counter: progress.Counter) -> None:
        super().__init__()
        self._compress, self._writer, self._counter = compress, writer, counter
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = len(data)
        self.bytes += size
        out = self._compress.compress(data)
        if out:
            self._writer.write(out)
        self._counter.piece(data)
        return size


def compressor(compression: str, level: Optional[int]) -> Any:
    """An object with ``compress`` and ``flush`` for ``zstd`` or ``gzip``."""
    level = LEVELS[compression] if level is None else level
    if compression == "gzip":
        return zlib.compressobj(level, zlib.DEFLATED, 31)
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()


def _tools() -> Dict[str, str]:
    return {
        "python": platform.python_version(),
        "psycopg2": str(getattr(psycopg2, "__version__", "")).partition(" ")[0],
        "zstandard": getattr(zstandard, "__version__", ""),
    }
