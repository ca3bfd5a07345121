"""A server that answers as GitHub's REST API does, for comments of one pull request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "ghs_a-token-of-the-test"


@dataclass
class GitHubServer:
    """Comments, the requests that came, and answers that stand in the way of a request.

    ``failures``: (method, status, headers, body), each given once, in turn.
    """

    page: int = 3
    comments: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, int, dict[str, str], str]] = field(default_factory=list)
    url: str = ""

    def add(self, body: str, *, ours: bool = True) -> dict[str, Any]:
        number = 1000 + len(self.comments)
        comment = {
            "id": number, "body": body, "html_url": f"https://github.com/o/n/pull/7#issuecomment-{number}",
            "user": {"login": "github-actions[bot]" if ours else "a-person"},
        }  # fmt: skip
        self.comments.append(comment)
        return comment

    def bodies(self) -> list[str]:
        return [comment["body"] for comment in self.comments]


def _handler(server: GitHubServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a table of routes
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, given: object, headers: dict[str, str] | None = None) -> None:
            body = given.encode() if isinstance(given, str) else json.dumps(given).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_request(self) -> None:
            server.requests.append((self.command, self.path))
            length = int(self.headers.get("Content-Length") or 0)
            given = json.loads(self.rfile.read(length)) if length else {}
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, {"message": "Bad credentials"})
            if server.failures and server.failures[0][0] == self.command:
                _, status, headers, body = server.failures.pop(0)
                return self.answer(status, body, headers)
            path, _, query = self.path.partition("?")
            if len(given.get("body", "")) > 65_536:
                errors = [{"message": "body is too long (maximum is 65536 characters)"}]
                return self.answer(422, {"message": "Validation Failed", "errors": errors})
            if path == "/repos/o/n/issues/7/comments":
                if self.command == "POST":
                    return self.answer(201, server.add(given["body"]))
                return self.listed(path, query)
            found = [c for c in server.comments if path == f"/repos/o/n/issues/comments/{c['id']}"]
            if not found:
                return self.answer(404, {"message": "Not Found"})
            if found[0]["user"]["login"] == "a-person":
                return self.answer(403, {"message": "Resource not accessible by integration"})
            # As GitHub: line ends of its own.
            found[0]["body"] = given["body"].replace("\n", "\r\n")
            return self.answer(200, found[0])

        def listed(self, path: str, query: str) -> None:
            number = int(dict(part.split("=") for part in query.split("&")).get("page", 1))
            begin = (number - 1) * server.page
            headers = {}
            if begin + server.page < len(server.comments):
                headers["Link"] = f'<{server.url}{path}?per_page=100&page={number + 1}>; rel="next"'
            self.answer(200, server.comments[begin : begin + server.page], headers)

        do_GET = do_POST = do_PATCH = handle_request

        def log_message(self, *_: object) -> None:
            """Nothing: the tests look at ``requests``."""

    return Handler


@contextmanager
def running() -> Iterator[GitHubServer]:
    """The server, gone afterwards."""
    state = GitHubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
