"""labeller's two Terraform files, for run 0 on AOI 3 of ghana.

Written from the facts of docs/loop.md and the module emr_learner: which steps there are, what
their arguments say of a run, which variables have a default. In Terraform 0.11's language.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIGURATION = ("--config-filename", "config_ghana_3.yaml")
SPARK = {
    "spark.executor.instances": "389",
    "spark.executor.cores": "5",
    "spark.executor.memory": "7g",
    "spark.driver.cores": "5",
    "spark.driver.memory": "7g",
    "spark.sql.shuffle.partitions": "3890",
    "spark.default.parallelism": "3890",
    "spark.executorEnv.GDAL_DATA": "/usr/local/share/gdal",
}


def write(folder: Path, *, bucket: str, subnet: str, group: str) -> None:
    """The two files, for this bucket, subnet and security group."""
    learner = "/home/hadoop/learner"
    settings = [part for key, value in SPARK.items() for part in ("--conf", f"{key}={value}")]
    steps = {
        "Clone Learner": ["git", "clone", "-b", "master", "https://git.invalid/learner.git", learner],
        "run_geopyspark.py": [
            "spark-submit", *settings, f"{learner}/run_it/run_geopyspark.py", *CONFIGURATION,
            "--probability-images", "20", bucket, "0", "3",
        ],
        "run_DB_insert.py": ["python3", f"{learner}/run_it/run_DB_insert.py", *CONFIGURATION],
    }  # fmt: skip
    blocks = "\n".join(_step(name, arguments) for name, arguments in steps.items())
    (folder / "emr.tf").write_text(
        'resource "aws_emr_cluster" "learner" {\n  # args = ["-b", "a comment"]\n'
        f'{blocks}\n  subnet_id = "${{var.subnet}}"\n'
        '  group = "${var.user_defined_sg == "true" ? var.security_group : ""}"\n'
        '  core { // of spot instances\n    bid_price = "${var.bid_price}"\n'
        '    count = "${var.worker_count}" /* as text */\n    type = "${var.worker_type}"\n  }\n}\n'
    )
    defaults = {
        "key_name": None,
        "subnet": subnet,
        "worker_count": "130",
        "worker_type": "m4.2xlarge",
        "bid_price": "0.0860",
        "security_group": group,
        "user_defined_sg": "true",
    }
    (folder / "variables.tf").write_text(
        "".join(_variable(name, default) for name, default in defaults.items())
    )


def _step(name: str, arguments: Sequence[str]) -> str:
    quoted = ", ".join(map(json.dumps, arguments))
    return f'  step {{\n    name="{name}"\n    jar {{\n      args = [{quoted}]\n    }}\n  }}'


def _variable(name: str, default: str | None) -> str:
    lines = [f'variable "{name}" {{', '  description = "Of ${USER} and others"']
    lines += [] if default is None else [f'  default = "{default}"']
    return "\n".join([*lines, "}", ""])
