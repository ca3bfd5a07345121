"""A proxy before the S3 server that stops at a chosen request, so that a run can be cut there."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Gate:
    """``url`` stands for the server; ``reached`` is set when the chosen request has come.

    ``pattern`` is searched in ``METHOD /path?query``. The request is not handed on, and not
    answered while the gate is there, unless a test opens it.
    """

    def __init__(self, server: ThreadingHTTPServer, pattern: str) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.pattern = re.compile(pattern)
        self.reached = threading.Event()
        self.closed = threading.Event()
        self.opened = False

    def open(self) -> None:
        """Hand on the request that waits, and all that come."""
        self.opened = True
        self.closed.set()


@contextlib.contextmanager
def gate(endpoint: str, pattern: str) -> Iterator[Gate]:
    """A gate before ``endpoint``."""
    target = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Expect") == "100-continue":
                del self.headers["Expect"]
            if made.pattern.search(f"{self.command} {self.path}"):
                made.reached.set()
                made.closed.wait()
                if not made.opened:
                    self.close_connection = True
                    return
            upstream = http.client.HTTPConnection(target.hostname or "", target.port)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = (
                answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            )
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            upstream.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """The client was killed: that is the point."""

    server = Server(("127.0.0.1", 0), Handler)
    made = Gate(server, pattern)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
