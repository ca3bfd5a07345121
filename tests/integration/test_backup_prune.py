"""s3_table_backup, state absent: retention, and what it never removes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, held, s3
from ansible_collections.labeller.runbook.plugins.module_utils.backup import (
    make,
    manifest,
    prune,
    source,
    store,
)
from backup_support import PREFIX, execute, keys, parameters
from backup_support import s3 as client


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(database, "CREATE TABLE t (id int)")
    return parameters(database, aws, bucket, tables=["t"])


def backups(params: dict[str, Any], count: int) -> list[str]:
    """Some backups, the newest first."""
    found = []
    for _ in range(count):
        execute(params, "INSERT INTO t VALUES (1)")
        found.append(make.present(params, False)["backup_id"])
    return found[::-1]


def absent(params: dict[str, Any], **options: Any) -> Any:
    planned = prune.absent({**params, **options}, True)
    done = prune.absent({**params, **options}, False)
    assert (planned["removed"], planned["diff"]) == (done["removed"], done["diff"])
    return done


def test_keep_the_newest(params: dict[str, Any], aws: Any, bucket: str) -> None:
    ids = backups(params, 4)
    done = absent(params, keep=2)
    assert done["removed"] == ids[2:]
    assert {key.split("/")[3] for key in keys(aws, bucket, PREFIX)} == set(ids[:2])
    assert not absent(params, keep=2)["changed"]


def test_the_newest_good_one_always_stays(params: dict[str, Any], aws: Any, bucket: str) -> None:
    ids = backups(params, 3)
    damaged = list(keys(aws, bucket, f"{PREFIX}/{ids[0]}/t"))
    client(aws).delete_object(Bucket=bucket, Key=damaged[0])
    done = absent(params, keep=0)
    assert done["kept"] == {ids[1]: "the newest good backup"}
    assert done["removed"] == [ids[0], ids[2]]
    with pytest.raises(errors.Refused, match="the newest good backup"):
        prune.absent({**params, "backup_id": ids[1]}, False)


def test_a_manifest_that_cannot_be_used_is_no_good_backup(
    params: dict[str, Any], aws: Any, bucket: str
) -> None:
    ids = backups(params, 3)
    for backup_id, body in ((ids[0], b'{"format_version": 2}'), (ids[1], b"cut o")):
        client(aws).put_object(Bucket=bucket, Key=f"{PREFIX}/{backup_id}/manifest.json", Body=body)
    done = absent(params, keep=0)
    assert done["kept"] == {ids[2]: "the newest good backup"}


def test_marker_and_protect_are_heeded(params: dict[str, Any]) -> None:
    ids = backups(params, 4)
    execute(params, "CREATE SCHEMA runbook; CREATE TABLE runbook.run_marker (backup_id text)")
    execute(params, "INSERT INTO runbook.run_marker VALUES (%s), (NULL), ('')", ids[3])
    done = absent(params, keep=1, protect=[ids[2]])
    assert done["removed"] == [ids[1]]
    assert done["kept"][ids[3]] == "named by the run marker"
    with pytest.raises(errors.Refused, match="run marker"):
        prune.absent({**params, "backup_id": ids[3]}, False)


def test_one_backup_by_name(params: dict[str, Any]) -> None:
    ids = backups(params, 2)
    assert absent(params, backup_id=ids[1])["removed"] == [ids[1]]
    assert not absent(params, backup_id=ids[1])["changed"]


def test_retention_must_be_said(params: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput, match="say which backups"):
        prune.absent(params, False)


def test_nothing_is_removed_while_a_backup_runs(params: dict[str, Any], bucket: str) -> None:
    ids = backups(params, 2)
    with source.exclusively(params, bucket, manifest.root(PREFIX)):
        with pytest.raises(errors.Locked, match="another backup"):
            prune.absent({**params, "keep": 1}, False)
        assert prune.absent({**params, "keep": 1}, True)["removed"] == ids[1:]


def test_what_is_removed_is_what_was_planned(params: dict[str, Any]) -> None:
    ids = backups(params, 2)
    planned = held.of_result(prune.absent({**params, "keep": 1}, True))
    ids = backups(params, 1) + ids
    with pytest.raises(errors.Stale, match=f"found .*{ids[1]}"):
        prune.absent({**params, "keep": 1, "planned": planned}, False)
    done = prune.absent({**params, "keep": 2, "planned": planned}, False)
    assert done["removed"] == [ids[2]]


def test_a_bucket_that_is_not_there_is_named(params: dict[str, Any]) -> None:
    for check_mode in (True, False):
        with pytest.raises(errors.InvalidInput, match="bucket nosuchbucket-x does not exist"):
            prune.absent({**params, "bucket": "nosuchbucket-x", "keep": 1}, check_mode)


def test_days_and_number_together() -> None:
    ids = [f"2026011{day}T000000000Z-aaaaaa-0000" for day in (9, 8, 5, 1)]
    now = datetime(2026, 1, 20, tzinfo=UTC)
    assert list(prune.retained(ids, 1, None, {}, now)) == ids[:1]
    assert list(prune.retained(ids, None, 3, {}, now)) == ids[:2]
    assert list(prune.retained(ids, 3, 3, {}, now)) == ids[:3]
    assert list(prune.retained(ids, None, 3, {ids[3]: "x"}, now)) == [*ids[:2], ids[3]]


def test_a_removal_that_was_cut_short_leaves_no_half_backup(
    params: dict[str, Any], aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = backups(params, 2)
    calls = []

    def delete(self: Any, names: list[str]) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(names)
        original(self, names)

    original = prune.Bucket.delete
    monkeypatch.setattr(prune.Bucket, "delete", delete)
    with pytest.raises(KeyboardInterrupt):
        prune.absent({**params, "keep": 1}, False)
    monkeypatch.undo()
    assert f"{PREFIX}/{ids[1]}/t/0000.csv.zst" in keys(aws, bucket)
    assert list(absent(params, keep=5)["kept"]) == ids[:1]  # without its manifest it is no backup
    backups(params, 1)  # the next run removes the rest of it
    assert not keys(aws, bucket, f"{PREFIX}/{ids[1]}")


def test_what_other_databases_left_goes_after_a_day(
    aws: dict[str, Any], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the last sign of life: its beginning, an object, an upload."""
    held, root = s3.Bucket(bucket, aws), manifest.root(PREFIX)
    key = f"{PREFIX}/20200101T000000000Z-ffffff-0000/t/0000.csv.zst"
    client(aws).put_object(Bucket=bucket, Key=key, Body=b"half")
    now = store.utc_now()
    later = now + timedelta(days=2)
    assert store.leftovers(held, root, "aaaaaa", now) == ([], [])
    assert store.leftovers(held, root, "aaaaaa", later) == ([key], [])
    assert store.leftovers(held, root, "ffffff", now) == ([key], [])
    young = s3.Upload(key, "id", later)  # moto's uploads are all of 2010
    monkeypatch.setattr(held, "uploads", lambda _: [young])
    assert store.leftovers(held, root, "aaaaaa", later) == ([], [])
    assert store.leftovers(held, root, "ffffff", later) == ([key], [young])


def test_ids_sort_by_time_even_when_the_clock_went_back() -> None:
    now = datetime(2026, 1, 14, 9, 30, 12, 123456, tzinfo=UTC)
    first = manifest.new_id(now, "3f9a1c", [])
    assert first.startswith("20260114T093012123Z-3f9a1c-")
    assert manifest.new_id(now - timedelta(hours=1), "3f9a1c", ["other", first]) > first
    assert manifest.time_of(first) == now.replace(microsecond=123000)
    assert manifest.owner_of(first) == "3f9a1c"
