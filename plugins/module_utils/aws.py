# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""AWS clients: options, one factory, errors in plain words."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Dict, Iterator, Mapping, Optional

from .errors import InvalidInput, ModuleFailure, Refused, Unreachable, missing

with suppress(ImportError):  # client says what to install
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        HTTPClientError,
        NoCredentialsError,
        ReadTimeoutError,
    )
    from botocore.exceptions import (
        ConnectionError as BotoConnectionError,
    )
    from botocore.parsers import ResponseParserError

AWS_ARGUMENTS: dict[str, Any] = {
    "access_key": {"type": "str", "no_log": False},
    "secret_key": {"type": "str", "no_log": True},
    "region": {"type": "str", "default": "us-east-1"},
    "endpoint_url": {"type": "str"},
}

#: How modules have S3 encrypt what may hold secrets.
ENCRYPTION: dict[str, Any] = {
    "server_side_encryption": {"type": "str", "choices": ["AES256", "none"], "default": "AES256"}
}

#: Seconds without a byte after which a server is given up, and how often a request is made in them.
PATIENCE = 60
ATTEMPTS = 5
#: Seconds that pass at most between two attempts, on average: botocore waits longer each time.
_PAUSE = 3

#: Seconds between this host's clock and a service's from which requests are refused: five minutes,
#: S3's own limit is 15. Few services say why, and the answer to HEAD has no room for it.
_SKEWED = 300
_SKEWED_CODES = ("RequestExpired", "RequestTimeTooSkewed")
_DENIED_CODES = ("AccessDenied", "403", "UnauthorizedOperation", "AccessDeniedException")
#: Of an object that is not there; the answer to HEAD has the status alone.
MISSING_CODES = ("NoSuchKey", "404", "NotFound")
#: Of a conditional write to a key that has an object, or gets one right now.
TAKEN_CODES = ("PreconditionFailed", "ConditionalRequestConflict")
_CREDENTIAL_CODES = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "AuthFailure",
    "InvalidClientTokenId",
)
#: How servers refuse what they do not offer, and the operations that ask for encryption.
_NOT_OFFERED = ("InvalidRequest", "InvalidArgument", "NotImplemented")
_ENCRYPTED = ("PutObject", "CreateMultipartUpload")


def client(service: str, params: Mapping[str, Any], attempts: int = ATTEMPTS) -> Any:
    """A boto3 client of ``service`` (``s3``, ``ec2``, ``emr``) from the common options.

    Without keys boto3's own chain (profile, instance role) is used. A call that must not be made
    twice wants one attempt.
    """
    try:  # only here: a seventh of a second that most steps do not need
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise missing("boto3", str(error)) from error
    options: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": attempts},
        "connect_timeout": min(10, _timeout(attempts)),
        "read_timeout": _timeout(attempts),
        "max_pool_connections": 32,
    }
    if service == "s3" and params["endpoint_url"]:
        options["s3"] = {"addressing_style": "path"}
        # Over https newer versions of botocore send a checksum after the body, unless it is given:
        # Ceph 16 refuses the request then (MissingContentLength).
        if "request_checksum_calculation" in Config.OPTION_DEFAULTS:
            options["request_checksum_calculation"] = "when_required"
    try:
        made = boto3.client(
            service,
            region_name=params["region"],
            endpoint_url=params["endpoint_url"] or None,
            aws_access_key_id=params["access_key"] or None,
            aws_secret_access_key=params["secret_key"] or None,
            config=Config(**options),
        )
    except ValueError as error:
        raise InvalidInput(
            "{}; check aws_endpoint_url and the region, an endpoint is http://HOST:PORT or "
            "https://HOST".format(error)
        ) from error
    made.meta.events.register("before-parse." + service, _require_answer_of_service)
    return made


#: The services that modules call, each with an operation that answers in pages.
_LISTINGS = {"s3": "list_objects_v2", "ec2": "describe_instances", "emr": "list_clusters"}


def preload() -> None:
    """Import boto3, and have it read what it knows of the services that modules call."""
    with suppress(Exception):  # the modules that need it say what is wrong with it
        import boto3

        for service, listing in _LISTINGS.items():
            unused = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}
            made = boto3.client(service, "us-east-1", **unused)
            made.can_paginate(listing)  # botocore looks through its folders of all services


class _ForeignAnswer(Exception):  # noqa: N818 - an answer, which translated makes an error of
    """An answer that no AWS service has written."""


#: Services answer in XML and JSON; proxies, load balancers and captive portals in HTML and text.
_OF_SERVICE = re.compile(rb"\s*(\{|<(?!html\b|!doctype html\b)|$)", re.IGNORECASE)


def _require_answer_of_service(response_dict: Dict[str, Any], **_: Any) -> None:
    """Raise _ForeignAnswer, or leave botocore the status alone of an error that it repeats.

    botocore would take a page of HTML for an empty list, or for a write that was done; and would
    not repeat a request to EC2 where the text of an error is no XML.
    """
    status, body = response_dict["status_code"], response_dict["body"]
    if not isinstance(body, bytes) or _OF_SERVICE.match(body):
        return
    if status < 500:
        raise _ForeignAnswer(
            "HTTP {} with {!r}".format(status, body[:80].decode("utf-8", "replace"))
        )
    response_dict["body"] = b""


def _timeout(attempts: int) -> int:
    """Seconds for each of so many attempts, so that all together take ``PATIENCE``."""
    return PATIENCE // attempts - (_PAUSE if attempts > 1 else 0)


def error_code(error: Exception) -> str:
    """The service's code of a ClientError (``NoSuchKey``, ``404``), else an empty string."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def head_object(s3: Any, bucket: str, key: str, **options: Any) -> Optional[Mapping[str, Any]]:
    """S3's answer about an object; None when there is none."""
    with translated("look at s3://{}/{}".format(bucket, key)):
        try:
            answer: Mapping[str, Any] = s3.head_object(Bucket=bucket, Key=key, **options)
            return answer
        except s3.exceptions.ClientError as error:
            if error_code(error) in MISSING_CODES:
                return None
            raise


def read_object(s3: Any, bucket: str, key: str) -> Optional[bytes]:
    """A small object's content; None when there is none."""
    with translated("read s3://{}/{}".format(bucket, key)):
        try:
            return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        except s3.exceptions.ClientError as error:
            if error_code(error) in MISSING_CODES:
                return None
            raise


def objects(s3: Any, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
    """S3's entries of the objects below ``prefix``, in the order of their keys."""
    with translated("list s3://{}/{}".format(bucket, prefix)):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from page.get("Contents", [])


def encryption(params: Mapping[str, Any]) -> Dict[str, str]:
    """The arguments of a write to S3 for the option ``server_side_encryption``."""
    asked = params["server_side_encryption"]
    return {} if asked == "none" else {"ServerSideEncryption": asked}


def require_encrypted(answer: Mapping[str, Any], name: str, asked: Optional[str]) -> None:
    """Raise Refused where S3 was asked to encrypt an object and its answer does not say so.

    AWS always says it. Other servers may ignore what they do not offer, and store the object as it
    is; ``asked`` is the request's ServerSideEncryption, None without one.
    """
    if asked and not answer.get("ServerSideEncryption"):
        raise Refused(
            "{} is not encrypted: the S3 server ignores that it was asked for {}; set up "
            "encryption there and remove the object, or set server_side_encryption to none if the "
            "server's disks are encrypted".format(name, asked)
        )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns botocore's errors into the modules' own; ``what`` names the action and the thing.

    ``with translated("read s3://b/k"):`` gives ``cannot read s3://b/k: no such object``.
    """
    try:
        yield
    except NoCredentialsError as error:
        raise InvalidInput(
            "cannot {}: no AWS credentials; set aws_access and aws_secret or give the host a "
            "role".format(what)
        ) from error
    except ClientError as error:
        raise _client_failure(error, what) from error
    except (ConnectTimeoutError, ReadTimeoutError) as error:
        raise Unreachable(
            "cannot {}: {} The server sent nothing for about {} s; check the network, a proxy, and "
            "aws_endpoint_url, then run it again".format(what, error, PATIENCE)
        ) from error
    except (_ForeignAnswer, ResponseParserError) as error:
        raise Unreachable(
            "cannot {}: AWS has not written this answer, but something on the way to it ({}); "
            "check aws_endpoint_url, and the proxy of this host (HTTPS_PROXY), then run it "
            "again".format(what, " ".join(str(error).split()))
        ) from error
    except (BotoConnectionError, HTTPClientError) as error:
        raise Unreachable("cannot {}: {}".format(what, error)) from error
    except BotoCoreError as error:
        raise ModuleFailure("cannot {}: {}".format(what, error)) from error


def _client_failure(error: ClientError, what: str) -> ModuleFailure:
    code = error_code(error)
    message = error.response.get("Error", {}).get("Message") or "no reason is given"
    if code in MISSING_CODES:
        return InvalidInput("cannot {}: no such object".format(what))
    if code == "NoSuchBucket":
        return InvalidInput("cannot {}: no such bucket; check the parameter bucket".format(what))
    refused = (*_CREDENTIAL_CODES, *_DENIED_CODES)
    if code in _SKEWED_CODES or (code in refused and _skew(error) >= _SKEWED):
        return ModuleFailure(
            "cannot {}: the clock of this host is wrong, AWS refuses its requests; set it "
            "(chronyc makestep)".format(what)
        )
    if code in _CREDENTIAL_CODES:
        return InvalidInput(
            "cannot {}: {} ({}); check aws_access and aws_secret".format(what, message, code)
        )
    if code in _DENIED_CODES:
        return ModuleFailure(
            "cannot {}: access denied ({}); the credentials lack this permission".format(
                what, message
            )
        )
    text = "cannot {}: {} ({})".format(what, message, code)
    if code in _NOT_OFFERED and error.operation_name in _ENCRYPTED:
        text += (
            "; an S3 server other than AWS's may not offer encryption, or only over https: see the "
            "parameter server_side_encryption"
        )
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        text += "; AWS, or a proxy on the way to it, has a problem: run it again later"
    return ModuleFailure(text)


def _skew(error: ClientError) -> float:
    """Seconds between this clock and that of the service that answered."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return skew(headers.get("date", ""), datetime.now(timezone.utc))


def skew(date: str, now: datetime) -> float:
    """Seconds between ``now`` and an HTTP ``Date``; 0 without one."""
    try:
        return abs((parsedate_to_datetime(date) - now).total_seconds()) if date else 0.0
    except (TypeError, ValueError):  # by Python 3.9 and by later ones, for what is no date
        return 0.0
