"""docs/backups.md: what it says about reading backups without runbook works, word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make
from backup_support import SCHEMA, execute, parameters

DOCUMENT = (Path(__file__).parents[2] / "docs" / "backups.md").read_text()

#: `aws s3 cp --recursive` where the AWS client is not installed: its pins do not go with boto3's.
AWS = """#!{python}
import sys, pathlib, urllib.parse, boto3
*_, source, target = sys.argv
bucket, _, prefix = source[5:].partition("/")
client = boto3.client("s3", endpoint_url="{endpoint}")
for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
    path = pathlib.Path(target, entry["Key"][len(prefix):])
    path.parent.mkdir(parents=True, exist_ok=True)
    client.download_file(bucket, entry["Key"], str(path))
"""


def block(title: str) -> str:
    """The code block of the document that begins with a comment."""
    found = re.search(rf"```\w+\n(?:#|--) {title}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found, title
    return found.group(1)


def test_a_backup_is_restored_and_read_without_us(
    database: dict[str, Any], aws: dict[str, Any], bucket: str, postgres_server: Any, tmp_path: Path
) -> None:
    if not shutil.which("zstd"):
        pytest.skip("needs zstd: .ci/apt installs what CI has")
    execute(database, SCHEMA)
    params = parameters(database, aws, bucket, chunk_size=1)
    made = make.present(params, False)
    before = execute(database, "SELECT * FROM hit_data ORDER BY 1")
    execute(database, "DELETE FROM assignment_data; UPDATE hit_data SET reward = 0")
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shutil.which("aws")
    client = f'#!/bin/sh\nexec {real} --endpoint-url {aws["endpoint_url"]} "$@"\n' if real else AWS.format(
        python=sys.executable, endpoint=aws["endpoint_url"])  # fmt: skip
    (programs / "aws").write_text(client)
    (programs / "aws").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{postgres_server.bin}:{os.environ['PATH']}",
        "BUCKET": bucket, "HOST_NAME": "host", "BACKUP": made["backup_id"],
        "PGHOST": "127.0.0.1", "PGPORT": str(database["login_port"]), "PGUSER": "postgres",
        "PGPASSWORD": "test", "PGDATABASE": str(database["login_db"]),
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", block("restore by hand")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert execute(database, "SELECT * FROM hit_data ORDER BY 1") == before
    query = block("look with DuckDB").replace("backup/", f"{tmp_path}/backup/")
    assert duckdb.sql(query).fetchall() == [(300, sum(range(1, 301)))]
