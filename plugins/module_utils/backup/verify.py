# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a backup is what it says: by S3's checksums, or by reading and counting every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping

from .. import fingerprint, postgres, progress
from ..errors import InvalidInput, ModuleFailure, Unreachable
from ..module import Params, Plan, composed, unchanging
from ..s3 import Bucket
from . import load as loading
from . import manifest as manifests
from . import origin as origins
from . import store

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from ..fingerprint import Fingerprint
    from .manifest import Manifest

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def problems(
    params: Mapping[str, Any], bucket: Bucket, manifest: Manifest, verify: str
) -> List[str]:
    """The problems of a backup. ``verify`` is ``head`` or ``deep``."""
    found = store.problems(bucket, manifest)
    if verify == "head" or found:
        return found
    with postgres.connect(params) as session:
        cursor = session.cursor()
        for name, table in sorted(manifest["tables"].items()):
            said = (table["rows"], table["fingerprint"])
            try:
                held = _read_back(bucket, cursor, manifest, name)
            except Unreachable:  # that says nothing about the backup
                raise
            except ModuleFailure as error:
                found.append("table {}: {}".format(name, error))
            else:
                if held != said:
                    found.append(
                        "table {}: its objects hold {} rows, {}; the manifest says {}, {}".format(
                            name, *held, *said
                        )
                    )
            session.rollback()
    return found


def _read_back(bucket: Bucket, cursor: Cursor, manifest: Manifest, name: str) -> Fingerprint:
    """Load a table's objects into a temporary table, and see what it holds."""
    table, stage = manifest["tables"][name], "runbook_verify"
    columns = [column["name"] for column in table["columns"]]
    loading.create_stage(cursor, stage, columns)
    with progress.loading(progress.VERIFY, name, manifests.total(table)):
        loading.load(
            bucket,
            cursor,
            loading.stage(stage),
            columns,
            table["objects"],
            manifest["compression"],
            loading.encoding_for(manifest["server_encoding"]),
        )
    typed, known = manifests.columns(table), table["fingerprint"]
    return fingerprint.of_columns(cursor, loading.STAGES, stage, typed, like=known)


def observe(params: Params) -> Mapping[str, Any]:
    """The backups below a prefix, or one of them with its manifest."""
    bucket, root = Bucket(params["bucket"], params), manifests.root(params["prefix"])
    bucket.check()
    if params["backup_id"]:
        found = origins.located(bucket, root, params["backup_id"])
        if isinstance(found, store.OldFolder):
            row, manifest = _old_row(params, bucket, root, found), _described(bucket, root, found)
            return {"backups": [row], "manifest": manifest}
        return {"backups": [_row(params, bucket, found)], "manifest": found}
    rows = []
    for backup_id in store.ids(bucket, root):
        try:
            held = store.load(bucket, root, backup_id)
        except InvalidInput as error:
            rows.append(_broken(backup_id, str(error), finished=True))
            continue
        if held is None:
            problem = "it was never finished: it has no manifest"
            rows.append(_broken(backup_id, problem, finished=False))
        else:
            rows.append(_row(params, bucket, held))
    for folder in reversed(store.old_folders(bucket, root)):
        later = [row for row in rows if not store.precedes(row["backup_id"], folder)]
        rows.insert(len(later), _old_row(params, bucket, root, folder))
    old_location = "" if rows else store.old_location(bucket, root)
    return {"backups": rows, "old_location": old_location}


info = composed(observe, lambda found, _params: Plan([], found), unchanging)


def _row(params: Mapping[str, Any], bucket: Bucket, manifest: Manifest) -> Dict[str, Any]:
    tables = manifest["tables"].values()
    verify = params["verify"]
    wrong = [] if verify == "none" else problems(params, bucket, manifest, verify)
    return {
        "backup_id": manifest["backup_id"],
        "finished": True,
        "intact": None if verify == "none" else not wrong,
        "created": manifest.get("created", ""),
        "database": manifest.get("database", ""),
        "tables": len(tables),
        "rows": sum(table["rows"] for table in tables),
        "bytes": sum(entry["size"] for table in tables for entry in table["objects"]),
        "problems": wrong,
    }


def _old_row(
    params: Mapping[str, Any], bucket: Bucket, root: str, folder: store.OldFolder
) -> Dict[str, Any]:
    """A folder of the old scripts; how many rows it holds is known only after a deep look."""
    names, verify, rows = list(folder.keys), params["verify"], None
    wrong = [] if verify == "none" else origins.cut_off(bucket, folder, names)
    if verify == "deep" and not wrong:
        rows = 0
        for name in names:
            try:
                rows += origins.OldBackup(bucket, root, folder, [name]).count(name)
            except Unreachable:
                raise
            except ModuleFailure as error:
                wrong.append("table {}: {}".format(name, error))
    return {
        "backup_id": folder.backup_id,
        "finished": True,
        "intact": None if verify == "none" else not wrong,
        "created": folder.written.strftime(_TIME),
        "database": "",
        "tables": len(names),
        "rows": rows,
        "bytes": sum(folder.sizes.values()),
        "problems": wrong,
    }


def _described(bucket: Bucket, root: str, folder: store.OldFolder) -> Dict[str, Any]:
    """A manifest of a folder of the old scripts, as far as it is known without reading it."""
    return {
        "backup_id": folder.backup_id,
        "bucket": bucket.name,
        "prefix": store.prefix_of(root, folder.backup_id),
        "created": folder.written.strftime(_TIME),
        "tables": {
            name: {
                "rows": None,
                "fingerprint": "",
                "sequences": {},
                "objects": [{"key": key, "size": folder.sizes[name]}],
            }
            for name, key in folder.keys.items()
        },
    }


def _broken(backup_id: str, problem: str, *, finished: bool) -> Dict[str, Any]:
    return {
        "backup_id": backup_id,
        "finished": finished,
        "intact": False,
        "created": "",
        "database": "",
        "tables": 0,
        "rows": 0,
        "bytes": 0,
        "problems": [problem],
    }
