# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The learner cluster's request: validated with EC2, EMR and S3, and kept for later steps."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Callable, List, Mapping, Sequence

from .. import aws, ec2
from ..change import Change
from ..errors import InvalidInput
from ..module import Params, Plan, composed
from . import job_flow, spark

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
        "options": job_flow.PARAMETERS,
    },
    "cluster": {
        "type": "dict",
        "default": {},
        "apply_defaults": True,
        "options": job_flow.CLUSTER_OPTIONS,
    },
    **aws.AWS_ARGUMENTS,
}


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
            "nodes will not start".format(job_flow.decimal(float(bid)), name, zone, price)
        )

    def objects(self) -> None:
        """Require the objects that the nodes fetch, and the bucket of the logs."""
        log_uri = job_flow.log_uri(self.parameters, self.cluster)
        bucket = job_flow.s3_address(log_uri, "log_uri")[0]
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
        for action in job_flow.bootstrap(self.parameters, self.cluster):
            self._object(*job_flow.s3_address(action["path"], "bootstrap"), "the bootstrap script")
        bucket, key = self.parameters["bucket"], job_flow.config_key(self.parameters)
        if "s3://{}/{}".format(bucket, key) not in (self.params["written_in_check"] or ()):
            self._object(bucket, key, "the learner's configuration")

    def _object(self, bucket: str, key: str, what: str) -> None:
        with aws.translated("find {} s3://{}/{}".format(what, bucket, key)):
            self.s3.head_object(Bucket=bucket, Key=key)


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
    job_flow.validate(parameters)
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
    wanted = job_flow.request(params["target"], parameters, cluster, state.subnet_id)
    text = json.dumps(wanted, indent=2, sort_keys=True) + "\n"
    facts = {
        "request": wanted,
        "request_key": state.kept.key,
        "hourly_ceiling": job_flow.hourly_ceiling(parameters, cluster),
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
    key = job_flow.request_key(parameters, params["target"])
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
