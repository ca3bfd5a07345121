"""s3_table_backup, state present: what lies on S3, idempotence, check mode, leftovers, guards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import psycopg2
import pytest
import zstandard
from ansible_collections.labeller.runbook.plugins.module_utils import errors, fingerprint, postgres
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, manifest, source
from ansible_collections.labeller.runbook.plugins.module_utils.s3 import Sender
from backup_support import (
    PREFIX,
    SCHEMA,
    TABLES,
    content,
    execute,
    keys,
    parameters,
    s3,
    stored_manifest,
    stored_rows,
    url,
)
from waiting import until

VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[2] / "schemas/backup_manifest.schema.json").read_text())
)


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(database, SCHEMA)
    return parameters(database, aws, bucket)


def test_a_backup_holds_every_row_and_says_so(
    params: dict[str, Any], database: Any, aws: Any, bucket: str
) -> None:
    done = make.present(params, False)
    assert done["changed"]
    held = stored_manifest(aws, bucket, done["backup_id"])
    VALIDATOR.validate(held)
    assert held == done["manifest"]
    assert {name: table["rows"] for name, table in held["tables"].items()} == {
        "worker_data": 40, "hit_data": 300, "assignment_data": 2000}  # fmt: skip
    live = execute(database, "SELECT hit_id, name, reward FROM hit_data")
    assert stored_rows(aws, bucket, held["tables"]["hit_data"]) == sorted(
        [str(v) for v in row] for row in live
    )
    with psycopg2.connect(url(database)) as session:
        for name, table in held["tables"].items():
            found = fingerprint.of_table(session.cursor(), "public", name)
            assert (table["rows"], table["fingerprint"]) == found
    session.close()
    for table in held["tables"].values():
        for entry in table["objects"]:
            body = content(aws, bucket, entry["key"])
            assert (len(body), hashlib.sha256(body).hexdigest()) == (entry["size"], entry["sha256"])
    assert held["tables"]["hit_data"]["sequences"]["hit_data_hit_id_seq"] == {
        "schema": "public", "name": "hit_data_hit_id_seq", "column": "hit_id", "last_value": 300, "is_called": True}  # fmt: skip
    # NULL and the empty string differ in the CSV
    text = zstandard.ZstdDecompressor().decompressobj().decompress(
        content(aws, bucket, held["tables"]["worker_data"]["objects"][0]["key"])).decode()  # fmt: skip
    assert '1,"{1,0.5}",\n2,"{2,0.5}",""\n' in text


def test_an_equal_backup_is_not_made_twice(
    params: dict[str, Any], database: Any, aws: Any, bucket: str
) -> None:
    first = make.present(params, False)
    before = keys(aws, bucket)
    again = make.present(params, False)
    assert not again["changed"]
    assert again["diff"] == []
    assert again["manifest"] == first["manifest"]
    assert keys(aws, bucket) == before
    # other physical order, same rows
    execute(database, "CREATE TABLE t AS SELECT * FROM worker_data ORDER BY worker_id DESC")
    execute(database, "UPDATE worker_data SET note = note WHERE worker_id = 1")
    assert not make.present(params, False)["changed"]
    # some of its tables: it proves them too
    assert (
        make.present({**params, "tables": ["hit_data"]}, False)["backup_id"] == first["backup_id"]
    )


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        (
            "UPDATE worker_data SET note = '' WHERE worker_id = 1",
            "worker_data: 40 rows, as many as in the backup before, but other values",
        ),
        (
            "DELETE FROM assignment_data WHERE assignment_id = 7",
            "assignment_data: 1,999 rows, 2,000 in the backup before",
        ),
        (
            "SELECT nextval('hit_data_hit_id_seq')",
            "hit_data: 300 rows, sequence hit_data_hit_id_seq at 301",
        ),
        ("ALTER TABLE hit_data ADD extra int", "hit_data: 300 rows, .*columns changed"),
        ("ALTER TABLE hit_data RENAME reward TO points", "hit_data: 300 rows, .*columns changed"),
        ("ALTER TABLE hit_data ALTER reward TYPE bigint", "hit_data: 300 rows, .*columns changed"),
        (
            "ALTER SEQUENCE hit_data_hit_id_seq RESTART 300",  # the last value, not used
            "hit_data: 300 rows, sequence hit_data_hit_id_seq at 300",
        ),
    ],
)
def test_any_difference_makes_a_new_backup(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, statement: str, shown: str
) -> None:
    """And reads as what it is: rows saved beside the backup before, none taken away."""
    first = make.present(params, False)
    (new,) = first["diff"]
    assert (new["before"], new["after"].splitlines()[0]) == (
        "", "assignment_data: 2,000 rows, not in the backup before"
    )  # fmt: skip
    execute(database, statement)
    planned = make.present(params, True)
    second = make.present(params, False)
    assert second["changed"]
    assert second["backup_id"] > first["backup_id"]
    assert planned["diff"] == second["diff"] != []
    (diff,) = second["diff"]
    assert diff["before"] == ""
    lines = diff["after"].splitlines()
    different = [line for line in lines if not line.endswith(" rows, as in the backup before")]
    assert len(lines) == len(TABLES)
    assert re.fullmatch(shown, "".join(different))
    (item,) = second["plan"]
    assert (item["action"], item["counts"]["tables"]) == ("back up", len(TABLES))
    assert stored_manifest(aws, bucket, first["backup_id"]) == first["manifest"]


def test_tables_that_were_not_asked_for_are_no_difference(
    params: dict[str, Any], database: Any
) -> None:
    make.present(params, False)
    execute(database, "DELETE FROM assignment_data WHERE assignment_id = 7")
    (shown,) = make.present({**params, "tables": ["assignment_data"]}, False)["diff"]
    assert [line.partition(":")[0] for line in shown["after"].splitlines()] == ["assignment_data"]


def test_check_mode_predicts_and_writes_nothing(
    params: dict[str, Any], aws: Any, bucket: str
) -> None:
    planned = make.present(params, True)
    assert keys(aws, bucket) == []
    VALIDATOR.validate(planned["manifest"])
    assert planned["manifest"]["planned"] is True
    done = make.present(params, False)
    for name in TABLES:
        assert manifest.state_of(planned["manifest"]["tables"][name]) == manifest.state_of(
            done["manifest"]["tables"][name]
        )
    assert (planned["diff"], planned["changed"]) == (done["diff"], done["changed"])
    assert planned["diff"][0]["after_header"] == f"s3://{bucket}/{PREFIX}/"
    assert not make.present(params, True)["changed"]


def test_chunks_cover_a_table_exactly(
    params: dict[str, Any], database: Any, aws: Any, bucket: str
) -> None:
    execute(
        database,
        "CREATE TABLE big AS SELECT g AS id, repeat('x', 200) AS t FROM generate_series(1, 12000) g",
    )
    execute(database, "DELETE FROM big WHERE id % 3 = 0")
    done = make.present({**params, "tables": ["big"], "chunk_size": 1}, False)
    table = done["manifest"]["tables"]["big"]
    assert len(table["objects"]) >= 3
    names = [entry["key"] for entry in table["objects"]]
    assert names == sorted(names)
    assert table["rows"] == 8000
    rows = stored_rows(aws, bucket, table)
    assert sorted(int(row[0]) for row in rows) == [g for g in range(1, 12001) if g % 3]


def test_large_objects_go_in_checked_parts(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # incompressible: 11 MB in parts of 8
    execute(database, "CREATE TABLE noise AS SELECT g AS id, string_agg(md5(random()::text), '') AS t "
            "FROM generate_series(1, 6000) g, generate_series(1, 100) h GROUP BY g")  # fmt: skip
    done = make.present({**params, "tables": ["noise"]}, False)
    entry = done["manifest"]["tables"]["noise"]["objects"][0]
    assert entry["size"] > 8 << 20
    assert entry["checksum_sha256"].endswith("-2")
    assert s3(aws).head_object(Bucket=bucket, Key=entry["key"])["ETag"].strip('"') == entry["etag"]
    assert len(stored_rows(aws, bucket, done["manifest"]["tables"]["noise"])) == 6000


def test_all_tables_are_of_one_moment(
    params: dict[str, Any], database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows committed while the backup runs are in none of its tables."""
    original = make.catalog.describe_all
    written = []

    def describe(*arguments: Any) -> Any:
        if not written:
            written.append(
                execute(
                    database,
                    "INSERT INTO worker_data VALUES (99); INSERT INTO hit_data (name) VALUES ('late')",
                )
            )
        return original(*arguments)

    monkeypatch.setattr(make.catalog, "describe_all", describe)
    tables = make.present(params, False)["manifest"]["tables"]
    assert written
    assert (tables["worker_data"]["rows"], tables["hit_data"]["rows"]) == (40, 300)


def test_leftovers_of_dead_runs_go_with_the_next_run(
    params: dict[str, Any], aws: Any, bucket: str
) -> None:
    owner = manifest.identity(params)
    dead = f"{PREFIX}/20200101T000000000Z-{owner}-0000"
    elsewhere = f"{PREFIX}/20200101T000000000Z-ffffff-0000"
    client = s3(aws)
    client.put_object(Bucket=bucket, Key=f"{dead}/hit_data/0000.csv.zst", Body=b"half")
    client.create_multipart_upload(Bucket=bucket, Key=f"{dead}/hit_data/0001.csv.zst")
    client.put_object(
        Bucket=bucket,
        Key=f"{elsewhere}/hit_data/0000.csv.zst",
        Body=b"of a live run of another database",
    )
    client.put_object(Bucket=bucket, Key=f"{PREFIX}/notes.txt", Body=b"an operator's")
    client.put_object(
        Bucket=bucket, Key="backups/database/host2/20200101T000000000Z-x/t", Body=b"x"
    )
    client.create_multipart_upload(Bucket=bucket, Key="backups/database/host2/t")
    client.create_multipart_upload(Bucket=bucket, Key=f"{PREFIX}/notes/t")
    make.present(params, False)
    left = keys(aws, bucket)
    assert not [key for key in left if key.startswith(dead)]
    assert f"{elsewhere}/hit_data/0000.csv.zst" in left
    assert f"{PREFIX}/notes.txt" in left
    assert "backups/database/host2/20200101T000000000Z-x/t" in left
    uploads = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert {entry["Key"] for entry in uploads} == {"backups/database/host2/t", f"{PREFIX}/notes/t"}


def test_a_damaged_newest_backup_does_not_count(
    params: dict[str, Any], aws: Any, bucket: str
) -> None:
    first = make.present(params, False)
    entry = first["manifest"]["tables"]["hit_data"]["objects"][0]
    body = bytearray(content(aws, bucket, entry["key"]))
    body[-1] ^= 1
    s3(aws).put_object(Bucket=bucket, Key=entry["key"], Body=bytes(body))
    second = make.present(params, False)
    assert second["changed"]
    assert second["backup_id"] != first["backup_id"]
    assert entry["key"] in second["diff"][0]["after"]
    key = second["manifest"]["prefix"] + "manifest.json"
    for unreadable in (b"{", b'{"format_version": 2}'):
        s3(aws).put_object(Bucket=bucket, Key=key, Body=unreadable)
        assert key in make.present(params, True)["diff"][0]["after"]
        third = make.present(params, False)
        assert not make.present(params, False)["changed"]
        key = third["manifest"]["prefix"] + "manifest.json"


@pytest.mark.parametrize("leased", [False, True])
def test_one_run_at_a_time(params: dict[str, Any], bucket: str, leased: bool) -> None:
    kept = postgres.connect(params) if leased else contextlib.nullcontext()
    with kept as session, source.exclusively(params, bucket, manifest.root(PREFIX), session):
        with pytest.raises(errors.Locked, match="another backup"):
            make.present(params, False)
    assert make.present(params, False)["changed"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hit_dat", "worker_data"], r"no table hit_dat \(did you mean hit_data\?\)"),
        (["Hit_Data"], "no table Hit_Data"),
        (["v"], "v is a view, not a table"),
        ([], "tables is empty"),
    ],
)
def test_tables_that_are_none_are_named(
    params: dict[str, Any], database: Any, names: list[str], message: str
) -> None:
    execute(database, "CREATE VIEW v AS SELECT 1")
    with pytest.raises(errors.InvalidInput, match=message):
        make.present({**params, "tables": names}, False)


def test_a_bucket_that_is_not_there_is_named(params: dict[str, Any]) -> None:
    for check_mode in (True, False):
        with pytest.raises(errors.InvalidInput, match="bucket nosuchbucket-x does not exist"):
            make.present({**params, "bucket": "nosuchbucket-x"}, check_mode)


def test_odd_names_partitions_and_children(
    params: dict[str, Any], database: Any, aws: Any, bucket: str
) -> None:
    execute(database, '''
        CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema"."T/a.b""c" (id int GENERATED ALWAYS AS IDENTITY, "Col umn" text, twice int GENERATED ALWAYS AS (7) STORED);
        INSERT INTO "My Schema"."T/a.b""c" ("Col umn") VALUES ('x'), (NULL), (''), (E'a\\nb"c,d'), ('\\.');
        CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE parts_2 (v text, id int);
        ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20);
        INSERT INTO parts SELECT g, 'p' || g FROM generate_series(0, 19) g;
        CREATE TABLE base (id int);
        CREATE TABLE child (more text) INHERITS (base);
        INSERT INTO base VALUES (1), (2);
        INSERT INTO child VALUES (3, 'm');
        CREATE TABLE empty (a int);
    ''')  # fmt: skip
    names = ['My Schema.T/a.b"c', "parts", "base", "empty"]
    tables = make.present({**params, "tables": names}, False)["manifest"]["tables"]
    assert {name: table["rows"] for name, table in tables.items()} == dict(
        zip(names, [5, 20, 3, 0], strict=True)
    )
    odd = tables[names[0]]
    assert odd["objects"][0]["key"].endswith("/My%20Schema.T%2Fa.b%22c/0000.csv.zst")
    assert [column["name"] for column in odd["columns"]] == ["id", "Col umn"]
    assert sorted(row[1] for row in stored_rows(aws, bucket, odd)) == [
        "",
        "",
        "\\.",
        'a\nb"c,d',
        "x",
    ]
    assert {entry["relation"] for entry in tables["parts"]["objects"]} == {"parts_1", "parts_2"}
    assert {entry["relation"]: entry["rows"] for entry in tables["base"]["objects"]} == {
        "base": 2,
        "child": 1,
    }
    assert tables["empty"]["objects"] == []
    assert not make.present({**params, "tables": names}, False)["changed"]


def test_gzip(params: dict[str, Any], aws: Any, bucket: str) -> None:
    import gzip

    done = make.present({**params, "compression": "gzip"}, False)
    entry = done["manifest"]["tables"]["hit_data"]["objects"][0]
    assert entry["key"].endswith(".csv.gz")
    assert gzip.decompress(content(aws, bucket, entry["key"])).startswith(
        b"hit_id,name,reward\n1,GH1,1\n"
    )


@pytest.mark.parametrize(
    ("given", "encryption"),
    [
        ({}, {"ServerSideEncryption": "AES256"}),
        (
            {"sse_kms_key_id": "arn:aws:kms:us-east-1:1:key/k"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:us-east-1:1:key/k"},
        ),
        (
            {"server_side_encryption": "aws:kms:dsse"},
            {"ServerSideEncryption": "aws:kms:dsse"},
        ),
        ({"server_side_encryption": "none"}, {"ServerSideEncryption": None}),
    ],
    ids=["default", "key", "chosen", "none"],
)
def test_storage_class_and_encryption_reach_s3(
    params: dict[str, Any],
    aws: Any,
    bucket: str,
    given: dict[str, str],
    encryption: dict[str, str | None],
) -> None:
    made = make.present({**params, "storage_class": "STANDARD_IA", **given}, False)["manifest"]
    names = [made["tables"]["hit_data"]["objects"][0]["key"], made["prefix"] + manifest.FILE]
    heads = [s3(aws).head_object(Bucket=bucket, Key=name) for name in names]
    for head in heads:
        assert {name: head.get(name) for name in encryption} == encryption
    # The manifest is read often, and small: other classes would cost more.
    assert [head.get("StorageClass") for head in heads] == ["STANDARD_IA", None]


def test_the_manifest_says_where_the_rows_are_from(params: dict[str, Any], database: Any) -> None:
    execute(
        database,
        """CREATE TABLE told (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
               size numeric(6,2) NOT NULL DEFAULT 1.50 CHECK (size > 0), hit_id int REFERENCES hit_data);
           CREATE SEQUENCE shared; ALTER TABLE told ADD n bigint DEFAULT nextval('shared');
           CREATE INDEX told_size ON told (size)""",
    )
    with source.Snapshot.of(params, ["told"]) as snapshot:
        first, server = snapshot.lsn(), str(snapshot.one("SHOW server_version"))
    execute(database, "SELECT pg_logical_emit_message(true, 'a', 'step of the log')")
    made = make.present({**params, "tables": ["told"], "label": "before a reset"}, False)
    held = made["manifest"]
    told = held["tables"]["told"]

    def position(lsn: str) -> int:
        high, low = lsn.split("/")
        return (int(high, 16) << 32) + int(low, 16)

    assert position(held["snapshot_lsn"]) > position(first)
    assert (held["database"], held["label"]) == (params["login_db"], "before a reset")
    assert (held["server_version"], held["server_encoding"]) == (server, "UTF8")
    assert {"python", "psycopg2", "zstandard"} == set(filter(held["tools"].get, held["tools"]))
    assert [tuple(column.values()) for column in told["columns"]] == [
        ("id", "integer", True, "", "by default"),
        ("size", "numeric(6,2)", True, "1.50", ""),
        ("hit_id", "integer", False, "", ""),
        ("n", "bigint", False, "nextval('shared'::regclass)", ""),
    ]
    assert told["definition"] == [
        "CONSTRAINT told_hit_id_fkey FOREIGN KEY (hit_id) REFERENCES hit_data(hit_id)",
        "CONSTRAINT told_pkey PRIMARY KEY (id)",
        "CONSTRAINT told_size_check CHECK ((size > (0)::numeric))",
        "CREATE INDEX told_size ON public.told USING btree (size)",
    ]
    assert {
        name: (entry["column"], entry["last_value"], entry["is_called"])
        for name, entry in told["sequences"].items()
    } == {"shared": ("n", 1, False), "told_id_seq": ("id", 1, False)}


def test_the_level_of_compression_counts(params: dict[str, Any], aws: Any, bucket: str) -> None:
    sizes = []
    for level in (None, 19):
        made = make.present(
            {**params, "compression_level": level, "prefix": f"level/{level}"}, False
        )
        (entry,) = made["manifest"]["tables"]["assignment_data"]["objects"]
        body = content(aws, bucket, entry["key"])
        assert zstandard.get_frame_parameters(body).has_checksum
        sizes.append(entry["size"])
    assert sizes[0] > sizes[1]


def test_parts_in_memory_are_bounded_by_the_jobs(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = []

    def sender(executor: Any, in_flight: int) -> Sender:
        bounds.append(in_flight)
        return Sender(executor, in_flight)

    monkeypatch.setattr(make, "Sender", sender)
    make.present({**params, "jobs": 3}, False)
    assert bounds == [5]


def test_rows_that_were_copied_are_held_against_those_of_the_snapshot(
    params: dict[str, Any], aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = make.fingerprint_of

    def one_more(*arguments: Any) -> Any:
        found = original(*arguments)
        return found._replace(rows=found.rows + 1)

    monkeypatch.setattr(make, "fingerprint_of", one_more)
    with pytest.raises(errors.ModuleFailure, match="40 rows were copied, but its snapshot has 41"):
        make.present({**params, "tables": ["worker_data"]}, False)
    assert not [key for key in keys(aws, bucket) if key.endswith(manifest.FILE)]


def test_a_manifest_of_somebody_else_is_not_replaced(
    params: dict[str, Any], aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "new_id", lambda *_: "20260114T093012123Z-3f9a1c-07ab")
    key = f"{PREFIX}/20260114T093012123Z-3f9a1c-07ab/{manifest.FILE}"
    problems = make.verification.problems

    def meanwhile(*arguments: Any) -> Any:
        s3(aws).put_object(Bucket=bucket, Key=key, Body=b"another run's")
        return problems(*arguments)

    monkeypatch.setattr(make.verification, "problems", meanwhile)
    with pytest.raises(errors.ModuleFailure, match=r"manifest.json exists already"):
        make.present(params, False)
    assert content(aws, bucket, key) == b"another run's"


def test_the_first_failure_stops_all_tasks(params: dict[str, Any], database: Any) -> None:
    ended = []

    def slow(session: Any) -> None:
        try:
            session.cursor().execute("SELECT pg_sleep(5)")
        except psycopg2.errors.QueryCanceled:
            ended.append("canceled")
            raise
        ended.append("slept")

    def fails(session: Any) -> None:
        query = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(lambda: execute(database, query) == [(True,)])
        raise errors.InvalidInput("the first failure")

    with source.Snapshot.of(params, TABLES) as snapshot:
        with pytest.raises(errors.InvalidInput, match="the first failure"):
            source.in_parallel([slow, fails, slow, slow], 2, snapshot.reader)
    assert ended == ["canceled"]
