"""Verification of backups: each is reported as intact or with its problems, never as an error."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws as aws_clients
from ansible_collections.labeller.runbook.plugins.module_utils import errors, s3
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, manifest, verify
from backup_support import PREFIX, SCHEMA, content, execute, parameters
from backup_support import s3 as client
from faulty import Fault, Proxy, on


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(database, SCHEMA)
    return parameters(database, aws, bucket)


def rewrite(aws: Any, held: Any) -> None:
    """Another manifest in its place."""
    key = held["prefix"] + manifest.FILE
    client(aws).put_object(Bucket=held["bucket"], Key=key, Body=json.dumps(held).encode())


def info(params: dict[str, Any], depth: str = "head", backup_id: str = "") -> Any:
    return verify.info({**params, "verify": depth, "backup_id": backup_id}, False)["backups"]


def test_every_backup_is_reported_with_its_problems(
    params: dict[str, Any], aws: Any, bucket: str
) -> None:
    intact = make.present({**params, "label": "before the reset"}, False)["manifest"]
    objects = [entry for table in intact["tables"].values() for entry in table["objects"]]
    made = []
    for number in range(3):
        execute(params, "INSERT INTO hit_data (name) VALUES ('x')")
        made.append(make.present(params, False)["manifest"])
        assert number or info(params)[0]["intact"]
    missing, newer, unfinished = made
    client(aws).delete_object(Bucket=bucket, Key=missing["tables"]["hit_data"]["objects"][0]["key"])
    rewrite(aws, {**newer, "format_version": 2})
    client(aws).delete_object(Bucket=bucket, Key=unfinished["prefix"] + manifest.FILE)
    found = {row["backup_id"]: row for row in info(params)}
    assert list(found) == sorted(found, reverse=True)
    assert found[intact["backup_id"]] == {
        "backup_id": intact["backup_id"], "finished": True, "intact": True, "created": intact["created"],
        "database": params["login_db"], "tables": 3, "rows": 2340,
        "bytes": sum(entry["size"] for entry in objects), "problems": [],
    }  # fmt: skip
    assert intact["label"] == "before the reset"
    problems = {
        backup_id: " ".join(row["problems"])
        for backup_id, row in found.items()
        if not row["intact"]
    }
    assert "hit_data/0000.csv.zst is missing" in problems.pop(missing["backup_id"])
    assert "use a newer runbook" in problems.pop(newer["backup_id"])
    assert "it was never finished" in problems.pop(unfinished["backup_id"])
    assert not problems
    listed = {row["backup_id"]: row["intact"] for row in info(params, "none")}
    assert listed[missing["backup_id"]] is None  # nothing was asked about its objects
    assert listed[newer["backup_id"]] is False


def test_a_day_names_its_newest_backup(params: dict[str, Any], aws: Any, bucket: str) -> None:
    made = make.present(params, False)["manifest"]
    for stamp in ("20200101T000000000Z", "20200101T100000000Z", "20200102T000000000Z"):
        backup_id = f"{stamp}-ffffff-0000"
        rewrite(aws, {**made, "backup_id": backup_id, "prefix": f"{PREFIX}/{backup_id}/"})
    (row,) = info(params, "none", "2020-01-01")
    assert row["backup_id"] == "20200101T100000000Z-ffffff-0000"
    with pytest.raises(errors.InvalidInput, match="no backup 2019-01-01 below s3://"):
        info(params, "none", "2019-01-01")


def tampered(params: dict[str, Any], aws: Any, table: str, old: bytes, new: bytes) -> Any:
    """A backup whose object of a table holds something else, and whose manifest says so."""
    held = make.present({**params, "compression": "gzip"}, False)["manifest"]
    entry = held["tables"][table]["objects"][0]
    body = b"".join(
        verify.loading.decompressed(iter([content(aws, held["bucket"], entry["key"])]), "gzip")
    )
    assert old in body
    pack = make.compressor("gzip", 9)
    packed = pack.compress(body.replace(old, new)) + pack.flush()
    answer = client(aws).put_object(Bucket=held["bucket"], Key=entry["key"], Body=packed)
    entry.update(
        size=len(packed), sha256=hashlib.sha256(packed).hexdigest(), etag=answer["ETag"].strip('"')
    )
    rewrite(aws, held)
    return held


@pytest.mark.parametrize(
    ("table", "old", "new", "problem"),
    [
        ("hit_data", b"GH17,", b"GH18,", "its objects hold 300 rows, hash64:"),
        ("hit_data", b"17,GH17,17\n", b"", "holds 299 rows, its manifest says 300"),
        ("worker_data", b'"{2,0.5}",""\n', b'"{2,0.5}",\n', "its objects hold 40 rows, hash64:"),
    ],
    ids=["another row", "a row less", "NULL for an empty string"],
)
def test_deep_verification_counts_and_compares(
    params: dict[str, Any], aws: Any, table: str, old: bytes, new: bytes, problem: str
) -> None:
    held = tampered(params, aws, table, old, new)
    assert info(params)[0]["intact"]
    (row,) = info(params, "deep", held["backup_id"])
    assert not row["intact"]
    (found,) = row["problems"]
    assert found.startswith(f"table {table}: ")
    assert problem in found
    # Such a backup is not taken for an equal one: a new one is made.
    again = make.present({**params, "verify": "deep"}, False)
    assert again["changed"]
    assert problem in again["diff"][0]["after"]


def test_deep_verification_tells_of_every_damaged_table(
    params: dict[str, Any], aws_endpoint: str
) -> None:
    """After a table that breaks off in the middle of COPY, the others are still read."""
    make.present(params, False)
    with Proxy(aws_endpoint).running() as proxy:
        given = {**params, "endpoint_url": proxy.url}
        proxy.rule = on("GET", r"(assignment|worker)_data/0000", Fault("damage"))
        (row,) = info(given, "deep", "newest")
    assert [problem.partition(":")[0] for problem in row["problems"]] == [
        "table assignment_data",
        "table worker_data",
    ]


def test_a_bucket_that_does_not_answer_is_no_damage(
    params: dict[str, Any], aws_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_clients, "ATTEMPTS", 1)
    make.present(params, False)
    with Proxy(aws_endpoint).running() as proxy:
        proxy.rule = on("GET", r"hit_data/0000", Fault("reset"))
        with pytest.raises(errors.Unreachable, match="hit_data/0000"):
            info({**params, "endpoint_url": proxy.url}, "deep", "newest")


def test_a_new_backup_is_verified_as_deep_as_asked(
    params: dict[str, Any], aws_endpoint: str
) -> None:
    with Proxy(aws_endpoint).running() as proxy:
        proxy.rule = on("GET", r"hit_data/0000", Fault("damage"))
        given = {**params, "endpoint_url": proxy.url, "verify": "deep"}
        with pytest.raises(errors.ModuleFailure, match="the upload is damaged: table hit_data"):
            make.present(given, False)
    assert info(params)[0]["problems"] == ["it was never finished: it has no manifest"]


ENTRY = {"key": "k", "size": 4, "sha256": hashlib.sha256(b"good").hexdigest(), "rows": 1}


@pytest.mark.parametrize(
    ("body", "attested", "entry", "problem"),
    [
        (b"evil", ("", "c2hh-2"), {"checksum_sha256": "c2hh"}, ""),  # S3's word counts
        (b"evil", ("", "c2hh"), {"checksum_sha256": "c2hh-2"}, ""),
        (b"good", ("", "other"), {"checksum_sha256": "c2hh"}, ""),  # of parts of another size
        (b"evil", ("", "other"), {"checksum_sha256": "c2hh"}, "its SHA-256 differs"),
        (b"evil", ("tag", "other"), {"checksum_sha256": "c2hh", "etag": "tag"}, "its SHA-256"),
        (b"evil", ("tag", ""), {"etag": "tag"}, ""),  # the next best word
        (b"evil", ("tag", ""), {"etag": "other"}, "its SHA-256 differs"),
        (b"evil", ("", ""), {}, "its SHA-256 differs"),
        (b"evil", ("", ""), {"checksum_sha256": "", "etag": ""}, "its SHA-256 differs"),
        (b"good", ("", ""), {}, ""),
        (b"short", ("", "c2hh"), {"checksum_sha256": "c2hh"}, "has 5 bytes, 4 were written"),
    ],
)
def test_what_counts_as_written(
    params: dict[str, Any], aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch,
    body: bytes, attested: tuple[str, str], entry: Any, problem: str,
) -> None:  # fmt: skip
    """S3's own checksum, else its ETag, else the object is read."""
    client(aws).put_object(Bucket=bucket, Key="k", Body=body)
    held = s3.Bucket(bucket, aws)
    monkeypatch.setattr(held, "attested", lambda _: s3.Attested(len(body), *attested))
    table: Any = {"objects": [{**ENTRY, **entry}]}
    found = verify.store.problems(held, {"tables": {"t": table}})  # type: ignore[typeddict-item]
    assert [problem in text for text in found] == ([True] if problem else [])
