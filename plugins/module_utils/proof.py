# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a backup holds every row of a table: what pg_clear asks before it deletes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, List, Mapping

from . import aws
from .errors import ModuleFailure, Refused

if TYPE_CHECKING:
    from .fingerprint import Fingerprint
    from .step import Transaction

_WAY_OUT = "make a backup (s3_table_backup) and give its manifest, or set unprotected: true"


def require(tx: Transaction, manifest: Mapping[str, Any], live: Mapping[str, Fingerprint]) -> None:
    """Return when the backup proves the ``live`` tables, else raise Refused with all reasons.

    A table without rows needs no proof. In check mode the manifest may be one that is only planned:
    the daemons still work then, and the real one is made after they are stopped; so its rows are
    not compared with the live ones. When applied, the manifest on S3 must be the one given, and its
    objects must be there with their sizes.
    """
    tables = {name: state for name, state in live.items() if state.rows}
    if not tables:
        return
    if not manifest:
        raise Refused(
            "{}: no backup is given, and rows would be deleted: {}; {}".format(
                tx.database, _listed(tables), _WAY_OUT
            )
        )
    planned = bool(manifest.get("planned"))
    if planned and not tx.check:
        raise Refused("the backup is only planned; {}".format(_WAY_OUT))
    try:
        problems = _uncovered(manifest, tables, planned=planned)
        if not problems and not planned:
            problems = _missing(tx, manifest, tables)
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused("the backup is no manifest: {!r}; {}".format(error, _WAY_OUT)) from error
    if problems:
        raise Refused(
            "backup {} does not prove what would be deleted from {}: {}; nothing was changed, "
            "{}".format(manifest.get("backup_id"), tx.database, "; ".join(problems), _WAY_OUT)
        )


def _listed(tables: Mapping[str, Fingerprint]) -> str:
    return ", ".join("{:,} of {}".format(state.rows, name) for name, state in tables.items())


def _uncovered(
    manifest: Mapping[str, Any], tables: Mapping[str, Fingerprint], *, planned: bool
) -> List[str]:
    problems = []
    for name, state in tables.items():
        entry = manifest["tables"].get(name)
        if entry is None:
            problems.append("table {} is not in it".format(name))
        elif planned:
            continue
        elif entry["rows"] != state.rows:
            problems.append(
                "table {} has {:,} rows, the backup {:,}".format(name, state.rows, entry["rows"])
            )
        elif entry["fingerprint"] != state.fingerprint:
            problems.append(
                "table {} has {:,} rows like the backup, but other content".format(name, state.rows)
            )
    return problems


def _missing(
    tx: Transaction, manifest: Mapping[str, Any], tables: Mapping[str, Fingerprint]
) -> List[str]:
    """The objects of the backup that S3 lacks."""
    bucket, prefix = manifest["bucket"], manifest["prefix"]
    key = "{}manifest.json".format(prefix)
    name = "s3://{}/{}".format(bucket, key)
    try:
        with aws.translated("read {}".format(name)):
            stored = json.loads(tx.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except (ModuleFailure, ValueError, RecursionError) as error:
        return ["its manifest cannot be read: {}".format(error)]
    if stored != json.loads(json.dumps(manifest)):
        return ["{} is not the manifest that was given".format(name)]
    sizes = {entry["Key"]: entry["Size"] for entry in aws.objects(tx.s3, bucket, prefix)}
    problems = []
    for table in tables:
        entry = manifest["tables"][table]
        if sum(item["rows"] for item in entry["objects"]) != entry["rows"]:
            problems.append("the objects of table {} do not hold its rows".format(table))
        problems += [
            "s3://{}/{} has {} bytes instead of {}".format(
                bucket, item["key"], sizes.get(item["key"], "no"), item["size"]
            )
            for item in entry["objects"]
            if sizes.get(item["key"]) != item["size"]
        ]
    return problems
