"""Answers that AWS has not written: pages of proxies, load balancers and captive portals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws as clients
from ansible_collections.labeller.runbook.plugins.module_utils import errors
from faulty import Fault, Proxy

PAGES = {
    "text": "Service Unavailable",
    "html": "<html><body><p>Bad gateway</p></body></html>",
    "document": "<!DOCTYPE html>\n<html><body>Log in first<br></body></html>",
}
CALLS = {
    "ec2": lambda client, _: client.describe_instances()["Reservations"],
    "emr": lambda client, _: client.list_clusters()["Clusters"],
    "s3": lambda client, bucket: client.list_objects_v2(Bucket=bucket)["KeyCount"] or [],
}


@pytest.fixture
def proxy(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(clients, "PATIENCE", 600)  # moto imports a service at its first request
    with Proxy(aws_endpoint).running() as running:
        yield running


def called(service: str, aws: dict[str, Any], bucket: str, proxy: Proxy) -> Any:
    client = clients.client(service, {**aws, "endpoint_url": proxy.url}, 2)
    with clients.translated("look it up"):
        return CALLS[service](client, bucket)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("service", CALLS)
def test_an_error_that_passes_is_repeated(
    service: str, page: str, aws: dict[str, Any], bucket: str, proxy: Proxy
) -> None:
    """botocore itself would raise a ResponseParserError, for EC2."""
    fault = Fault("status", 503, body=PAGES[page])
    proxy.rule = lambda request: fault if request.number == 1 else None
    assert isinstance(called(service, aws, bucket, proxy), list)
    assert len(proxy.seen) == 2


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("service", CALLS)
def test_an_error_that_stays_says_what_to_do(
    service: str, page: str, aws: dict[str, Any], bucket: str, proxy: Proxy
) -> None:
    proxy.rule = lambda _: Fault("status", 502, body=PAGES[page])
    with pytest.raises(errors.ModuleFailure) as failed:
        called(service, aws, bucket, proxy)
    assert str(failed.value) == (
        "cannot look it up: Bad Gateway (502); AWS, or a proxy on the way to it, has a problem: run "
        "it again later"
    )


@pytest.mark.parametrize("status", [200, 403, 407])
@pytest.mark.parametrize("service", CALLS)
def test_a_page_is_no_answer(
    service: str, status: int, aws: dict[str, Any], bucket: str, proxy: Proxy
) -> None:
    """botocore itself takes one with the status 200 for an empty list, or for a write that was done."""
    proxy.rule = lambda _: Fault("status", status, body=PAGES["html"])
    with pytest.raises(errors.Unreachable) as failed:
        called(service, aws, bucket, proxy)
    assert f"HTTP {status} with '<html><body>" in str(failed.value)
    assert "HTTPS_PROXY" in str(failed.value)


def test_an_answer_that_is_cut_off_in_its_text(
    aws: dict[str, Any], bucket: str, proxy: Proxy
) -> None:
    """With an older botocore this is what any page is, except one that is XML."""
    proxy.rule = lambda _: Fault("status", 200, body="<DescribeInstancesResponse><reservationSet>")
    with pytest.raises(errors.Unreachable, match="HTTPS_PROXY"):
        called("ec2", aws, bucket, proxy)
