# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The labeller instance as EC2 knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from . import aws
from .errors import InvalidInput


@dataclass(frozen=True)
class Instance:
    """The properties of a running instance that other modules need."""

    id: str
    private_ip: str
    subnet_id: str


def running_instance(params: Mapping[str, Any], name: str, client: Any = None) -> Instance:
    """The one running instance with the Name tag ``name``; ``params`` are the AWS options.

    ``client`` is one of EC2's, where the caller has it.

    Stopped and terminated namesakes do not count (docs/labeller.md 3.1.4). Raises InvalidInput
    when there is none or more than one.
    """
    client = client or aws.client("ec2", params)
    filters = [
        {"Name": "tag:Name", "Values": [name]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    with aws.translated("look up the EC2 instance {}".format(name)):
        pages = client.get_paginator("describe_instances").paginate(Filters=filters)
        found = [
            Instance(each["InstanceId"], each.get("PrivateIpAddress", ""), each.get("SubnetId", ""))
            for page in pages
            for reservation in page["Reservations"]
            for each in reservation["Instances"]
        ]
    if not found:
        raise InvalidInput(
            "no running EC2 instance in {} has the tag Name={}; check ec2_instance, or start the "
            "instance".format(params["region"], name)
        )
    if len(found) > 1:
        raise InvalidInput(
            "{} running EC2 instances have the tag Name={} ({}); ec2_instance must name one: stop "
            "or rename the others".format(
                len(found), name, ", ".join(sorted(each.id for each in found))
            )
        )
    if not found[0].private_ip or not found[0].subnet_id:
        raise InvalidInput(
            "the EC2 instance {} ({}) has no private address or no subnet; the learner needs "
            "both".format(name, found[0].id)
        )
    return found[0]
