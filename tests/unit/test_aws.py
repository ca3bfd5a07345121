"""AWS clients: patience, requests that other servers understand, errors in plain words."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws, errors
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from urllib3 import HTTPResponse

LOGIN = {"access_key": "k", "secret_key": "s", "region": "us-east-1"}


@pytest.mark.parametrize("attempts", [1, 2, aws.ATTEMPTS])
def test_all_attempts_together_take_a_minute(attempts: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        config = aws.client("s3", {**LOGIN, "endpoint_url": url}, attempts).meta.config
    assert config.retries["total_max_attempts"] == attempts
    pauses = sum(2**n for n in range(attempts - 1))  # at most, as botocore documents them
    for timeout in (config.read_timeout, config.connect_timeout):
        assert timeout * attempts + pauses <= 60


def test_clients_after_a_preload_look_through_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    aws.preload()

    def listed(folder: object = ".") -> list[str]:
        pytest.fail(f"{folder} was listed")

    monkeypatch.setattr(os, "listdir", listed)
    for service, operation in aws._LISTINGS.items():
        client = aws.client(service, {**LOGIN, "endpoint_url": ""})
        assert client.get_paginator(operation)


def test_a_server_that_sends_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        client = aws.client("s3", {**LOGIN, "endpoint_url": url}, 1)
        begun = time.monotonic()
        with (
            pytest.raises(errors.Unreachable, match=r"cannot look: .* sent nothing for about 1 s"),
            aws.translated("look"),
        ):
            client.head_bucket(Bucket="b")
        assert time.monotonic() - begun < 10


def test_no_checksum_follows_a_body_to_another_server() -> None:
    """Over https newer versions of botocore send one in a trailer, which Ceph 16 refuses."""
    client = aws.client("s3", {**LOGIN, "endpoint_url": "https://127.0.0.1:1"})
    sent: list[Any] = []

    def answer(request: Any, **_: Any) -> Any:
        sent.append(request.headers)
        raw = HTTPResponse(io.BytesIO(), preload_content=False)
        return AWSResponse(request.url, 200, {}, raw)

    client.meta.events.register("before-send.s3", answer)
    client.put_object(Bucket="bucket", Key="k", Body=b"content")
    client.upload_part(Bucket="bucket", Key="k", UploadId="u", PartNumber=1, Body=b"content")
    for headers in sent:
        assert "x-amz-trailer" not in headers
        assert headers["Content-Length"] == "7"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("InvalidRequest", r"cannot write it: no reason is given \(InvalidRequest\); an S3 server"),
        ("EntityTooLarge", r"cannot write it: no reason is given \(EntityTooLarge\)$"),
    ],
)
def test_an_error_without_a_message(code: str, said: str) -> None:
    """As Ceph sends them."""
    error = ClientError({"Error": {"Code": code, "Message": None}}, "PutObject")
    with pytest.raises(errors.ModuleFailure, match=said), aws.translated("write it"):
        raise error


@pytest.mark.parametrize("module", ["crontab_profile", "daemons", "lease", "configuration"])
def test_a_step_that_calls_no_aws_does_not_import_boto3(module: str) -> None:
    name = f"ansible_collections.labeller.runbook.plugins.modules.{module}"
    code = f"import sys; sys.path = {sys.path!r}; import {name}; sys.exit('boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
