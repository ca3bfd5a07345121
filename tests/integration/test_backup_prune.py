"""s3_table_backup, state absent: retention, and what it never removes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import backup, backup_prune, errors
from backup_support import PREFIX, execute, keys, parameters, s3


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(database, "CREATE TABLE t (id int)")
    return parameters(database, aws, bucket, tables=["t"])


def make(params: dict[str, Any], count: int) -> list[str]:
    """Some backups, the newest first."""
    found = []
    for _ in range(count):
        execute(params, "INSERT INTO t VALUES (1)")
        found.append(backup.present(params, False)["backup_id"])
    return found[::-1]


def absent(params: dict[str, Any], **options: Any) -> Any:
    planned = backup_prune.absent({**params, **options}, True)
    done = backup_prune.absent({**params, **options}, False)
    assert (planned["removed"], planned["diff"]) == (done["removed"], done["diff"])
    return done


def test_keep_the_newest(params: dict[str, Any], aws: Any, bucket: str) -> None:
    ids = make(params, 4)
    done = absent(params, keep=2)
    assert done["removed"] == ids[2:]
    assert {key.split("/")[3] for key in keys(aws, bucket, PREFIX)} == set(ids[:2])
    assert not absent(params, keep=2)["changed"]


def test_the_newest_good_one_always_stays(params: dict[str, Any], aws: Any, bucket: str) -> None:
    ids = make(params, 3)
    damaged = list(keys(aws, bucket, f"{PREFIX}/{ids[0]}/t"))
    s3(aws).delete_object(Bucket=bucket, Key=damaged[0])
    done = absent(params, keep=0)
    assert done["kept"] == {ids[1]: "the newest good backup"}
    assert done["removed"] == [ids[0], ids[2]]
    with pytest.raises(errors.Refused, match="the newest good backup"):
        backup_prune.absent({**params, "backup_id": ids[1]}, False)


def test_marker_and_protect_are_heeded(params: dict[str, Any]) -> None:
    ids = make(params, 4)
    execute(params, "CREATE SCHEMA runbook; CREATE TABLE runbook.run_marker (backup_id text)")
    execute(params, "INSERT INTO runbook.run_marker VALUES (%s), (NULL), ('')", ids[3])
    done = absent(params, keep=1, protect=[ids[2]])
    assert done["removed"] == [ids[1]]
    assert done["kept"][ids[3]] == "named by the run marker"
    with pytest.raises(errors.Refused, match="run marker"):
        backup_prune.absent({**params, "backup_id": ids[3]}, False)


def test_one_backup_by_name(params: dict[str, Any]) -> None:
    ids = make(params, 2)
    assert absent(params, backup_id=ids[1])["removed"] == [ids[1]]
    assert not absent(params, backup_id=ids[1])["changed"]


def test_retention_must_be_said(params: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput, match="say which backups"):
        backup_prune.absent(params, False)


def test_days_and_number_together() -> None:
    ids = [f"2026011{day}T000000000Z-aaaaaa-0000" for day in (9, 8, 5, 1)]
    now = datetime(2026, 1, 20, tzinfo=UTC)
    assert list(backup_prune.retained(ids, 1, None, {}, now)) == ids[:1]
    assert list(backup_prune.retained(ids, None, 3, {}, now)) == ids[:2]
    assert list(backup_prune.retained(ids, 3, 3, {}, now)) == ids[:3]
    assert list(backup_prune.retained(ids, None, 3, {ids[3]: "x"}, now)) == [*ids[:2], ids[3]]


def test_a_removal_that_was_cut_short_leaves_no_half_backup(
    params: dict[str, Any], aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = make(params, 2)
    calls = []

    def delete(self: Any, names: list[str]) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(names)
        original(self, names)

    original = backup_prune.Bucket.delete
    monkeypatch.setattr(backup_prune.Bucket, "delete", delete)
    with pytest.raises(KeyboardInterrupt):
        backup_prune.absent({**params, "keep": 1}, False)
    monkeypatch.undo()
    assert f"{PREFIX}/{ids[1]}/t/0000.csv.zst" in keys(aws, bucket)
    assert list(absent(params, keep=5)["kept"]) == ids[:1]  # without its manifest it is no backup
    make(params, 1)  # the next run removes the rest of it
    assert not keys(aws, bucket, f"{PREFIX}/{ids[1]}")
