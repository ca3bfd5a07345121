"""emr_learner state=present against moto's EC2, EMR and S3."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import terraform_files
from ansible_collections.labeller.runbook.plugins.module_utils import held
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    Refused,
    Stale,
)
from ansible_collections.labeller.runbook.plugins.module_utils.learner import (
    clusters,
    emr,
    job_flow,
)
from clients import client

_numbers = itertools.count()


def defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {name: option.get("default") for name, option in options.items()}


@pytest.fixture
def params(aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    ec2 = client(aws, "ec2")
    name = f"learner-{os.getpid()}-{next(_numbers)}"
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1a")
    group = ec2.create_security_group(GroupName=name, Description="learner", VpcId=vpc)["GroupId"]
    ec2.create_key_pair(KeyName=name)
    ec2.run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet["Subnet"]["SubnetId"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}],
    )  # fmt: skip
    s3 = client(aws, "s3")
    for key in ("bootstrap-cluster-test/bootstrap.sh", "config_ghana_3.yaml"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    return {
        "state": "present",
        "target": "labeller3",
        "written_in_check": [],
        "parameters": {
            **defaults(job_flow.PARAMETERS),
            "ec2_instance": name,
            "security_group_id": group,
            "bucket": bucket,
            "aoi_index": 3,
            "aoi_name": "ghana",
            "worker_count": 130,
            "worker_type": "m4.2xlarge",
        },
        "cluster": {**defaults(job_flow.CLUSTER_OPTIONS), "key_name": name},
        **aws,
    }


def with_(
    params: dict[str, Any], cluster: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    return {
        **params,
        "parameters": {**params["parameters"], **changes},
        "cluster": {**params["cluster"], **(cluster or {})},
    }


def test_check_apply_again(params: dict[str, Any]) -> None:
    s3, bucket = client(params, "s3"), params["parameters"]["bucket"]
    key = "learner/labeller3/cluster_request.json"
    checked = emr.run(params, True)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2
    done = emr.run(params, False)
    assert done == checked
    assert done["changed"]
    assert done["request_key"] == key
    assert done["hourly_ceiling"] == 11.18
    assert done["warnings"] == []
    kept = s3.get_object(Bucket=bucket, Key=key)
    assert json.loads(kept["Body"].read()) == done["request"]
    again = emr.run(params, False)
    assert not again["changed"]
    assert s3.get_object(Bucket=bucket, Key=key)["LastModified"] == kept["LastModified"]
    assert emr.run(with_(params, num_possibilities=5), True)["changed"]
    assert client(params, "emr").list_clusters()["Clusters"] == []


def test_what_emr_is_asked_is_what_it_takes(params: dict[str, Any]) -> None:
    made = emr.run(with_(params, worker_count=2), True)["request"]
    api = client(params, "emr")
    cluster = api.run_job_flow(**made)["JobFlowId"]
    described = api.describe_cluster(ClusterId=cluster)["Cluster"]
    assert described["Tags"] == made["Tags"]
    assert [step["Name"] for step in api.list_steps(ClusterId=cluster)["Steps"]][::-1] in (
        [step["Name"] for step in made["Steps"]],
        [step["Name"] for step in made["Steps"]][::-1],
    )
    api.terminate_job_flows(JobFlowIds=[cluster])


@pytest.mark.parametrize(
    ("changes", "cluster", "part"),
    [
        ({"security_group_id": "sg-0a8bbc91697d6a76b"}, {}, "no security group sg-0a8bbc91697d6a76b"),
        ({"worker_type": "x9.giant"}, {}, "EC2 offers no x9.giant in us-east-1a"),
        ({"ec2_instance": "nobody"}, {}, "Name=nobody"),
        ({"aoi_index": 4}, {}, "configuration s3://bucket-.*/config_ghana_4.yaml"),
        ({}, {"master_type": "x9.giant"}, "EC2 offers no x9.giant"),
        ({}, {"release_label": "emr-99.0.0"}, "no release emr-99.0.0"),
        ({}, {"key_name": "lost"}, "no EC2 key pair lost"),
        ({}, {"log_uri": "s3://no-such-bucket-here/logs"}, "no bucket no-such-bucket-here"),
        ({}, {"log_uri": "/var/log"}, "log_uri .* must be s3://"),
        ({}, {"bootstrap": [{"name": "b", "path": "s3://lost-b/x.sh", "args": []}]}, "bootstrap script s3://lost-b/x.sh"),
        ({"executor_cores": 16}, {}, "executor_cores can be at most 15"),
        ({"num_possibilities": 0}, {}, "num_possibilities"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_and_nothing_kept(
    params: dict[str, Any], changes: dict[str, Any], cluster: dict[str, Any], part: str
) -> None:
    with pytest.raises(InvalidInput, match=part):
        emr.run(with_(params, cluster, **changes), False)
    listed = client(params, "s3").list_objects_v2(Bucket=params["parameters"]["bucket"])
    assert listed["KeyCount"] == 2


def test_a_security_group_of_another_network_is_named(params: dict[str, Any]) -> None:
    ec2 = client(params, "ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    other = ec2.create_security_group(GroupName=f"o{next(_numbers)}", Description="o", VpcId=vpc)[
        "GroupId"
    ]
    with pytest.raises(InvalidInput, match=f"{other} is in the network {vpc}"):
        emr.run(with_(params, security_group_id=other), True)


def test_a_configuration_that_this_playbook_writes_is_expected_only_in_check_mode(
    params: dict[str, Any],
) -> None:
    first = with_(params, aoi_index=7)
    first["written_in_check"] = ["s3://{bucket}/config_ghana_7.yaml".format(**first["parameters"])]
    assert emr.run(first, True)["changed"]
    with pytest.raises(InvalidInput, match=r"config_ghana_7\.yaml"):
        emr.run(first, False)


def test_a_size_that_contradicts_the_type_is_a_warning(params: dict[str, Any]) -> None:
    (warning,) = emr.run(with_(params, worker_type="m4.xlarge"), True)["warnings"]
    assert "m4.xlarge has 4 vCPU and 16 GiB" in warning


def test_a_bid_below_the_spot_price_is_a_warning(params: dict[str, Any]) -> None:
    """moto sells every type at 0.00001 dollars an hour."""
    (warning,) = emr.run(with_(params, bid_price=0.000001), True)["warnings"]
    assert "bid of 0.000001 dollars an hour is below the spot price of m4.2xlarge" in warning
    assert "0.00001" in warning
    assert (
        emr.run(with_(params, {"market": "on_demand"}, bid_price=0.000001), True)["warnings"] == []
    )


@pytest.fixture
def terraform(params: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Parameters of state=verified, with a folder that is ready for the run."""
    parameters = params["parameters"]
    subnet = client(params, "ec2").describe_instances(
        Filters=[{"Name": "tag:Name", "Values": [parameters["ec2_instance"]]}]
    )["Reservations"][0]["Instances"][0]["SubnetId"]
    folder = tmp_path / "terraform"
    (tmp_path / "common").mkdir()
    folder.mkdir()
    terraform_files.write(
        folder, bucket=parameters["bucket"], subnet=subnet, group=parameters["security_group_id"]
    )
    (folder / "terraform").write_text("#!/bin/sh\nexit 9\n")
    (folder / "terraform").chmod(0o755)
    (tmp_path / "common" / "bashrc_mapper.sh").write_text("export TF_VAR_key_name=mapping\n")
    return {**params, "state": "verified", "home": str(tmp_path), "in_place": False}


def contents(home: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(home).rglob("*") if path.is_file()}


def test_terraform_that_is_ready_for_the_run_is_left_as_it_is(terraform: dict[str, Any]) -> None:
    before = contents(terraform["home"])
    for check in (True, False):
        assert not clusters.run(terraform, check)["changed"]
    assert contents(terraform["home"]) == before


def test_terraform_files_of_another_run_are_refused(terraform: dict[str, Any]) -> None:
    before = contents(terraform["home"])
    for check in (True, False):
        with pytest.raises(Refused) as refused:
            clusters.run(with_(terraform, run_id=1, aoi_index=4, worker_count=50), check)
        for said in ("run is 0, not 1", "AOI is 3, not 4", "config_ghana_3.yaml, not config_ghana_4",
                     '"worker_count" is 130, not 50', "shutdown.yml"):  # fmt: skip
            assert said in str(refused.value)
    assert contents(terraform["home"]) == before


def test_terraform_that_could_not_start_says_what_is_missing(terraform: dict[str, Any]) -> None:
    home = Path(terraform["home"])
    folder = home / "terraform"

    def refused(*said: str) -> None:
        for check in (True, False):
            with pytest.raises(Refused) as caught:
                clusters.run(terraform, check)
            assert not [each for each in said if each not in str(caught.value)]

    (folder / "emr_template.tf").write_text("")
    refused("emr_template.tf: Terraform reads every *.tf")
    (folder / "emr_template.tf").unlink()
    (home / "common" / "bashrc_mapper.sh").write_text("export TF_VAR_key_name=\n")
    refused("no TF_VAR_key_name")
    (folder / "terraform.tfvars").write_text('key_name = "mapping"\n')
    clusters.run(terraform, True)
    (folder / ".terraform.lock.hcl").write_text("")
    refused("below 0.14")
    (folder / ".terraform.lock.hcl").unlink()
    (folder / "terraform.tfstate").write_text('{"terraform_version": "1.11.0"}')
    refused("of Terraform 1.11.0")
    (folder / "terraform.tfstate").write_text("[" * 100_000)
    refused("terraform.tfstate is not JSON")
    (folder / "terraform").chmod(0o644)
    (folder / "variables.tf").unlink()
    refused("terraform is not executable", f"no file {folder}/variables.tf")
    shutil.rmtree(folder)
    refused(f"there is no folder {folder}", "learner_loop=true")


def test_a_state_with_a_cluster_of_another_run_is_refused(terraform: dict[str, Any]) -> None:
    api = client(terraform, "emr")
    made = emr.run({**terraform, "state": "present"}, True)["request"]
    path = Path(terraform["home"]) / "terraform" / "terraform.tfstate"

    def hold(cluster: str) -> None:
        resource = {"type": "aws_emr_cluster", "instances": [{"attributes": {"id": cluster}}]}
        path.write_text(json.dumps({"version": 4, "resources": [resource]}))

    own = api.run_job_flow(**made)["JobFlowId"]
    hold(own)
    with pytest.raises(Refused, match=f"cluster {own} is .*, with run 0 on AOI 3"):
        clusters.run(terraform, True)
    clusters.run({**terraform, "in_place": True}, True)
    made["Steps"][1]["HadoopJarStep"]["Args"][-1] = "5"
    other = api.run_job_flow(**made)["JobFlowId"]
    hold(other)
    for in_place in (True, False):
        with pytest.raises(Refused, match=f"cluster {other} is .*, with run 0 on AOI 5"):
            clusters.run({**terraform, "in_place": in_place}, True)
    hold("j-NOTKNOWN")
    with pytest.raises(Refused, match="j-NOTKNOWN is not known to EMR"):
        clusters.run(terraform, True)
    api.terminate_job_flows(JobFlowIds=[own, other])
    hold(other)
    assert not clusters.run(terraform, True)["changed"]


def test_what_moved_since_the_check_is_stale(params: dict[str, Any]) -> None:
    """The kept request, the subnet of the EC2 instance with the name."""
    s3, ec2, bucket = client(params, "s3"), client(params, "ec2"), params["parameters"]["bucket"]
    key = emr.run(params, False)["request_key"]
    wanted = with_(params, worker_count=131)
    planned = held.of_result(emr.run(wanted, True))
    kept = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    moved = kept.replace(b"130", b"129")
    s3.put_object(Bucket=bucket, Key=key, Body=moved)
    with pytest.raises(Stale, match=f"{key}: planned .*, found"):
        emr.run({**wanted, "planned": planned}, False)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == moved
    s3.put_object(Bucket=bucket, Key=key, Body=kept)
    name = params["parameters"]["ec2_instance"]
    found = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])
    old = found["Reservations"][0]["Instances"][0]
    subnet = ec2.create_subnet(
        VpcId=old["VpcId"], CidrBlock="10.0.2.0/24", AvailabilityZone="us-east-1a"
    )["Subnet"]["SubnetId"]
    ec2.delete_tags(Resources=[old["InstanceId"]], Tags=[{"Key": "Name"}])
    ec2.run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}],
    )  # fmt: skip
    with pytest.raises(Stale, match=f"{key}: "):
        emr.run({**wanted, "planned": planned}, False)
    assert emr.run({**wanted, "planned": held.of_result(emr.run(wanted, True))}, False)["changed"]
