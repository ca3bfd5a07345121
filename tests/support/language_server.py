"""A language server over its standard input and output, as an editor uses one.

Protocol: https://microsoft.github.io/language-server-protocol/
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any


class LanguageServer:
    """A server that runs, with ``settings`` of the editor."""

    def __init__(self, process: subprocess.Popen[bytes], settings: Mapping[str, Any]) -> None:
        assert process.stdin
        assert process.stdout
        self._input: IO[bytes] = process.stdin
        self._output: IO[bytes] = process.stdout
        self._settings = settings
        able = {"workspace": {"configuration": True}}
        self._send("initialize", 1, processId=None, rootUri=None, capabilities=able)
        while self._next().get("id") != 1:
            pass
        self._send("initialized")
        self._send("workspace/didChangeConfiguration", settings=settings)
        self._asked()

    def problems(self, path: Path, text: str | None = None) -> list[str]:
        """The problems of a file that is opened, once, with ``text`` in place of its own."""
        document = {
            "uri": path.absolute().as_uri(), "languageId": "yaml", "version": 1,
            "text": path.read_text() if text is None else text,
        }  # fmt: skip
        self._send("textDocument/didOpen", textDocument=document)
        while True:
            found = self._next()
            given = found.get("params", {})
            if (
                found.get("method") == "textDocument/publishDiagnostics"
                and given["uri"] == document["uri"]
            ):
                return [each["message"] for each in given["diagnostics"]]

    def _asked(self) -> None:
        """Wait until the server has asked for the settings; ``_next`` answers."""
        while self._next().get("method") != "workspace/configuration":
            pass

    def _send(self, method: str, number: int | None = None, **params: Any) -> None:
        given = {"method": method, "params": params}
        self._write(given if number is None else {**given, "id": number})

    def _write(self, message: Mapping[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._input.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._input.flush()

    def _next(self) -> dict[str, Any]:
        length = 0
        while line := self._output.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the server has ended"
        message: dict[str, Any] = json.loads(self._output.read(length))
        if "id" in message and "method" in message:
            asked = message.get("params", {}).get("items", [])
            found = [self._settings.get(each["section"]) for each in asked]
            self._write({"id": message["id"], "result": found or None})
        return message


@contextlib.contextmanager
def running(command: Sequence[str], settings: Mapping[str, Any]) -> Iterator[LanguageServer]:
    """A server, ended afterwards."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield LanguageServer(process, settings)
    finally:
        process.kill()
        process.communicate()
