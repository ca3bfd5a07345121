"""The lookups of secrets in AWS: one request a secret, every refusal a line without a value."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from ansible.errors import AnsibleError
from ansible_collections.labeller.runbook.plugins.lookup import (
    secretsmanager_secret,
    ssm_parameter,
)
from ansible_collections.labeller.runbook.plugins.plugin_utils import aws_lookup

if TYPE_CHECKING:
    from collections.abc import Iterator

MANAGER, STORE = secretsmanager_secret.LookupModule, ssm_parameter.LookupModule
#: What Ansible makes of the options' documentation (tests/e2e/test_secret_lookups.py).
DEFAULTS = {
    "region": "us-east-1", "access_key": "a", "secret_key": "b", "profile": None,
    "session_token": None, "endpoint_url": None, "nested": False, "version_stage": "AWSCURRENT",
    "decrypt": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_lookup, "_known", {})


def read(
    lookup: type[aws_lookup.SecretLookup], term: str, endpoint: str, **options: Any
) -> list[str]:
    class Read(lookup):  # type: ignore[misc, valid-type]
        def set_options(self, *_: Any, direct: Any = None, **__: Any) -> None:
            self._options = {name: direct.get(name, value) for name, value in DEFAULTS.items()}

    found: list[str] = Read().run([term], {}, endpoint_url=endpoint, **options)
    return found


def test_a_secret_is_asked_for_once(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(aws_lookup, "register_secrets", told.extend)
    options = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    store = boto3.client("ssm", endpoint_url=aws_endpoint, **options)
    store.put_parameter(Name="/once", Value="first value", Type="SecureString")
    assert read(STORE, "/once", aws_endpoint) == ["first value"]
    store.delete_parameter(Name="/once")
    assert read(STORE, "/once", aws_endpoint) == ["first value"]
    assert told == ["first value", "first value"]  # each process has its own list
    with pytest.raises(AnsibleError, match="none of this name in region eu-west-1"):
        read(STORE, "/once", aws_endpoint, region="eu-west-1")


def test_ansible_core_is_told_when_it_has_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """ansible-core 2.22 has ``register_secrets``; others do without."""
    known: list[str] = []
    module = ModuleType("ansible.module_utils.secrets")
    module.register_secrets = known.extend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = Path(aws_lookup.__file__).read_text()
    told: dict[str, Any] = {"__name__": "told"}
    exec(compile(source, "aws_lookup", "exec"), told)
    told["register_secrets"](["value"])
    assert known == ["value"]


@contextmanager
def refusing(code: str) -> Iterator[str]:
    """A server that refuses every request with an error of AWS."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"__type": code, "message": "not for you"}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("lookup", [MANAGER, STORE], ids=["manager", "store"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "access denied in region us-east-1; the credentials lack"),
        ("UnrecognizedClientException", "the credentials are not valid"),
        ("ExpiredTokenException", "the credentials have expired"),
        ("SomethingNew", "the service refuses in region us-east-1: SomethingNew"),
    ],
)
def test_what_is_refused(lookup: type[aws_lookup.SecretLookup], code: str, said: str) -> None:
    with refusing(code) as endpoint, pytest.raises(AnsibleError) as caught:
        read(lookup, "x", endpoint)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_refused(aws_endpoint: str) -> None:
    with pytest.raises(AnsibleError, match="there is no option regoin"):
        read(STORE, "/x", aws_endpoint, regoin="us-east-1")
