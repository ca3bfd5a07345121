"""A relay before any TCP server that cuts at chosen bytes of a client: S3, EMR, PostgreSQL, HTTP."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Relay(socketserver.ThreadingTCPServer):
    """``reached`` is set when one connection has sent ``pattern`` ``nth`` times.

    What completed it is not handed on; with ``answered`` it is, the server carries it out, and its
    answer is what never arrives. From then on nothing passes, on any connection; with ``closing``
    they are closed. ``reopens``: connections that are made later pass.
    """

    daemon_threads = True

    def __init__(
        self,
        host: str,
        port: int,
        pattern: bytes,
        nth: int,
        *,
        answered: bool,
        closing: bool,
        reopens: bool,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = (host, port)
        self.port = int(self.server_address[1])
        self.pattern = re.compile(pattern, re.DOTALL)
        self.left = nth
        self.answered = answered
        self.closing = closing
        self.reopens = reopens
        self.cut = threading.Event()
        self.reached = threading.Event()
        self.lock = threading.Lock()

    def completes(self, sent: bytearray) -> bool:
        """Whether the cut is in ``sent``, what a connection has sent and was not yet counted."""
        with self.lock:
            while found := self.pattern.search(sent):
                del sent[: found.end()]
                self.left -= 1
            return self.left <= 0


class _Handler(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        self._later = self.server.reopens and self.server.cut.is_set()
        with socket.create_connection(self.server.upstream) as upstream:
            for each in (self.request, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=self._answers, args=(upstream,), daemon=True)
            answers.start()
            with suppress(OSError):  # the client was killed: that is the point
                self._requests(upstream)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            answers.join()

    def _requests(self, upstream: socket.socket) -> None:
        sent, through = bytearray(), self._later
        while data := self.request.recv(1 << 16):
            if not self.server.cut.is_set():
                sent += data
                if self.server.completes(sent):
                    self.server.cut.set()
                    through = self.server.answered
                    if not through:
                        self.server.reached.set()
            # The rest of a request that is carried out comes after what told it.
            if through or not self.server.cut.is_set():
                upstream.sendall(data)
            elif self.server.closing:
                return

    def _answers(self, upstream: socket.socket) -> None:
        with suppress(OSError):
            while data := upstream.recv(1 << 16):
                if self.server.cut.is_set() and not self._later:
                    self.server.reached.set()
                    if self.server.closing:
                        break
                else:
                    self.request.sendall(data)
            self.request.shutdown(socket.SHUT_WR)


@contextmanager
def relay(
    host: str,
    port: int,
    pattern: bytes,
    nth: int = 1,
    *,
    answered: bool = False,
    closing: bool = False,
    reopens: bool = False,
) -> Iterator[Relay]:
    """A relay before ``host`` and ``port``."""
    server = Relay(host, port, pattern, nth, answered=answered, closing=closing, reopens=reopens)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
