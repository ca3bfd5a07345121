"""The IAM policy with the rights that runbook uses on AWS, from the calls in the modules' code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from runbook.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: By the name of a boto3 client, the prefix of its actions. Their names are those of the API's
#: operations but for S3 (Service Authorization Reference, docs.aws.amazon.com).
SERVICES = {"ec2": "ec2", "emr": "elasticmapreduce", "s3": "s3"}
_S3 = {
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",  # and GetObject, which others need
    "CreateMultipartUpload": "PutObject",
    "DeleteObject": "DeleteObject",
    "DeleteObjects": "DeleteObject",
    "GetObject": "GetObject",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectsV2": "ListBucket",
    "PutObject": "PutObject",
    "UploadPart": "PutObject",
}
#: Actions that an operation needs besides its own.
_BESIDES = {"elasticmapreduce:RunJobFlow": ["elasticmapreduce:AddTags"]}


def policy(root: Path) -> dict[str, Any]:
    """The policy for the checkout ``root``; BUCKET stands for the bucket's name.

    Raises InvalidInputError for an operation of S3 whose action is not in the table.
    """
    actions = sorted({action for operation in _operations(root) for action in _actions(*operation)})
    on_s3 = [action for action in actions if action.startswith("s3:")]
    of_bucket = [action for action in on_s3 if action.startswith("s3:ListBucket")]
    return {
        "Version": "2012-10-17",
        "Statement": [
            _statement("Bucket", of_bucket, "arn:aws:s3:::BUCKET"),
            _statement(
                "Objects",
                [action for action in on_s3 if action not in of_bucket],
                "arn:aws:s3:::BUCKET/*",
            ),
            _statement("Learner", [action for action in actions if action not in on_s3], "*"),
            {
                **_statement("RolesOfTheCluster", ["iam:PassRole"], "*"),
                "Condition": {
                    "StringEquals": {
                        "iam:PassedToService": [
                            "elasticmapreduce.amazonaws.com",
                            "ec2.amazonaws.com",
                        ]
                    }
                },
            },
        ],
    }


def _statement(name: str, actions: list[str], resource: str) -> dict[str, Any]:
    return {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resource}


def _operations(root: Path) -> Iterator[tuple[str, str]]:
    """The services and operations that the modules' code calls, directly or page by page."""
    methods = _methods()
    for path in sorted((root / "plugins" / "module_utils").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for named in re.finditer(r"\.get_paginator\(\"(\w+)\"|\.(\w+)\b", text):
            name = named[1] or named[2]
            if name in methods:
                service, operation = methods[name]
                if service == "s3" and operation not in _S3:
                    line = text.count("\n", 0, named.start()) + 1
                    raise InvalidInputError(
                        f"{path.relative_to(root)}:{line}: {name} is the operation {operation} of "
                        f"S3, and the IAM policy does not know which action it needs: add that to "
                        f"_S3 in {Path(__file__).name}, or, if S3 is not called here, give the "
                        "function another name"
                    )
                yield service, operation


def _methods() -> Mapping[str, tuple[str, str]]:
    """By the name of a client's method, its service and operation."""
    unused = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    found = {}
    for service in SERVICES:
        client = boto3.client(service, **unused)
        for method, operation in client.meta.method_to_api_mapping.items():
            found[method] = (service, operation)
    return found


def _actions(service: str, operation: str) -> list[str]:
    action = f"{SERVICES[service]}:{_S3[operation] if service == 's3' else operation}"
    return [action, *_BESIDES.get(action, [])]
