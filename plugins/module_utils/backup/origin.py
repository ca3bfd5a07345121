# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a restore's rows come from: a backup in runbook's format, or the old TABLE.sql files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Union

from ..errors import InvalidInput, ModuleFailure
from . import catalog, store
from . import dump as dumps
from . import load as loading

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable

    from ..s3 import Bucket
    from .manifest import Manifest, TableEntry


class Origin:
    """A backup to restore from: its tables, and how their rows get into a stage."""

    backup_id: str
    label: str
    tables: Dict[str, TableEntry]
    #: What the backup says the run of its tables was (``marker.saved``).
    run: Optional[Dict[str, Any]] = None

    def problems(self, names: Sequence[str]) -> List[str]:
        """The problems of the objects of some tables, without reading them through."""
        raise NotImplementedError

    def load(self, cursor: Cursor, name: str, stages: Mapping[str, str]) -> None:
        """Load a table's rows into its stages."""
        raise NotImplementedError

    def load_into(
        self, cursor: Cursor, name: str, table: Composable, columns: Sequence[str], relation: str
    ) -> None:
        """Load a table's rows, or those of one ``relation``, into columns in the backup's order."""
        raise NotImplementedError


class WholeBackup(Origin):
    """A backup in runbook's own format."""

    def __init__(self, bucket: Bucket, manifest: Manifest) -> None:
        self._bucket, self._manifest = bucket, manifest
        self.backup_id, self.tables = manifest["backup_id"], manifest["tables"]
        self.label = bucket.url(manifest["prefix"])
        self.run = manifest.get("run")

    def problems(self, names: Sequence[str]) -> List[str]:
        """As S3 reports the objects."""
        some = {name: self.tables[name] for name in names}
        return store.problems(self._bucket, {**self._manifest, "tables": some})

    def load(self, cursor: Cursor, name: str, stages: Mapping[str, str]) -> None:
        """The objects of each relation into its stage."""
        columns = [column["name"] for column in self.tables[name]["columns"]]
        for relation, stage in stages.items():
            only = relation if len(stages) > 1 else ""
            self.load_into(cursor, name, loading.stage(stage), columns, only)

    def load_into(
        self, cursor: Cursor, name: str, table: Composable, columns: Sequence[str], relation: str
    ) -> None:
        """The objects of a table, or of one of its relations."""
        entries = self.tables[name]["objects"]
        loading.load(
            self._bucket,
            cursor,
            table,
            columns,
            [entry for entry in entries if relation in ("", entry["relation"])],
            self._manifest["compression"],
            loading.encoding_for(self._manifest["server_encoding"]),
        )


def cut_off(bucket: Bucket, folder: store.OldFolder, names: Sequence[str]) -> List[str]:
    """The files of some tables that pg_dump did not write to their end."""
    found = []
    for name in names:
        where = bucket.url(folder.keys[name])
        if not folder.sizes[name]:
            found.append("{} is empty: pg_dump failed".format(where))
        elif dumps.COMPLETE not in bucket.tail(folder.keys[name], 400):
            found.append("{} was cut off: it does not end as pg_dump ends a file".format(where))
    return found


class OldBackup(Origin):
    """A folder of TABLE.sql files; without ``names``, all of them."""

    def __init__(
        self, bucket: Bucket, root: str, folder: store.OldFolder, names: Sequence[str]
    ) -> None:
        self._bucket, self.backup_id, self._folder = bucket, folder.backup_id, folder
        self.label = bucket.url(store.prefix_of(root, folder.backup_id))
        self._keys = folder.keys
        self.tables = {}
        for name in names or self._keys:
            if name in self._keys:
                self.tables[name] = self._entry(name)

    def problems(self, names: Sequence[str]) -> List[str]:
        """Files that were cut off."""
        return cut_off(self._bucket, self._folder, names)

    def count(self, name: str) -> int:
        """The rows of a table, by reading its file to the end."""
        dump = self._dump(name)
        self._block(dump, name)
        rows = sum(piece.count(b"\n") for piece in dump.rows())
        dump.rest()
        if not dump.complete:
            raise ModuleFailure("{} was cut off".format(dump.where))
        return rows

    def load(self, cursor: Cursor, name: str, stages: Mapping[str, str]) -> None:
        """The rows of its COPY block; then the values of its sequences are known."""
        (stage,) = stages.values()
        dump = self._dump(name)
        block = self._block(dump, name)
        options = "FORMAT text, ENCODING '{}'".format(block.encoding)
        rows = loading.copy_in(cursor, loading.stage(stage), block.columns, dump.rows(), options)
        dump.rest()
        if not dump.complete:
            raise ModuleFailure("{} was cut off".format(dump.where))
        self.tables[name]["rows"] = rows
        for (schema, sequence), (value, called) in dump.sequences.items():
            self.tables[name]["sequences"][catalog.label(schema, sequence)] = {
                "schema": schema,
                "name": sequence,
                "column": "",
                "last_value": value,
                "is_called": called,
            }

    def _entry(self, name: str) -> TableEntry:
        block = self._block(self._dump(name), name)
        return {
            "schema": block.schema,
            "name": block.table,
            "kind": "table",
            "columns": [
                {"name": column, "type": "", "not_null": False, "default": "", "identity": ""}
                for column in block.columns
            ],
            "definition": [],
            "rows": 0,
            "fingerprint": "",
            "sequences": {},
            "objects": [],
        }

    def _dump(self, name: str) -> dumps.Dump:
        key = self._keys[name]
        return dumps.Dump(self._bucket.stream(key), self._bucket.url(key))

    def _block(self, dump: dumps.Dump, name: str) -> dumps.Block:
        # pg_dump -t takes a pattern, so a file may hold other tables too
        while True:
            block = dump.block()
            if name in (block.table, catalog.label(block.schema, block.table)):
                return block
            for _ in dump.rows():
                pass


def find(bucket: Bucket, root: str, backup_id: str, names: Sequence[str]) -> Origin:
    """The backup of this id, to restore some of its tables. Raises InvalidInput without one."""
    found = located(bucket, root, backup_id)
    if isinstance(found, store.OldFolder):
        return OldBackup(bucket, root, found, names)
    return WholeBackup(bucket, found)


def located(bucket: Bucket, root: str, backup_id: str) -> Union[Manifest, store.OldFolder]:
    """The backup of this id; for ``newest`` and for a date, the newest one of either format.

    Raises InvalidInput when there is none.
    """
    held: Optional[Manifest] = None
    old: Optional[store.OldFolder] = None
    if backup_id == "newest":
        held = store.newest(bucket, root)
        old = next(iter(store.old_folders(bucket, root)), None)
    elif store.is_day(backup_id):
        held = store.newest(bucket, root, backup_id)
        old = store.old_folder(bucket, root, backup_id)
    else:
        held = store.load(bucket, root, backup_id)
        old = store.old_folder(bucket, root, backup_id) if held is None else None
    if old is not None and (held is None or store.precedes(held["backup_id"], old)):
        return old
    return held or store.named(bucket, root, backup_id)


def wanted(origin: Origin, names: Sequence[str]) -> List[str]:
    """The tables to restore: those named, else all. Raises InvalidInput for unknown ones."""
    missing = [name for name in names or () if name not in origin.tables]
    if missing:
        raise InvalidInput(
            "backup {} has no table {}; it holds {}".format(
                origin.label, ", ".join(missing), ", ".join(sorted(origin.tables))
            )
        )
    return list(dict.fromkeys(names or origin.tables))
