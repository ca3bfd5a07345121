# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs ssh for a run of Ansible, and passes requests on to the program that it started there.

``keep_ssh.py SOCKET CHANNEL ssh ...`` is what Ansible starts in the place of ``ssh``
(``ansible_ssh_executable``), so with all arguments, and passwords and errors as Ansible has them.
Once the program on the host is ready it goes on in the background: SOCKET takes one connection
after another, each with one request, and gives the answer back. It ends with the engine, which
reads the pipe CHANNEL, with ssh, and when who waits for an answer does no longer.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

#: As module_utils/module_server.py has them; this program imports nothing of Ansible's.
READY = b"\nrunbook: ready\n"
LENGTH = 8
#: Says that a request will be passed on; without it, it never was.
TAKEN = b"+"
#: Seconds for ssh to end by itself, with its own exit code or that of the program.
GRACE = 1.0


class Ended(Exception):  # noqa: N818 - no error
    """The answer is waited for no longer, or the engine or ssh has ended."""


class Host:
    """The program on the host, behind an ssh."""

    def __init__(self, command: list[str], channel: str) -> None:
        self._engine = os.open(channel, os.O_WRONLY | os.O_NONBLOCK)
        pipe = subprocess.PIPE
        self.ssh = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        assert self.ssh.stdin
        assert self.ssh.stdout
        assert self.ssh.stderr
        self._in, self.out, self._err = self.ssh.stdin, self.ssh.stdout, self.ssh.stderr

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._in.write(data)
        self._in.flush()

    def receive(self, most: int, asking: socket.socket | None = None) -> bytes:
        """The next bytes, one at least. Raises Ended, also when ``asking`` is closed."""
        ready = self.wait(self.out, *([asking] if asking else []))
        data = os.read(self.out.fileno(), most) if ready is self.out else b""
        if not data:
            raise Ended
        return data

    def wait(self, *files: IO[bytes] | socket.socket) -> IO[bytes] | socket.socket:
        """The first of ``files`` that can be read; raises Ended when the engine has ended.

        What ssh says meanwhile goes to standard error.
        """
        poll = select.poll()
        poll.register(self._engine, 0)
        for file in (self._err, *files):
            poll.register(file, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if self._engine in ready:
                raise Ended
            for file in files:
                if file.fileno() in ready:
                    return file
            said = os.read(self._err.fileno(), 1 << 16)
            os.write(2, said)
            if not said:
                poll.unregister(self._err)

    def is_ready(self, first: bytes) -> bool:
        """Whether the program, to which ``first`` is sent, has begun to serve."""
        found = b""
        with suppress(Ended, BrokenPipeError):
            self.send(first)
            while READY not in found:
                found += self.receive(1 << 16)
            return True
        return False

    def end(self) -> int:
        """End the program and its connection; ssh's exit code, its last words on standard error."""
        with suppress(BrokenPipeError):
            self._in.close()
        try:
            code = self.ssh.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.ssh.terminate()
            code = self.ssh.wait()
        os.set_blocking(self._err.fileno(), False)  # ssh's master may hold the other end
        with suppress(BlockingIOError):
            while said := os.read(self._err.fileno(), 1 << 16):
                os.write(2, said)
        return code


def forward(connection: socket.socket, host: Host) -> None:
    """Pass a request on to the host, and its answer back."""
    for receive, send in (
        (connection.recv, host.send),
        (lambda most: host.receive(most, connection), connection.sendall),
    ):
        head = b""
        while len(head) < LENGTH:
            head += _some(receive(LENGTH - len(head)))
        send(head)
        left = int.from_bytes(head, "big")
        while left:
            data = _some(receive(min(left, 1 << 20)))
            send(data)
            left -= len(data)


def _some(data: bytes) -> bytes:
    if not data:
        raise Ended
    return data


def listening(address: Path) -> socket.socket:
    """A socket at an address, whose folder becomes the working folder: a name has 107 bytes."""
    os.chdir(address.parent)
    Path(address.name).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address.name)
    listener.listen()
    return listener


def main(address: str, channel: str, *command: str) -> int:
    """Start ssh; 0 once the program on the host serves, else ssh's exit code."""
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        return int.from_bytes(os.read(told, 1) or b"\xff", "big")
    host = Host([*command], channel)
    if not host.is_ready(sys.stdin.buffer.read()):
        os.write(tell, bytes([host.end() & 0xFF]))
        return 0
    listener = listening(Path(address))
    os.setsid()
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    os.write(tell, b"\0")
    with suppress(Ended, OSError):
        while host.wait(host.out, listener) is listener:
            with listener.accept()[0] as connection:
                connection.sendall(TAKEN)
                forward(connection, host)
    listener.close()
    return host.end()


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
