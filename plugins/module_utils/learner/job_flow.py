# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The learner cluster's request to EMR: pure functions (docs/labeller.md 5.1, corrected)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Mapping
from urllib.parse import urlsplit

from ..errors import InvalidInput
from ..names import names as derive_names
from . import spark

#: The parameters that decide it, as options of a module.
PARAMETERS: dict[str, Any] = {
    "ec2_instance": {"type": "str", "required": True},
    "security_group_id": {"type": "str", "required": True},
    "bucket": {"type": "str", "default": "activemapper"},
    "run_id": {"type": "int", "default": 0},
    "aoi_index": {"type": "int", "default": 1},
    "aoi_name": {"type": "str", "default": "aoi"},
    "github_branch": {"type": "str", "default": "master"},
    "num_possibilities": {"type": "int", "default": 20},
    "worker_type": {"type": "str", "default": "m4.xlarge"},
    "worker_count": {"type": "int", "default": 200},
    "bid_price": {"type": "float", "default": 0.086},
    "worker_vcpu": {"type": "int", "default": 16},
    "worker_mem_yarn": {"type": "int", "default": 24},
    "executor_cores": {"type": "int", "default": 5},
}

CLUSTER_OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "default": "GeoPySpark Cluster"},
    "release_label": {"type": "str", "default": "emr-5.12.1"},
    "applications": {
        "type": "list",
        "elements": "str",
        "default": ["Hadoop", "Spark", "Ganglia"],
    },
    "master_type": {"type": "str", "default": "m3.2xlarge"},
    "market": {"type": "str", "choices": ["spot", "on_demand"], "default": "spot"},
    "instance_fleets": {"type": "list", "elements": "dict", "default": []},
    "service_role": {"type": "str", "default": "EMR_DefaultRole"},
    "instance_profile": {"type": "str", "default": "EMR_EC2_DefaultRole"},
    "key_name": {"type": "str", "default": "azavea-mapping-africa", "no_log": False},
    "log_uri": {"type": "str"},
    "bootstrap": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "args": {"type": "list", "elements": "str", "default": []},
        },
    },
    "configurations": {"type": "list", "elements": "dict"},
    "steps": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "args": {"type": "list", "elements": "str", "required": True},
        },
    },
    "repository": {"type": "str", "default": "https://github.com/agroimpacts/learner.git"},
    "packages": {
        "type": "list",
        "elements": "str",
        "default": [
            "io.astraea:pyrasterframes:0.7.3-GT2",
            "org.apache.hadoop:hadoop-aws:2.7.3",
            "org.apache.logging.log4j:log4j-core:2.11.1",
        ],
    },
    "jars": {
        "type": "list",
        "elements": "str",
        "default": ["/opt/jars/geotrellis-backend-assembly-0.4.2.jar"],
    },
    "random_seed": {"type": "int", "default": 42},
    "tags": {"type": "dict", "default": {}},
}

LEARNER = "/home/hadoop/learner"

# Arguments of bootstrap.sh after its URIs (docs/labeller.md 5.1.3).
_GEOPYSPARK = (
    "s3://geopyspark-resources/jars/geotrellis-backend-assembly-0.4.2.jar",
    "https://github.com/locationtech-labs/geopyspark/archive/6f617b712eab74c2fd0de8d7f82c45d4ee5a5ba7.zip",
    "0ccf2e4f953e6658b0d30d487a8b912bbed12649",
    "0.7.3-GT2",
)

CONFIGURATIONS: list[dict[str, Any]] = [
    {"Classification": "spark", "Properties": {"maximizeResourceAllocation": "true"}},
    {
        "Classification": "spark-env",
        "Properties": {},
        "Configurations": [
            {
                "Classification": "export",
                "Properties": {
                    "PYSPARK_DRIVER_PYTHON": "/usr/bin/python3.4",
                    "PYSPARK_PYTHON": "/usr/bin/python3.4",
                    "GEOPYSPARK_JARS_PATH": "/opt/jars",
                },
            }
        ],
    },
    {
        "Classification": "spark-defaults",
        "Properties": {
            "spark.driver.maxResultSize": "3G",
            "spark.dynamicAllocation.enabled": "true",
            "spark.shuffle.service.enabled": "true",
            "spark.shuffle.compress": "true",
            "spark.shuffle.spill.compress": "true",
            "spark.rdd.compress": "true",
            "spark.yarn.executor.memoryOverhead": "{}G".format(spark.MEMORY_OVERHEAD),
            "spark.yarn.driver.memoryOverhead": "{}G".format(spark.MEMORY_OVERHEAD),
            "spark.executor.extraJavaOptions": "-XX:+UseParallelGC "
            "-Dgeotrellis.s3.threads.rdd.write=64",
        },
    },
    {
        "Classification": "yarn-site",
        "Properties": {
            "yarn.resourcemanager.am.max-attempts": "1",
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.pmem-check-enabled": "false",
        },
    },
]


def tags(target: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """The tags by which a cluster of this run is found; never by name or as the newest one."""
    return {
        "runbook:target": target,
        "runbook:aoi": "{aoi_name}_{aoi_index}".format(**parameters),
        "runbook:run": str(parameters["run_id"]),
    }


def request(
    target: str, parameters: Mapping[str, Any], cluster: Mapping[str, Any], subnet_id: str
) -> dict[str, Any]:
    """EMR's RunJobFlow request for one iteration's learner. Pure; raises InvalidInput on sizes.

    Where the old template was wrong (docs/labeller.md 3.1.5, 5.1.4) this is what was meant:
    integers, the right key of the shuffle partitions, run and AOI apart, the bucket of the
    parameters, and a step that fails ends the cluster.
    """
    instances: dict[str, Any] = {
        "Ec2SubnetId": subnet_id,
        "EmrManagedMasterSecurityGroup": parameters["security_group_id"],
        "EmrManagedSlaveSecurityGroup": parameters["security_group_id"],
        "KeepJobFlowAliveWhenNoSteps": False,
        "TerminationProtected": False,
    }
    if cluster["key_name"]:
        instances["Ec2KeyName"] = cluster["key_name"]
    if cluster["instance_fleets"]:
        instances["InstanceFleets"] = list(cluster["instance_fleets"])
        # Fleets choose their subnet from a list.
        instances["Ec2SubnetIds"] = [instances.pop("Ec2SubnetId")]
    else:
        instances["InstanceGroups"] = _instance_groups(parameters, cluster)
    all_tags = {**cluster["tags"], **tags(target, parameters)}
    return {
        "Name": cluster["name"],
        "ReleaseLabel": cluster["release_label"],
        "LogUri": log_uri(parameters, cluster),
        "Applications": [{"Name": name} for name in cluster["applications"]],
        "ServiceRole": cluster["service_role"],
        "JobFlowRole": cluster["instance_profile"],
        "VisibleToAllUsers": True,
        "Instances": instances,
        "BootstrapActions": [
            {
                "Name": action["name"],
                "ScriptBootstrapAction": {"Path": action["path"], "Args": list(action["args"])},
            }
            for action in bootstrap(parameters, cluster)
        ],
        "Configurations": (
            CONFIGURATIONS if cluster["configurations"] is None else cluster["configurations"]
        ),
        "Steps": [
            {
                "Name": step["name"],
                "ActionOnFailure": "TERMINATE_CLUSTER",
                "HadoopJarStep": {"Jar": "command-runner.jar", "Args": list(step["args"])},
            }
            for step in _steps(parameters, cluster)
        ],
        "Tags": [{"Key": key, "Value": str(all_tags[key])} for key in sorted(all_tags)],
    }


def _instance_groups(
    parameters: Mapping[str, Any], cluster: Mapping[str, Any]
) -> list[dict[str, Any]]:
    core: dict[str, Any] = {
        "Name": "geopyspark-core",
        "InstanceRole": "CORE",
        "InstanceType": parameters["worker_type"],
        "InstanceCount": parameters["worker_count"],
        "Market": cluster["market"].upper(),
    }
    if cluster["market"] == "spot":
        core["BidPrice"] = decimal(parameters["bid_price"])
    master = {
        "Name": "geopyspark-master",
        "InstanceRole": "MASTER",
        "InstanceType": cluster["master_type"],
        "InstanceCount": 1,
        "Market": "ON_DEMAND",
    }
    return [master, core]


def decimal(number: float) -> str:
    """An amount as text without exponents, as EMR takes the bid."""
    return format(Decimal(str(number)), "f")


def log_uri(parameters: Mapping[str, Any], cluster: Mapping[str, Any]) -> str:
    """Where the logs go."""
    return cluster["log_uri"] or "s3://{}/logs".format(parameters["bucket"])


def bootstrap(parameters: Mapping[str, Any], cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The bootstrap actions: name, path and args."""
    if cluster["bootstrap"] is not None:
        return list(cluster["bootstrap"])
    root = "s3://{}".format(parameters["bucket"])
    return [
        {
            "name": "geopyspark",
            "path": root + "/bootstrap-cluster-test/bootstrap.sh",
            "args": [
                root + "/rpms/4ff6e43910188a1215a1474cd2e5152e200c5702",
                root + "/notebooks",
                *_GEOPYSPARK,
            ],
        }
    ]


def _steps(parameters: Mapping[str, Any], cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    if cluster["steps"] is not None:
        return list(cluster["steps"])
    size = spark.sizing(
        parameters["worker_vcpu"],
        parameters["worker_mem_yarn"],
        parameters["executor_cores"],
        parameters["worker_count"],
    )
    settings = {
        "spark.executorEnv.GDAL_DATA": "/usr/local/share/gdal",
        "spark.executor.instances": size.executors,
        "spark.executor.cores": size.executor_cores,
        "spark.executor.memory": "{}g".format(size.executor_memory),
        "spark.driver.cores": size.executor_cores,
        "spark.driver.memory": "{}g".format(size.executor_memory),
        "spark.sql.shuffle.partitions": size.partitions,
        "spark.default.parallelism": size.partitions,
    }
    config = ["--config-filename", config_key(parameters)]
    branch = parameters["github_branch"]
    submit = ["spark-submit", "--master", "yarn"]
    if cluster["packages"]:
        submit += ["--packages", ",".join(cluster["packages"])]
    if cluster["jars"]:
        submit += ["--jars", ",".join(cluster["jars"])]
    for key, value in settings.items():
        submit += ["--conf", "{}={}".format(key, value)]
    submit += [
        LEARNER + "/run_it/run_geopyspark.py",
        *config,
        "--probability-images",
        str(parameters["num_possibilities"]),
        "--random-seed",
        str(cluster["random_seed"]),
        parameters["bucket"],
        str(parameters["run_id"]),
        str(parameters["aoi_index"]),
    ]
    clone = ["git", "clone", "--depth", "1", "-b", branch, cluster["repository"], LEARNER]
    return [
        {"name": "Clone Learner", "args": clone},
        {"name": "run_geopyspark.py", "args": submit},
        {
            "name": "run_DB_insert.py",
            "args": ["python3", LEARNER + "/run_it/run_DB_insert.py", *config],
        },
    ]


def config_key(parameters: Mapping[str, Any]) -> str:
    """Key of the configuration that the cluster reads."""
    return _names(parameters, "")["config"]


def request_key(parameters: Mapping[str, Any], target: str) -> str:
    """Key of the request that is kept."""
    return _names(parameters, target)["learner_request"]


def _names(parameters: Mapping[str, Any], target: str) -> dict[str, str]:
    return derive_names(
        parameters["bucket"],
        parameters["aoi_name"],
        parameters["aoi_index"],
        "",
        "",
        target,
        parameters["run_id"],
    )


def validate(parameters: Mapping[str, Any]) -> None:
    """InvalidInput for numbers that EMR or the learner could only fail on."""
    if parameters["num_possibilities"] < 1:
        raise InvalidInput(
            "num_possibilities is {}; it must be at least 1, or the learner leaves the outgoing "
            "names of an earlier iteration in place".format(parameters["num_possibilities"])
        )
    if not parameters["bid_price"] > 0:
        raise InvalidInput("bid_price is {}; it must be above 0".format(parameters["bid_price"]))


def hourly_ceiling(parameters: Mapping[str, Any], cluster: Mapping[str, Any]) -> float | None:
    """Most that the core nodes can cost, US dollars an hour: workers x bid.

    None when no bid bounds it.
    """
    if cluster["instance_fleets"] or cluster["market"] != "spot":
        return None
    return float(Decimal(str(parameters["bid_price"])) * parameters["worker_count"])


def s3_address(uri: str, option: str) -> tuple[str, str]:
    """Bucket and key of an address; InvalidInput naming ``option`` when it is none."""
    parts = urlsplit(uri)
    if parts.scheme not in ("s3", "s3n", "s3a") or not parts.netloc:
        raise InvalidInput(
            "{} of the learner cluster is {}; it must be s3://BUCKET/KEY".format(option, uri)
        )
    return parts.netloc, parts.path.lstrip("/")
