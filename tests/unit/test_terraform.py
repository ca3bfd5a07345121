"""The files that the consensus daemon would apply, held against a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import emr, terraform

import terraform_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("file", "was", "becomes", "said"),
    [
        ("emr.tf", '"0", "3"]', '"1", "3"]', r'step "run_geopyspark.py": run is 1, not 0'),
        ("emr.tf", '"0", "3"]', '"0", "2"]', r"AOI is 2, not 3"),
        ("emr.tf", '"20"', '"30"', "--probability-images is 30, not 20"),
        ("emr.tf", "partitions=", "partition=", "spark.sql.shuffle.partitions is missing, not 3890"),
        ("emr.tf", "instances=389", "instances=389.0", "spark.executor.instances is 389.0, not 389"),
        ("emr.tf", '"master", "http', '"devel", "http', r'step "Clone Learner": -b is devel, not master'),
        ("emr.tf", 'config_ghana_3.yaml"]', 'config_1.yaml"]', r"run_DB_insert.py\": --config-filename is config_1.yaml"),
        ("emr.tf", 'name="run_DB_insert.py"', 'name="other"', r'no step "run_DB_insert.py"'),
        ("variables.tf", '"130"', '"50"', r'default of "worker_count" is 50, not 130'),
        ("variables.tf", "m4.2xlarge", "m4.xlarge", r'"worker_type" is m4.xlarge, not m4.2xlarge'),
        ("variables.tf", "0.0860", "0.16", r'"bid_price" is 0.16, not 0.086'),
        ("variables.tf", "subnet-", "subnet-0", r'"subnet" is subnet-0\w+, not subnet-'),
        ("variables.tf", "sg-", "sg-0", r'"security_group" is sg-0\w+, not sg-'),
    ],
)  # fmt: skip
def test_terraform_files_of_another_run_are_named_by_what_differs(
    tmp_path: Path, file: str, was: str, becomes: str, said: str
) -> None:
    terraform_files.write(tmp_path, bucket="activemapper", subnet="subnet-1", group="sg-1")
    parameters: dict[str, Any] = {
        name: option.get("default")
        for name, option in emr.ARGUMENTS["parameters"]["options"].items()
    }
    parameters.update(
        ec2_instance="labeller3", security_group_id="sg-1", aoi_name="ghana", aoi_index=3,
        worker_count=130, worker_type="m4.2xlarge",
    )  # fmt: skip
    cluster = {name: option.get("default") for name, option in emr.CLUSTER_OPTIONS.items()}
    given = (str(tmp_path), parameters, cluster, "subnet-1")
    assert terraform.differences(*given) == []
    path = tmp_path / file
    text = path.read_text()
    assert text != text.replace(was, becomes)
    path.write_text(text.replace(was, becomes))
    (problem,) = terraform.differences(*given)
    assert re.search(said, problem)
    assert problem.startswith(str(path))


def test_the_clusters_of_a_state_of_either_format() -> None:
    cluster, other = {"type": "aws_emr_cluster"}, {"type": "aws_s3_bucket_object"}
    old = {"c": {**cluster, "primary": {"id": "j-1"}}, "o": {**other, "primary": {"id": "x"}}}
    new = [
        {**cluster, "instances": [{"attributes": {"id": "j-2"}}, {"attributes": None}]},
        {**other, "instances": [{"attributes": {"id": "x"}}]},
    ]
    assert terraform.cluster_ids({"version": 3, "modules": [{"resources": old}]}) == ["j-1"]
    assert terraform.cluster_ids({"version": 4, "resources": new}) == ["j-2"]
    for odd in ({}, {"modules": {}, "resources": [1]}, {"modules": [{"resources": []}]}):
        assert terraform.cluster_ids(odd) == []
