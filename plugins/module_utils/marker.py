# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The run marker: one row in ``runbook.run_marker`` for each run that was applied.

Written inside the run's transaction, so it is there exactly when the run is. The newest row is the
run in place. ``pending_uploads`` holds, from the commit until they are completed, the tokens of the
run's S3 objects (``staged_upload.Staged``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from .staged_upload import Staged

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

TABLE = "run_marker"
COLUMNS = ("mode", "aoi_name", "aoi_index", "run_id")
DEFINITION = """(
    id serial PRIMARY KEY,
    mode text NOT NULL,
    aoi_name text NOT NULL,
    aoi_index integer NOT NULL,
    run_id integer NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    applied_by text NOT NULL,
    backup_id text,
    pending_uploads text
)"""


def exists(cursor: Cursor) -> bool:
    """Whether any run was ever applied here."""
    cursor.execute("SELECT to_regclass('runbook.run_marker') IS NOT NULL")
    row = cursor.fetchone()
    return bool(row and row[0])


def current(cursor: Cursor) -> Optional[Dict[str, Any]]:
    """The run in place, its columns by name (times as ISO texts); None when there is none."""
    if not exists(cursor):
        return None
    cursor.execute(
        "SELECT mode, aoi_name, aoi_index, run_id, applied_at, applied_by, backup_id,"
        " pending_uploads IS NOT NULL FROM runbook.run_marker ORDER BY id DESC LIMIT 1"
    )
    row = cursor.fetchone()
    if row is None:
        return None
    names = (*COLUMNS, "applied_at", "applied_by", "backup_id", "uploads_pending")
    found = dict(zip(names, row))
    found["applied_at"] = found["applied_at"].isoformat()
    return found


def pending(cursor: Cursor) -> Dict[int, List[Staged]]:
    """By the marker's id, the uploads that were staged but are not known to be completed."""
    if not exists(cursor):
        return {}
    cursor.execute(
        "SELECT id, pending_uploads FROM runbook.run_marker"
        " WHERE pending_uploads IS NOT NULL ORDER BY id"
    )
    return {row: [Staged(**token) for token in json.loads(text)] for row, text in cursor.fetchall()}


def set_pending(cursor: Cursor, row: int, uploads: Sequence[Staged]) -> None:
    """Note in a marker the uploads that are to be completed; with none, that all are."""
    text = json.dumps([upload.token() for upload in uploads]) if uploads else None
    cursor.execute("UPDATE runbook.run_marker SET pending_uploads = %s WHERE id = %s", (text, row))
