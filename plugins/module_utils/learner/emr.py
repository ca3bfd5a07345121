# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The learner cluster's request: computed, checked, stored (docs/labeller.md 5.1, corrected)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Callable, List, Mapping, Sequence
from urllib.parse import urlsplit

from .. import aws, ec2
from ..change import Change
from ..errors import InvalidInput
from ..module import Params, Plan, composed
from ..names import names as derive_names
from . import spark

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

ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["present", "submitted", "finished", "absent", "verified"],
        "default": "present",
    },
    "home": {"type": "str"},
    "in_place": {"type": "bool", "default": False},
    "target": {"type": "str", "required": True},
    "written_in_check": {"type": "list", "elements": "str", "default": []},
    "iteration": {"type": "int"},
    "applied": {"type": "str"},
    "attempts": {"type": "int", "default": 3},
    "retry_on": {
        "type": "list",
        "elements": "str",
        "default": ["INSTANCE_FAILURE", "INSTANCE_FLEET_TIMEOUT", "INTERNAL_ERROR"],
    },
    "retry": {"type": "bool", "default": False},
    "cluster_id": {"type": "str"},
    "wait": {"type": "float", "default": 60},
    "poll": {"type": "float", "default": 15},
    "timeout": {"type": "int", "default": 21600},
    "parameters": {
        "type": "dict",
        "required": True,
        "options": {
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
        },
    },
    "cluster": {
        "type": "dict",
        "default": {},
        "apply_defaults": True,
        "options": CLUSTER_OPTIONS,
    },
    **aws.AWS_ARGUMENTS,
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
        "LogUri": _log_uri(parameters, cluster),
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
            for action in _bootstrap(parameters, cluster)
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
        core["BidPrice"] = _decimal(parameters["bid_price"])
    master = {
        "Name": "geopyspark-master",
        "InstanceRole": "MASTER",
        "InstanceType": cluster["master_type"],
        "InstanceCount": 1,
        "Market": "ON_DEMAND",
    }
    return [master, core]


def _decimal(number: float) -> str:
    # EMR takes the bid as text and knows no exponents.
    return format(Decimal(str(number)), "f")


def _log_uri(parameters: Mapping[str, Any], cluster: Mapping[str, Any]) -> str:
    return cluster["log_uri"] or "s3://{}/logs".format(parameters["bucket"])


def _bootstrap(parameters: Mapping[str, Any], cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
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


class Checks:
    """Read-only calls that hold a request against what EC2, EMR and S3 have."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.parameters = params["parameters"]
        self.cluster = params["cluster"]
        self.ec2 = aws.client("ec2", params)
        self.s3 = aws.client("s3", params)
        self.emr = aws.client("emr", params)

    def network(self, subnet_id: str) -> str:
        """The subnet's availability zone; the security group must be of the same network."""
        with aws.translated("look up the subnet {}".format(subnet_id)):
            (subnet,) = self.ec2.describe_subnets(SubnetIds=[subnet_id])["Subnets"]
        group_id = self.parameters["security_group_id"]
        with aws.translated("look up the security group {}".format(group_id)):
            try:
                (group,) = self.ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
            except self.ec2.exceptions.ClientError as error:
                if aws.error_code(error) not in (
                    "InvalidGroup.NotFound",
                    "InvalidGroupId.Malformed",
                ):
                    raise
                raise InvalidInput(
                    "there is no security group {} in {}; check security_group_id".format(
                        group_id, self.params["region"]
                    )
                ) from error
        if group.get("VpcId") != subnet.get("VpcId"):
            raise InvalidInput(
                "the security group {} is in the network {}, but the labeller instance's subnet {} "
                "is in {}; check security_group_id".format(
                    group_id, group.get("VpcId"), subnet_id, subnet.get("VpcId")
                )
            )
        return str(subnet["AvailabilityZone"])

    def key_pair(self) -> None:
        """The key pair must exist."""
        name = self.cluster["key_name"]
        if not name:
            return
        with aws.translated("look up the key pair {}".format(name)):
            filters = [{"Name": "key-name", "Values": [name]}]
            if not self.ec2.describe_key_pairs(Filters=filters)["KeyPairs"]:
                raise InvalidInput(
                    "there is no EC2 key pair {} in {}; check key_name of the learner cluster, or "
                    "leave it empty for none".format(name, self.params["region"])
                )

    def release(self) -> None:
        """EMR must know the release."""
        label = self.cluster["release_label"]
        with aws.translated("list EMR's releases"):
            pages = [self.emr.list_release_labels(Filters={"Prefix": label})]
            while pages[-1].get("NextToken"):
                pages.append(self.emr.list_release_labels(NextToken=pages[-1]["NextToken"]))
        if not any(label in page["ReleaseLabels"] for page in pages):
            raise InvalidInput(
                "EMR has no release {} in {}; check release_label of the learner cluster".format(
                    label, self.params["region"]
                )
            )

    def instance_types(self, zone: str) -> None:
        """Every type of the cluster must be offered in the subnet's zone."""
        if self.cluster["instance_fleets"]:
            configs = [
                fleet.get("InstanceTypeConfigs", []) for fleet in self.cluster["instance_fleets"]
            ]
            wanted = {each["InstanceType"] for config in configs for each in config}
        else:
            wanted = {self.cluster["master_type"], self.parameters["worker_type"]}
        filters = [
            {"Name": "instance-type", "Values": sorted(wanted)},
            {"Name": "location", "Values": [zone]},
        ]
        with aws.translated("look up instance types in {}".format(zone)):
            pages = self.ec2.get_paginator("describe_instance_type_offerings").paginate(
                LocationType="availability-zone", Filters=filters
            )
            offered = {
                each["InstanceType"] for page in pages for each in page["InstanceTypeOfferings"]
            }
        missing = sorted(wanted - offered)
        if missing:
            raise InvalidInput(
                "EC2 offers no {} in {}, the zone of the labeller instance's subnet; check "
                "worker_type and master_type of the learner cluster".format(
                    " and no ".join(missing), zone
                )
            )

    def size(self) -> str:
        """A warning when the worker type's real size contradicts the declared one, else empty."""
        name = self.parameters["worker_type"]
        with aws.translated("look up the instance type {}".format(name)):
            (found,) = self.ec2.describe_instance_types(InstanceTypes=[name])["InstanceTypes"]
        return spark.contradiction(
            name,
            found["VCpuInfo"]["DefaultVCpus"],
            found["MemoryInfo"]["SizeInMiB"] / 1024,
            self.parameters["worker_vcpu"],
            self.parameters["worker_mem_yarn"],
        )

    def bid(self, zone: str) -> str:
        """A warning when the bid is below the spot price of now, else empty."""
        name, bid = self.parameters["worker_type"], Decimal(str(self.parameters["bid_price"]))
        with aws.translated("look up the spot price of {}".format(name)):
            history = self.ec2.describe_spot_price_history(
                InstanceTypes=[name],
                AvailabilityZone=zone,
                ProductDescriptions=["Linux/UNIX", "Linux/UNIX (Amazon VPC)"],
                StartTime=datetime.now(timezone.utc),
            )["SpotPriceHistory"]
        here = [each for each in history if each["AvailabilityZone"] == zone]
        if not here:
            return ""
        price = Decimal(max(here, key=lambda each: each["Timestamp"])["SpotPrice"])
        if bid >= price:
            return ""
        return (
            "the bid of {} dollars an hour is below the spot price of {} in {}, now {:f}: the core "
            "nodes will not start".format(_decimal(float(bid)), name, zone, price)
        )

    def objects(self) -> None:
        """Require the objects that the nodes fetch, and the bucket of the logs."""
        log_uri = _log_uri(self.parameters, self.cluster)
        bucket = s3_address(log_uri, "log_uri")[0]
        with aws.translated("use the bucket of log_uri {}".format(log_uri)):
            try:
                self.s3.head_bucket(Bucket=bucket)
            except self.s3.exceptions.ClientError as error:
                if aws.error_code(error) != "404":
                    raise
                raise InvalidInput(
                    "there is no bucket {}; check bucket, or log_uri of the learner cluster".format(
                        bucket
                    )
                ) from error
        for action in _bootstrap(self.parameters, self.cluster):
            self._object(*s3_address(action["path"], "bootstrap"), "the bootstrap script")
        bucket, key = self.parameters["bucket"], config_key(self.parameters)
        if "s3://{}/{}".format(bucket, key) not in (self.params["written_in_check"] or ()):
            self._object(bucket, key, "the learner's configuration")

    def _object(self, bucket: str, key: str, what: str) -> None:
        with aws.translated("find {} s3://{}/{}".format(what, bucket, key)):
            self.s3.head_object(Bucket=bucket, Key=key)


def s3_address(uri: str, option: str) -> tuple[str, str]:
    """Bucket and key of an address; InvalidInput naming ``option`` when it is none."""
    parts = urlsplit(uri)
    if parts.scheme not in ("s3", "s3n", "s3a") or not parts.netloc:
        raise InvalidInput(
            "{} of the learner cluster is {}; it must be s3://BUCKET/KEY".format(option, uri)
        )
    return parts.netloc, parts.path.lstrip("/")


@dataclass(frozen=True)
class State:
    """Where the cluster would run, the request that is kept, and warnings of what EC2 says."""

    subnet_id: str
    kept: Kept
    text: str
    warnings: Sequence[str]


def observe(params: Params) -> State:
    """Hold the request's parts against EC2, EMR and S3; raises for what cannot work."""
    parameters, cluster = params["parameters"], params["cluster"]
    validate(parameters)
    checks = Checks(params)
    instance = ec2.running_instance(params, parameters["ec2_instance"], checks.ec2)
    zone = checks.network(instance.subnet_id)
    kept = kept_request(checks.s3, params)
    looks: List[Callable[[], Any]] = [
        checks.release,
        checks.key_pair,
        lambda: checks.instance_types(zone),
        checks.objects,
    ]
    if not cluster["instance_fleets"]:
        looks.append(checks.size)
        if cluster["market"] == "spot":
            looks.append(lambda: checks.bid(zone))
    looks.append(kept.read)
    with ThreadPoolExecutor(len(looks)) as pool:
        # in order, so that of several faults always the same is reported
        _, _, _, _, *warnings, text = [
            each.result() for each in [pool.submit(look) for look in looks]
        ]
    return State(instance.subnet_id, kept, text, [warning for warning in warnings if warning])


def plan(state: State, params: Params) -> Plan:
    """The request as it will be kept."""
    parameters, cluster = params["parameters"], params["cluster"]
    wanted = request(params["target"], parameters, cluster, state.subnet_id)
    text = json.dumps(wanted, indent=2, sort_keys=True) + "\n"
    facts = {
        "request": wanted,
        "request_key": state.kept.key,
        "hourly_ceiling": hourly_ceiling(parameters, cluster),
    }
    change = Change(state.kept.name, "write", state.text, text)
    image = {
        "kind": "object",
        "bucket": state.kept.bucket,
        "key": state.kept.key,
        "before": state.text or None,
        "after": text,
    }
    return Plan([change], facts, state.warnings, work=state.kept, image=image)


def apply(decided: Plan, _params: Params) -> None:
    """Keep the request."""
    (change,) = decided.changes
    if change.changed:
        decided.work.write(change.after)


#: The state ``present`` of emr_learner.
run = composed(observe, plan, apply)


def kept_request(s3: Any, params: Mapping[str, Any]) -> Kept:
    """Where the target's request is kept."""
    parameters = params["parameters"]
    key = _names(parameters, params["target"])["learner_request"]
    return Kept(s3, parameters["bucket"], key)


class Kept:
    """The request as the object that later steps submit from."""

    def __init__(self, s3: Any, bucket: str, key: str) -> None:
        self.s3, self.bucket, self.key = s3, bucket, key
        self.name = "s3://{}/{}".format(bucket, key)

    def read(self) -> str:
        """The object's text, empty when there is none."""
        body = aws.read_object(self.s3, self.bucket, self.key)
        return (body or b"").decode("utf-8", "replace")

    def request(self) -> dict[str, Any]:
        """The request; InvalidInput when none is kept."""
        try:
            return dict(json.loads(self.read()))
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidInput(
                "{} is missing or no request; apply the run mode, which defines it".format(
                    self.name
                )
            ) from error

    def write(self, text: str) -> None:
        """Put the object in place."""
        with aws.translated("write {}".format(self.name)):
            self.s3.put_object(
                Bucket=self.bucket,
                Key=self.key,
                Body=text.encode(),
                ContentType="application/json",
            )
