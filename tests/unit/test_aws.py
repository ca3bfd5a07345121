"""A server that accepts and never answers: given up after a minute, and said."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws, errors

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


@pytest.mark.parametrize("module", ["crontab_profile", "daemons", "lease", "configuration"])
def test_a_step_that_calls_no_aws_does_not_import_boto3(module: str) -> None:
    name = f"ansible_collections.labeller.runbook.plugins.modules.{module}"
    code = f"import sys; sys.path = {sys.path!r}; import {name}; sys.exit('boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
