"""An HTTP proxy in front of an S3 server that does to requests and answers what a network does.

A rule decides about every request: None passes it on, a ``Fault`` is what happens to it. Client and
server are the real ones. ``gate`` stops at one request; ``relay`` cuts connections of any protocol.
"""

from __future__ import annotations

import http.client
import http.server
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True)
class Request:
    """A request, for a rule to decide on; ``number`` counts the requests of the proxy from 1."""

    number: int
    method: str
    path: str


@dataclass(frozen=True)
class Fault:
    """A fault: an error ``status`` with an S3 ``code``, or ``body``; or one of the ``kinds``.

    ``reset`` closes the connection, ``lose`` does so after the server has answered, ``stall``
    answers nothing for ``seconds``, ``truncate`` sends half of the answer's body, ``damage`` flips
    a bit of the answer's body, ``damage_upload`` one of the request's, ``unencrypted`` and
    ``unconditional`` are servers that ignore the request to encrypt an object, or not to replace one.
    """

    kind: str
    status: int = 500
    code: str = "InternalError"
    seconds: float = 0
    body: str = ""


#: Headers that servers with less than S3's functions ignore.
IGNORED = {"unencrypted": "x-amz-server-side-encryption", "unconditional": "if-none-match"}

Rule = Callable[[Request], Fault | None]


class Proxy:
    """The proxy: ``url`` is what a client is given, ``rule`` may be changed at any time.

    It listens on ``address`` of this machine.
    """

    def __init__(self, target: str, address: str = "127.0.0.1") -> None:
        self.target = urlsplit(target)
        self.rule: Rule = lambda _: None
        self.seen: list[Request] = []
        self._changed = threading.Condition()
        self._serving = 0
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the client went away
                    self.close_connection = True

            def do_GET(self) -> None:
                proxy.serve(self)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server((address, 0), Handler)
        self.url = f"http://{address}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def settle(self) -> None:
        """Return when no request is being served."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._serving, 30)

    def serve(self, client: http.server.BaseHTTPRequestHandler) -> None:
        with self._changed:
            request = Request(len(self.seen) + 1, client.command, client.path)
            self.seen.append(request)
            self._serving += 1
        try:
            self._serve(client, request)
        finally:
            with self._changed:
                self._serving -= 1
                self._changed.notify_all()

    def target_of(self, headers: Any) -> SplitResult:
        """The server that a request with these headers is for."""
        return self.target

    def _serve(self, client: http.server.BaseHTTPRequestHandler, request: Request) -> None:
        if client.headers.get("Expect") == "100-continue":
            client.send_response_only(100)
            client.end_headers()
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        fault = self.rule(request)
        kind = fault.kind if fault else ""
        if fault and kind == "status":
            text = f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>"
            kind_of = [("Content-Type", "application/xml")]
            self._answer(client, fault.status, kind_of, (fault.body or text).encode())
        elif kind == "reset":
            self._reset(client)
        elif fault and kind == "stall":
            time.sleep(fault.seconds)
            client.close_connection = True
        else:
            self._forward(client, _flipped(body) if kind == "damage_upload" else body, kind)

    def _forward(self, client: http.server.BaseHTTPRequestHandler, body: bytes, kind: str) -> None:
        target = self.target_of(client.headers)
        upstream = http.client.HTTPConnection(target.hostname or "", target.port)
        dropped = ("expect", "connection", IGNORED.get(kind))
        headers = {k: v for k, v in client.headers.items() if k.lower() not in dropped}
        upstream.request(client.command, client.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        sent = [(k, v) for k, v in answer.getheaders() if k.lower() not in
                ("connection", "content-length", "transfer-encoding", "server", "date")]  # fmt: skip
        length = int(answer.getheader("Content-Length") or len(content))
        upstream.close()
        if kind == "lose":
            self._reset(client)
        elif kind == "truncate":
            self._answer(client, answer.status, sent, content[: len(content) // 2], length)
            client.close_connection = True
        else:
            content = _flipped(content) if kind == "damage" else content
            self._answer(client, answer.status, sent, content, length)

    @staticmethod
    def _reset(client: http.server.BaseHTTPRequestHandler) -> None:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.connection.close()
        client.close_connection = True

    @staticmethod
    def _answer(
        client: Any, status: int, headers: list[tuple[str, str]], body: bytes, length: int = -1
    ) -> None:
        client.send_response_only(status)
        for name, value in headers:
            client.send_header(name, value)
        client.send_header("Content-Length", str(len(body) if length < 0 else length))
        client.end_headers()
        if client.command != "HEAD":
            client.wfile.write(body)


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


def on(method: str, path: str, fault: Fault | None, times: int = 1_000_000) -> Rule:
    """The fault for the first ``times`` requests of a method whose path matches."""
    left = [times]

    def rule(request: Request) -> Fault | None:
        if request.method == method and re.search(path, request.path) and left[0] > 0:
            left[0] -= 1
            return fault
        return None

    return rule


class Gate:
    """A rule that stops at requests with ``pattern`` in ``METHOD /path?query``.

    With ``after``: those that come later than one with that. ``reached`` is set when one has come.
    It is not handed on, and not answered before the proxy's end, unless a test opens the gate.
    """

    def __init__(self, url: str, pattern: str, after: str = "") -> None:
        self.url = url
        self.reached = threading.Event()
        self.closed = threading.Event()
        self._pattern = re.compile(pattern)
        self._after = re.compile(after)
        self._armed = not after
        self._opened = False

    def __call__(self, request: Request) -> Fault | None:
        asked = f"{request.method} {request.path}"
        if not self._armed or not self._pattern.search(asked):
            self._armed = self._armed or bool(self._after.search(asked))
            return None
        self.reached.set()
        self.closed.wait()
        return None if self._opened else Fault("stall")

    def drop(self) -> None:
        """Close the connection of the request that waits, and hand on all that come."""
        self._pattern = re.compile(r"(?!)")
        self.closed.set()

    def open(self) -> None:
        """Hand on the request that waits, and all that come."""
        self._opened = True
        self.closed.set()


@contextmanager
def gate(endpoint: str, pattern: str, after: str = "") -> Iterator[Gate]:
    """A gate before the server ``endpoint``; its ``url`` stands for the server."""
    with Proxy(endpoint).running() as proxy:
        proxy.rule = made = Gate(proxy.url, pattern, after)
        try:
            yield made
        finally:
            made.closed.set()
