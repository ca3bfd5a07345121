"""The learner's step by pyspark's spark-submit brings what it brings as a plain process."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import pytest

from runbook.sandbox import emr
from runbook.sandbox.landscape import Landscape, mask
from runbook.sandbox.learner import images
from runbook.sandbox.state import Home, State

if TYPE_CHECKING:
    from pathlib import Path

SEED = 5
COLUMN, ROW = 3300, 5550
LABELLED, POOL = 12, 60

CONFIG = """
labeller:
  consensus_directory: /labels/ghana/
learner:
  prefix: planet
  runid: 0
  aoiid: 1
  number_outgoing_names: 5
  pool: pool.csv
  image_catalog: planet/catalog.csv
  incoming_names: incoming.csv
  incoming_names_static: static.csv
  metrics: metrics.csv
  outgoing: s3://{bucket}/planet/outgoing.csv
  image_output_pattern: s3://{bucket}/classified-images/image_c{{}}_r{{}}_{{}}_run{{}}_iteration{{}}.tif
"""

STEP = [
    "spark-submit", "--master", "yarn", "--conf", "spark.executor.cores=5",
    f"{emr.LEARNER}/run_it/run_geopyspark.py", "--config-filename", "config.yaml",
    "--probability-images", "1", "--random-seed", "42", "BUCKET", "0", "1",
]  # fmt: skip


@pytest.mark.campaign
@pytest.mark.skipif(
    not emr.spark_submit(),
    reason="spark-submit needs the extra spark and a Java (Debian: openjdk-17-jre-headless)",
)
def test_spark_brings_what_the_plain_step_brings(
    aws_endpoint: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = boto3.client(
        "s3", endpoint_url=aws_endpoint, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    for key, content in _inputs(bucket).items():
        s3.put_object(Bucket=bucket, Key=key, Body=content)
    home = _home(tmp_path, aws_endpoint, bucket)
    arguments = [bucket if each == "BUCKET" else each for each in STEP]

    plain = _carry_out(home, aws_endpoint, arguments, s3, bucket)
    assert "Spark" not in plain.pop("log")
    monkeypatch.delenv(emr.SPARK)
    spark = _carry_out(home, aws_endpoint, arguments, s3, bucket)
    log = spark.pop("log")
    assert "Running Spark version" in log
    assert "Job 2 finished" in log, "cells to train, to validate and to ask for"
    assert spark == plain
    assert 0.5 < float(plain["metrics"]["accuracy"]) <= 1
    assert len(plain["planet/outgoing.csv"].splitlines()) == 1 + 5
    assert any(key.startswith("classified-images/") for key in plain)


def _inputs(bucket: str) -> dict[str, bytes]:
    """Labelled cells in a row, and a pool of others, as labeller leaves them (docs/labeller.md 5.2)."""
    landscape = Landscape(SEED)
    found = {"config.yaml": CONFIG.format(bucket=bucket).encode()}
    names = "name,run,iteration,processed,usage,label\n"
    for number in range(LABELLED):
        name, column = f"GH{number:07}", COLUMN + number
        usage = "validate" if number % 3 == 0 else "train"
        names += f"{name},0,0,True,{usage},True\n"
        label = mask(landscape.fields(column, ROW)).astype(np.uint8)
        key = f"labels/ghana/{name}_{column}_{ROW}.tif"
        found[key] = images.write(label, column, ROW)
    pool = "name,col,row\n" + "".join(f"GH{n:07},{COLUMN + n},{ROW}\n" for n in range(LABELLED))
    for number in range(POOL):
        pool += f"GH{1000 + number:07},{COLUMN + number},{ROW + 1}\n"
    found["planet/incoming.csv"] = names.encode()
    found["planet/static.csv"] = b"name\n"
    found["planet/pool.csv"] = pool.encode()
    found["planet/catalog.csv"] = (
        b"col,row,season\n"
        + "".join(
            f"{COLUMN + number},{ROW},{season}\n"
            for number in range(LABELLED)
            for season in ("GS", "OS")
        ).encode()
    )
    return found


def _home(folder: Path, endpoint_url: str, bucket: str) -> Home:
    """As much of a sandbox as a step of a cluster asks for."""
    home = Home(folder / "sandbox")
    home.path.mkdir()
    text = dict.fromkeys(
        (
            "database", "db_user", "db_pwd", "postgres_password", "ec2_instance",
            "security_group_id", "subnet_id", "labeller_home", "crontab",
        ),
        "",
    )  # fmt: skip
    State(
        **text, home=str(home.path), bucket=bucket, endpoint_url=endpoint_url, db_port=0,
        secrets={}, seed=SEED, cells=0, aois=1, old_aoi=0,
    ).save(home)  # fmt: skip
    return home


def _carry_out(
    home: Home, endpoint_url: str, arguments: list[str], s3: Any, bucket: str
) -> dict[str, Any]:
    """Run a step as a cluster of the sandbox does: what it wrote, time left out, and its log."""
    cluster = SimpleNamespace(id="j-1", steps=[], state="")
    cluster.emr_backend = SimpleNamespace(clusters={"j-1": cluster})
    step = SimpleNamespace(id="s-1", args=arguments, state="RUNNING")
    log = home.path / f"log-{len(list(home.path.iterdir()))}"
    log.mkdir()
    code = emr.Runner(home, endpoint_url, cluster)._execute(step, log)
    assert code == 0, (log / "stderr").read_text()
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    found: dict[str, Any] = {"log": (log / "stderr").read_text()}
    for key in (each["Key"] for each in listed):
        if key == "planet/outgoing.csv" or key.startswith("classified-images/"):
            found[key] = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            s3.delete_object(Bucket=bucket, Key=key)
    written = s3.get_object(Bucket=bucket, Key="planet/metrics.csv")["Body"].read().decode()
    header, row = written.splitlines()
    metrics = dict(zip(header.split(","), row.split(","), strict=True))
    printed = json.loads((log / "stdout").read_text().splitlines()[-1])
    assert metrics.pop("iteration_time") == printed["iteration_time"]
    found["metrics"] = metrics
    return found
