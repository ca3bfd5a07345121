"""The content of the sandbox's AWS: a network with the labeller instance, objects of the bucket."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REGION = "us-east-1"
#: Prefix of what the learner cluster's nodes fetch at their start (docs/labeller.md 5.1).
BOOTSTRAP = "bootstrap-cluster-test"

#: Of the labeller instance in its network.
ADDRESS = "10.0.1.10"

_SCRIPT = b"#!/bin/bash\n# Stands in for the script that prepares a node of the learner cluster.\n"


@dataclass(frozen=True)
class Network:
    """Where the labeller instance is."""

    subnet_id: str
    security_group_id: str


def client(service: str, endpoint_url: str) -> Any:
    """A boto3 client of the sandbox's AWS; any credentials do."""
    import boto3

    return boto3.client(
        service, endpoint_url=endpoint_url, region_name=REGION,
        aws_access_key_id="sandbox", aws_secret_access_key="sandbox",  # noqa: S106
    )  # fmt: skip


def forget(endpoint_url: str) -> None:
    """Empty the whole of it: buckets, instances, clusters."""
    request = urllib.request.Request(f"{endpoint_url}/moto-api/reset", method="POST")  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        answer.read()


def make_network(endpoint_url: str, *instances: str) -> Network:
    """A private network, the learner's security group, and instances by their Name tags."""
    ec2 = client("ec2", endpoint_url)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(
        VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone=f"{REGION}a"
    )["Subnet"]["SubnetId"]  # fmt: skip
    group = ec2.create_security_group(
        GroupName="learner", Description="Nodes of the learner cluster", VpcId=vpc
    )["GroupId"]
    ec2.create_key_pair(KeyName="labeller")
    for number, instance in enumerate(instances):
        ec2.run_instances(
            ImageId="ami-0c0ffee0c0ffee000", MinCount=1, MaxCount=1, InstanceType="t2.large",
            SubnetId=subnet, SecurityGroupIds=[group], KeyName="labeller",
            PrivateIpAddress=str(ip_address(ADDRESS) + number),
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": instance}]}
            ],
        )  # fmt: skip
    return Network(subnet, group)


def make_bucket(endpoint_url: str, bucket: str, objects: Mapping[str, bytes | Path]) -> None:
    """The bucket with ``objects``: by key, content or the file that holds it."""
    s3 = client("s3", endpoint_url)
    s3.create_bucket(Bucket=bucket)
    bootstrap = {f"{BOOTSTRAP}/bootstrap.sh": _SCRIPT}
    for key, content in {**bootstrap, **objects}.items():
        if isinstance(content, bytes):
            s3.put_object(Bucket=bucket, Key=key, Body=content)
        else:
            s3.upload_file(str(content), bucket, key)
