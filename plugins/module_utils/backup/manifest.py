# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manifest of a backup: what it holds and how to know that it still does.

``schemas/backup_manifest.schema.json`` describes the same for other programs. A folder below the
backups' prefix is a backup exactly when it holds a manifest: it is written last.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime, timedelta
from typing import Any, Dict, List, Mapping, Optional, TypedDict
from urllib.parse import quote

from ..errors import InvalidInput
from ..fingerprint import Column
from ..progress import Total

FORMAT_VERSION = 1
FILE = "manifest.json"
#: The id of a backup that check mode predicts: the real one is a time.
PLANNED = "planned"
_ID_TIME = "%Y%m%dT%H%M%S"


class ColumnEntry(TypedDict):
    """A column; ``type`` as ``format_type`` writes it, ``default`` as SQL or empty."""

    name: str
    type: str
    not_null: bool
    default: str
    identity: str


class ObjectEntry(TypedDict):
    """A piece of a table on S3; ``relation`` is the partition or child that its rows were in."""

    key: str
    size: int
    sha256: str
    checksum_sha256: str
    etag: str
    rows: int
    bytes: int
    relation: str


class SequenceEntry(TypedDict):
    """A sequence that feeds ``column``, with its value."""

    schema: str
    name: str
    column: str
    last_value: int
    is_called: bool


class TableEntry(TypedDict):
    """A table; ``definition`` lists constraints and indexes as SQL, for people."""

    schema: str
    name: str
    kind: str
    columns: List[ColumnEntry]
    definition: List[str]
    rows: int
    fingerprint: str
    sequences: Dict[str, SequenceEntry]
    objects: List[ObjectEntry]


class Manifest(TypedDict):
    """A backup; ``run`` is the run marker of its snapshot (``marker.saved``), None without one.

    Manifests of older versions lack ``run``.
    """

    format_version: int
    backup_id: str
    bucket: str
    prefix: str
    planned: bool
    created: str
    label: str
    database: str
    server_version: str
    server_encoding: str
    snapshot_lsn: str
    compression: str
    tools: Dict[str, str]
    run: Optional[Dict[str, Any]]
    tables: Dict[str, TableEntry]


_REQUIRED: Dict[str, type] = {
    "backup_id": str,
    "bucket": str,
    "prefix": str,
    "compression": str,
    "tables": dict,
}
_TABLE_REQUIRED: Dict[str, type] = {
    "schema": str,
    "columns": list,
    "rows": int,
    "fingerprint": str,
    "sequences": dict,
    "objects": list,
}
_RUN_REQUIRED: Dict[str, type] = {
    "mode": str,
    "aoi_name": str,
    "aoi_index": int,
    "run_id": int,
    "applied_at": str,
    "made_with": dict,
}
_OBJECT_REQUIRED: Dict[str, type] = {"key": str, "size": int, "sha256": str, "rows": int}


def root(prefix: str) -> str:
    """The prefix of all backups of a host, with its slash: ``backups/database/HOST/``."""
    return prefix.strip("/") + "/"


def identity(params: Mapping[str, Any]) -> str:
    """Six hex digits of a database's address, part of the ids of its backups.

    The next run sees by it which unfinished backups are its own database's.
    """
    address = "{login_host}:{login_port}/{login_db}".format(**params)
    return hashlib.sha256(address.encode()).hexdigest()[:6]


def new_id(now: datetime, owner: str, others: List[str]) -> str:
    """An id that sorts after every one of ``others``, even when the clock went back."""
    times = [time for time in map(time_of, others) if time is not None]
    moment = max([now, *(time + timedelta(milliseconds=1) for time in times)])
    stamp = "{}{:03d}".format(moment.strftime(_ID_TIME), moment.microsecond // 1000)
    return "{}Z-{}-{}".format(stamp, owner, secrets.token_hex(2))


def time_of(backup_id: str) -> Optional[datetime]:
    """When a backup was begun (UTC), from its id; None when it is no id."""
    stamp = backup_id.partition("Z-")[0]
    try:
        moment = datetime.strptime(stamp[:15] + "+0000", _ID_TIME + "%z")  # noqa: DTZ007
        return moment.replace(microsecond=1000 * int(stamp[15:18]))
    except ValueError:
        return None


def owner_of(backup_id: str) -> str:
    """The ``identity`` in an id; empty when there is none."""
    parts = backup_id.split("-")
    return parts[1] if len(parts) > 2 else ""


def folder(table: str) -> str:
    """The name of a table's folder: characters that are trouble in keys and shells are encoded."""
    return quote(table, safe="")


def dumps(manifest: Manifest) -> bytes:
    """The manifest as it lies on S3."""
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def parse(body: bytes, where: str) -> Manifest:
    """A manifest from its text; ``where`` names it. InvalidInput when it cannot be used."""
    try:
        content = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "{} is not a manifest: {}; the backup cannot be used".format(where, error)
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("format_version"), int):
        raise InvalidInput("{} is not a manifest: it has no format_version".format(where))
    if content["format_version"] > FORMAT_VERSION:
        raise InvalidInput(
            "{} has format version {}, this version of runbook reads up to {}: use a newer "
            "runbook".format(where, content["format_version"], FORMAT_VERSION)
        )
    _require(content, _REQUIRED, where)
    if content.get("run") is not None:
        _require(content["run"], _RUN_REQUIRED, "{}, run".format(where))
        _require_time(content["run"]["applied_at"], where)
    for name, table in content["tables"].items():
        _require(table, _TABLE_REQUIRED, "{}, table {}".format(where, name))
        for entry in table["objects"]:
            _require(entry, _OBJECT_REQUIRED, "{}, an object of table {}".format(where, name))
    return content  # type: ignore[return-value]


def _require(content: Any, required: Mapping[str, type], where: str) -> None:
    for key, kind in required.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise InvalidInput(
                "{}: {} is missing or not of type {}; the backup cannot be used".format(
                    where, key, kind.__name__
                )
            )


def _require_time(text: str, where: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            "{}: applied_at of run is {!r}, which is no time; the backup cannot be used".format(
                where, text
            )
        ) from error


def columns(table: TableEntry) -> List[Column]:
    """A table's columns, as fingerprints take them."""
    return [Column(column["name"], column["type"]) for column in table["columns"]]


def state_of(table: TableEntry) -> Dict[str, Any]:
    """The key by which two backups of a table are the same: columns, rows and sequences."""
    return {
        "columns": [(column["name"], column["type"]) for column in table["columns"]],
        "rows": table["rows"],
        "fingerprint": table["fingerprint"],
        "sequences": {
            name: (entry["last_value"], entry["is_called"])
            for name, entry in table["sequences"].items()
        },
    }


def total(table: TableEntry) -> Total:
    """The size of a table when it is read back; unknown for the old backups."""
    if not table["fingerprint"]:
        return Total()
    return Total(table["rows"], sum(entry["bytes"] for entry in table["objects"]), exact=True)


def saved(tables: Mapping[str, TableEntry], before: Mapping[str, TableEntry]) -> str:
    """The tables of a new backup, a line each, beside those of the backup before it."""
    lines = []
    for name, table in sorted(tables.items()):
        old = before.get(name)
        lines.append(
            "{}: {:,} {}, {}\n".format(
                name,
                table["rows"],
                "row" if table["rows"] == 1 else "rows",
                "not in the backup before" if old is None else _compared(table, old),
            )
        )
    return "".join(lines)


def _compared(table: TableEntry, old: TableEntry) -> str:
    """How a table differs from the same one in the backup before."""
    now, then = state_of(table), state_of(old)
    if now == then:
        return "as in the backup before"
    found = []
    if now["rows"] != then["rows"]:
        found.append("{:,} in the backup before".format(old["rows"]))
    elif now["fingerprint"] != then["fingerprint"]:
        found.append("as many as in the backup before, but other values")
    for name, value in now["sequences"].items():
        if then["sequences"].get(name) != value:
            found.append("sequence {} at {}".format(name, value[0]))
    if now["columns"] != then["columns"]:
        found.append("columns changed")
    return ", ".join(found) or "sequences changed"


def digest(tables: Mapping[str, TableEntry]) -> str:
    """The identity of the content of tables."""
    text = json.dumps({name: state_of(table) for name, table in tables.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
