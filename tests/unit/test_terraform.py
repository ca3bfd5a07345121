"""The files that the consensus daemon would apply, compared with a run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import terraform_files
import yaml
from ansible_collections.labeller.runbook.plugins.module_utils import hcl, terraform
from ansible_collections.labeller.runbook.plugins.module_utils.learner import job_flow

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "terraform.yml").read_text(encoding="utf-8")
)


def differences(folder: Path) -> list[str]:
    """The report on a folder for run 0 on AOI 3 of ghana, without the folder's path."""
    parameters: dict[str, Any] = {
        name: option.get("default") for name, option in job_flow.PARAMETERS.items()
    }
    parameters.update(
        ec2_instance="labeller3", security_group_id="sg-1", aoi_name="ghana", aoi_index=3,
        worker_count=130, worker_type="m4.2xlarge",
    )  # fmt: skip
    cluster = {name: option.get("default") for name, option in job_flow.CLUSTER_OPTIONS.items()}
    home = folder.parent
    found = terraform.differences(str(folder), parameters, cluster, "subnet-1", str(home))
    return [each.replace(f"{folder}/", "").replace(f"{home}/common/", "") for each in found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_what_is_not_this_runs_or_cannot_be_read_is_named(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    folder = tmp_path / "terraform"
    folder.mkdir()
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "bashrc_mapper.sh").write_text("export TF_VAR_key_name=mapping\n")
    terraform_files.write(folder, bucket="activemapper", subnet="subnet-1", group="sg-1")
    assert differences(folder) == []
    path = folder / case["file"]
    path.parent.mkdir(exist_ok=True)
    text = path.read_text() if path.exists() else ""
    if "replace" in case:
        assert case["replace"][0] in text
        text = text.replace(*case["replace"])
    path.write_text(case.get("content", text) + case.get("append", ""))
    assert differences(folder) == case.get("said", [])


def test_every_prefix_of_the_files_is_read_or_refused(tmp_path: Path) -> None:
    """A file that was cut off anywhere is never taken for one that says the same."""
    terraform_files.write(tmp_path, bucket="activemapper", subnet="subnet-1", group="sg-1")
    for name in ("emr.tf", "variables.tf"):
        content = (tmp_path / name).read_bytes()
        complete = hcl.parse(content)
        for end in range(len(content) - 1):
            with suppress(hcl.Unreadable):
                assert hcl.parse(content[:end]) != complete


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
