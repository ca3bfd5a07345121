"""Helpers of the tests of backups: parameters, SQL in short, a labeller-like set of tables."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import psycopg2
import zstandard
from ansible_collections.labeller.runbook.plugins.modules import s3_table_backup
from clients import client

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "backups/database/host"

SCHEMA = """
CREATE TABLE worker_data (worker_id int PRIMARY KEY, scores real[] NOT NULL DEFAULT '{}', note text);
CREATE TABLE hit_data (hit_id serial PRIMARY KEY, name varchar(80), reward int);
CREATE TABLE assignment_data (
    assignment_id serial PRIMARY KEY, hit_id int NOT NULL REFERENCES hit_data,
    worker_id int REFERENCES worker_data, score real);
INSERT INTO worker_data SELECT g, ARRAY[g, 0.5], CASE WHEN g % 2 = 0 THEN '' END
    FROM generate_series(1, 40) g;
INSERT INTO hit_data (name, reward) SELECT 'GH' || g, g FROM generate_series(1, 300) g;
INSERT INTO assignment_data (hit_id, worker_id, score)
    SELECT 1 + g % 300, 1 + g % 40, g / 7.0 FROM generate_series(1, 2000) g;
"""
TABLES = ["worker_data", "hit_data", "assignment_data"]


def parameters(
    database: Mapping[str, Any], aws: Mapping[str, Any], bucket: str, **more: Any
) -> dict[str, Any]:
    """The module's parameters with its defaults."""
    given = {"bucket": bucket, "prefix": PREFIX, "tables": TABLES, **database, **aws, **more}
    defaults = {name: spec.get("default") for name, spec in s3_table_backup.ARGUMENTS.items()}
    assert set(given) <= set(defaults)
    return {**defaults, **given}


def url(database: Mapping[str, Any]) -> str:
    return "postgresql://{login_user}:{login_password}@{login_host}:{login_port}/{login_db}".format(
        **database
    )


def execute(database: Mapping[str, Any], statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run SQL and commit; the rows, if it gives any."""
    session = psycopg2.connect(url(database))
    try:
        with session, session.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []
    finally:
        session.close()


s3 = client


def keys(aws: Mapping[str, Any], bucket: str, prefix: str = "") -> list[str]:
    answer = s3(aws).list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for entry in answer.get("Contents", [])]


def content(aws: Mapping[str, Any], bucket: str, key: str) -> bytes:
    return s3(aws).get_object(Bucket=bucket, Key=key)["Body"].read()


def stored_manifest(aws: Mapping[str, Any], bucket: str, backup_id: str) -> dict[str, Any]:
    return json.loads(content(aws, bucket, f"{PREFIX}/{backup_id}/manifest.json"))


def stored_rows(aws: Mapping[str, Any], bucket: str, table: Mapping[str, Any]) -> list[list[str]]:
    """The rows of a table's zstd objects, read by other means than ours, sorted."""
    found = []
    for entry in table["objects"]:
        text = (
            zstandard.ZstdDecompressor()
            .decompressobj()
            .decompress(content(aws, bucket, entry["key"]))
        )
        header, *rows = csv.reader(io.StringIO(text.decode()))
        assert header == [column["name"] for column in table["columns"]]
        found += rows
    return sorted(found)


#: Types that are hashed as they are, and others whose output form is; NULLs and empty strings.
ROWS = """
    CREATE TABLE t AS SELECT i::smallint AS s, i AS i, i::bigint << 33 AS b, (i / 3.0)::real AS r,
        sqrt(i) AS d, i % 2 = 0 AS even, nullif('x' || i % 5, 'x0') AS t, 'v'::varchar(9) AS v,
        i::text::char(9) AS c, (i / 7.0)::numeric AS n, 'epoch'::timestamptz + i * '1 s'::interval AS at,
        ARRAY[i, NULL] AS a, '10.0.0.1'::inet AS ip, '\\x00ff'::bytea AS bytes,
        CASE i % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE '1e300' END::float AS special,
        CASE i % 2 WHEN 0 THEN '' END AS nothing
    FROM generate_series(1, 500) AS i
"""
#: Their fingerprint, by whichever server: else no backup could be restored into a newer one.
HASH64 = "hash64:18822f72106c66b4"
