"""Progress of a backup and a restore: right at the end, and no file left."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, progress
from ansible_collections.labeller.runbook.plugins.module_utils.backup import store
from ansible_collections.labeller.runbook.plugins.modules import s3_table_backup
from backup_support import SCHEMA, execute, keys, parameters, s3

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = {"worker_data": 40, "hit_data": 300, "assignment_data": 2000}


class Told:
    """Every version of the progress file of one call."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.versions: list[dict[str, Any]] = []
        replace = os.replace
        lock = threading.Lock()

        def kept(source: Any, target: Any) -> None:
            if target == str(path):
                with lock:
                    self.versions.append(json.loads(Path(source).read_text())["tables"])
            replace(source, target)

        monkeypatch.setattr(os, "replace", kept)

    def last(self, phase: str) -> dict[str, Any]:
        """The last that was said of each table in a phase."""
        return {
            name: table
            for version in self.versions
            for name, table in version.items()
            if table["phase"] == phase
        }


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(tmp_path / "progress", monkeypatch)


@pytest.fixture
def params(
    database: dict[str, Any], aws: dict[str, Any], bucket: str, told: Told
) -> dict[str, Any]:
    execute(database, SCHEMA)
    execute(database, "ANALYZE")
    return parameters(database, aws, bucket, progress=str(told.path))


def rows(tables: Mapping[str, Any]) -> dict[str, int]:
    assert all(table["done"] for table in tables.values())
    return {name: table["rows"] for name, table in tables.items()}


def test_a_backup_counts_what_it_copies(params: dict[str, Any], told: Told) -> None:
    made = s3_table_backup.logic(params, False)
    copied = told.last(progress.BACK_UP)
    assert rows(copied) == ROWS
    for name, table in made["manifest"]["tables"].items():
        assert copied[name]["bytes"] == sum(entry["bytes"] for entry in table["objects"])
        assert (copied[name]["total_rows"], copied[name]["exact"]) == (ROWS[name], False)
    assert not list(told.path.parent.glob("progress*"))
    told.versions.clear()
    execute(params, "DELETE FROM hit_data h WHERE hit_id > 200 AND NOT EXISTS"
            " (SELECT 1 FROM assignment_data a WHERE a.hit_id = h.hit_id)")  # fmt: skip
    execute(params, "DELETE FROM assignment_data WHERE assignment_id > 1990")
    s3_table_backup.logic({**params, "verify": "deep"}, False)
    now = {**ROWS, "assignment_data": 1990}
    assert rows(told.last(progress.FINGERPRINT)) == now
    copied = told.last(progress.BACK_UP)
    assert rows(copied) == now
    assert all(table["exact"] for table in copied.values())
    assert rows(told.last(progress.VERIFY)) == now


def test_a_check_counts_what_it_fingerprints(params: dict[str, Any], told: Told) -> None:
    s3_table_backup.logic(params, True)
    assert rows(told.last(progress.FINGERPRINT)) == ROWS
    for table in told.last(progress.FINGERPRINT).values():
        assert 0 < table["bytes"] == table["total_bytes"]
    assert not list(told.path.parent.glob("progress*"))


@pytest.mark.parametrize("empty", [True, False])
def test_a_restore_counts_what_it_loads(params: dict[str, Any], told: Told, empty: bool) -> None:
    made = s3_table_backup.logic(params, False)["manifest"]["tables"]["assignment_data"]
    execute(params, f"DELETE FROM assignment_data WHERE {empty} OR assignment_id > 5")
    told.versions.clear()
    s3_table_backup.logic({**params, "state": "restored"}, False)
    loaded = told.last(progress.RESTORE)
    assert rows(loaded) == {"assignment_data": 2000}
    size = sum(entry["bytes"] for entry in made["objects"])
    table = loaded["assignment_data"]
    assert (table["bytes"], table["total_bytes"], table["exact"]) == (size, size, True)
    assert rows(told.last(progress.FINGERPRINT))["hit_data"] == 300
    assert rows(told.last(progress.COMPARE)) == {"assignment_data": 0}
    assert bool(told.last(progress.FILL)) != empty  # an empty table is loaded, not filled
    assert not list(told.path.parent.glob("progress*"))


def test_a_failure_leaves_no_file(
    params: dict[str, Any],
    aws: dict[str, Any],
    bucket: str,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3_table_backup.logic(params, False)
    execute(params, "DELETE FROM assignment_data")
    (key,) = (key for key in keys(aws, bucket) if "assignment_data/" in key)
    s3(aws).put_object(Bucket=bucket, Key=key, Body=b"x")
    monkeypatch.setattr(store, "problems", lambda *_: [])  # so that it fails while loading
    told.versions.clear()
    with pytest.raises(errors.ModuleFailure, match="is not what was written"):
        s3_table_backup.logic({**params, "state": "restored"}, False)
    assert not told.last(progress.RESTORE)["assignment_data"]["done"]
    assert not list(told.path.parent.glob("progress*"))
