"""The learner's cluster request: docs/labeller.md 5.1, with its errors put right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput
from ansible_collections.labeller.runbook.plugins.module_utils.learner import job_flow


def defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {name: option.get("default") for name, option in options.items()}


CLUSTER = defaults(job_flow.CLUSTER_OPTIONS)
GHANA = {
    **defaults(job_flow.PARAMETERS),
    "ec2_instance": "labeller3",
    "security_group_id": "sg-0a8bbc91697d6a76b",
    "run_id": 1,
    "aoi_index": 3,
    "aoi_name": "ghana",
    "worker_count": 130,
    "num_possibilities": 30,
    "bucket": "other-bucket",
}


def request(parameters: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    return job_flow.request(
        "labeller3", {**GHANA, **(parameters or {})}, {**CLUSTER, **cluster}, "subnet-1"
    )


def test_the_request_of_the_page() -> None:
    assert request() == {
        "Name": "GeoPySpark Cluster",
        "ReleaseLabel": "emr-5.12.1",
        "LogUri": "s3://other-bucket/logs",
        "Applications": [{"Name": "Hadoop"}, {"Name": "Spark"}, {"Name": "Ganglia"}],
        "ServiceRole": "EMR_DefaultRole",
        "JobFlowRole": "EMR_EC2_DefaultRole",
        "VisibleToAllUsers": True,
        "Instances": {
            "Ec2SubnetId": "subnet-1",
            "Ec2KeyName": "azavea-mapping-africa",
            "EmrManagedMasterSecurityGroup": "sg-0a8bbc91697d6a76b",
            "EmrManagedSlaveSecurityGroup": "sg-0a8bbc91697d6a76b",
            "KeepJobFlowAliveWhenNoSteps": False,
            "TerminationProtected": False,
            "InstanceGroups": [
                {
                    "Name": "geopyspark-master",
                    "InstanceRole": "MASTER",
                    "InstanceType": "m3.2xlarge",
                    "InstanceCount": 1,
                    "Market": "ON_DEMAND",
                },
                {
                    "Name": "geopyspark-core",
                    "InstanceRole": "CORE",
                    "InstanceType": "m4.xlarge",
                    "InstanceCount": 130,
                    "Market": "SPOT",
                    "BidPrice": "0.086",
                },
            ],
        },
        "BootstrapActions": [
            {
                "Name": "geopyspark",
                "ScriptBootstrapAction": {
                    "Path": "s3://other-bucket/bootstrap-cluster-test/bootstrap.sh",
                    "Args": [
                        "s3://other-bucket/rpms/4ff6e43910188a1215a1474cd2e5152e200c5702",
                        "s3://other-bucket/notebooks",
                        "s3://geopyspark-resources/jars/geotrellis-backend-assembly-0.4.2.jar",
                        "https://github.com/locationtech-labs/geopyspark/archive/6f617b712eab74c2fd0de8d7f82c45d4ee5a5ba7.zip",
                        "0ccf2e4f953e6658b0d30d487a8b912bbed12649",
                        "0.7.3-GT2",
                    ],
                },
            }
        ],
        "Configurations": job_flow.CONFIGURATIONS,
        "Steps": [
            {
                "Name": name,
                "ActionOnFailure": "TERMINATE_CLUSTER",
                "HadoopJarStep": {"Jar": "command-runner.jar", "Args": arguments},
            }
            for name, arguments in [
                (
                    "Clone Learner",
                    [
                        "git",
                        "clone",
                        "--depth",
                        "1",
                        "-b",
                        "master",
                        "https://github.com/agroimpacts/learner.git",
                        "/home/hadoop/learner",
                    ],
                ),
                (
                    "run_geopyspark.py",
                    [
                        "spark-submit",
                        "--master",
                        "yarn",
                        "--packages",
                        "io.astraea:pyrasterframes:0.7.3-GT2,org.apache.hadoop:hadoop-aws:2.7.3,org.apache.logging.log4j:log4j-core:2.11.1",
                        "--jars",
                        "/opt/jars/geotrellis-backend-assembly-0.4.2.jar",
                        "--conf",
                        "spark.executorEnv.GDAL_DATA=/usr/local/share/gdal",
                        "--conf",
                        "spark.executor.instances=389",
                        "--conf",
                        "spark.executor.cores=5",
                        "--conf",
                        "spark.executor.memory=7g",
                        "--conf",
                        "spark.driver.cores=5",
                        "--conf",
                        "spark.driver.memory=7g",
                        "--conf",
                        "spark.sql.shuffle.partitions=3890",
                        "--conf",
                        "spark.default.parallelism=3890",
                        "/home/hadoop/learner/run_it/run_geopyspark.py",
                        "--config-filename",
                        "config_ghana_3.yaml",
                        "--probability-images",
                        "30",
                        "--random-seed",
                        "42",
                        "other-bucket",
                        "1",
                        "3",
                    ],
                ),
                (
                    "run_DB_insert.py",
                    [
                        "python3",
                        "/home/hadoop/learner/run_it/run_DB_insert.py",
                        "--config-filename",
                        "config_ghana_3.yaml",
                    ],
                ),
            ]
        ],
        "Tags": [
            {"Key": "runbook:aoi", "Value": "ghana_3"},
            {"Key": "runbook:run", "Value": "1"},
            {"Key": "runbook:target", "Value": "labeller3"},
        ],
    }


def test_run_and_aoi_are_not_mixed_up() -> None:
    """The old replacement by value made `--run_id 1 --aoi_index 3` into `activemapper 3 3`."""
    for run, aoi in [(1, 3), (0, 1), (1, 1), (3, 1)]:
        arguments = request({"run_id": run, "aoi_index": aoi, "num_possibilities": 1})["Steps"][1][
            "HadoopJarStep"
        ]["Args"]
        assert arguments[-2:] == [str(run), str(aoi)]
        assert arguments[arguments.index("--probability-images") + 1] == "1"


def test_a_modern_release_by_parameters_only() -> None:
    made = request(
        release_label="emr-7.5.0", applications=["Spark"], packages=[], jars=[], key_name="", configurations=[],
        bootstrap=[{"name": "b", "path": "s3://x/y.sh", "args": ["1"]}], log_uri="s3://logs/here", market="on_demand",
        steps=[{"name": "all", "args": ["true"]}], tags={"team": "maps", "runbook:run": "999"},
    )  # fmt: skip
    assert made["ReleaseLabel"] == "emr-7.5.0"
    assert made["BootstrapActions"] == [
        {"Name": "b", "ScriptBootstrapAction": {"Path": "s3://x/y.sh", "Args": ["1"]}}
    ]
    assert made["Configurations"] == []
    assert made["LogUri"] == "s3://logs/here"
    assert "Ec2KeyName" not in made["Instances"]
    core = made["Instances"]["InstanceGroups"][1]
    assert (core["Market"], "BidPrice" in core) == ("ON_DEMAND", False)
    assert made["Steps"] == [
        {
            "Name": "all",
            "ActionOnFailure": "TERMINATE_CLUSTER",
            "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]},
        }
    ]
    assert {"Key": "team", "Value": "maps"} in made["Tags"]
    assert {"Key": "runbook:run", "Value": "1"} in made["Tags"]
    submit = request(packages=[], jars=[])["Steps"][1]["HadoopJarStep"]["Args"]
    assert "--packages" not in submit
    assert "--jars" not in submit


def test_fleets_take_the_place_of_groups() -> None:
    fleet = {
        "InstanceFleetType": "MASTER",
        "TargetOnDemandCapacity": 1,
        "InstanceTypeConfigs": [{"InstanceType": "m5.xlarge"}],
    }
    instances = request(instance_fleets=[fleet])["Instances"]
    assert instances["InstanceFleets"] == [fleet]
    assert instances["Ec2SubnetIds"] == ["subnet-1"]
    assert not {"InstanceGroups", "Ec2SubnetId"} & set(instances)


@pytest.mark.parametrize(
    ("bid", "text"), [(0.086, "0.086"), (1.0, "1.0"), (0.00001, "0.00001"), (2, "2")]
)
def test_the_bid_is_plain_decimal_text(bid: float, text: str) -> None:
    assert request({"bid_price": bid})["Instances"]["InstanceGroups"][1]["BidPrice"] == text


def test_the_ceiling_is_workers_times_bid() -> None:
    assert job_flow.hourly_ceiling(GHANA, CLUSTER) == 11.18
    assert job_flow.hourly_ceiling(GHANA, {**CLUSTER, "market": "on_demand"}) is None


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"num_possibilities": 0}, "num_possibilities is 0"),
        ({"bid_price": 0.0}, "bid_price is 0"),
        ({"bid_price": float("nan")}, "bid_price"),
    ],
)
def test_what_the_learner_could_only_fail_on(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidInput, match=part):
        job_flow.validate({**GHANA, **changes})


def test_the_request_is_one_that_botocore_accepts() -> None:
    import boto3
    from botocore.validate import ParamValidator

    client = boto3.client(
        "emr", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
    )
    shape = client.meta.service_model.operation_model("RunJobFlow").input_shape
    made = json.loads(json.dumps(request()))
    assert not ParamValidator().validate(made, shape).has_errors()
