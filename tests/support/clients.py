"""Clients of AWS, made once each: to make one takes longer than most requests to moto."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

KEYS = ("access_key", "secret_key")


def client(aws: Mapping[str, Any], service: str = "s3") -> Any:
    """A boto3 client for the modules' AWS options."""
    return _made(service, *(aws[name] for name in ("endpoint_url", "region", *KEYS)))


@functools.cache
def _made(service: str, endpoint_url: str, region: str, access_key: str, secret_key: str) -> Any:
    import boto3

    return boto3.client(
        service, endpoint_url=endpoint_url, region_name=region,
        aws_access_key_id=access_key, aws_secret_access_key=secret_key,
    )  # fmt: skip


@contextmanager
def shared(endpoint_url: str) -> Iterator[None]:
    """Have the modules that run in this process share their clients of one endpoint too.

    Where they name the keys; any other endpoint, as one that has faults, gets a client a call. A
    test that registers handlers of events needs a client of its own: it gives a key of its own.
    """
    from ansible_collections.labeller.runbook.plugins.module_utils import aws as module

    make: Callable[..., Any] = module.client
    made: dict[Any, Any] = {}

    def client_of(service: str, params: Mapping[str, Any], attempts: int = module.ATTEMPTS) -> Any:
        key = (
            service,
            attempts,
            module.PATIENCE,
            *(params[name] for name in (*KEYS, "region", "endpoint_url")),
        )
        if params["endpoint_url"] != endpoint_url or not all(params[name] for name in KEYS):
            return make(service, params, attempts)
        if key not in made:
            made[key] = make(service, params, attempts)
        return made[key]

    os.register_at_fork(after_in_child=made.clear)
    with mock.patch.object(module, "client", client_of):
        yield


# Two processes would read each other's answers from the connections that they share.
os.register_at_fork(after_in_child=_made.cache_clear)
