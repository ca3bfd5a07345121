"""Chromium without a window, by its own protocol over a pipe: no other library is needed.

Protocol: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
#: Nothing that a fresh profile would fetch, and no sandbox, which root and containers do not have.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--hide-scrollbars", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
KEYS = {"Tab": (9, ""), "Enter": (13, "\r")}


def program() -> str | None:
    """The browser of this machine, None when there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Page:
    """A tab, with all that it requested and said since it was opened."""

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a method of the protocol."""
        return self.browser.call(method, self.session, **parameters)

    def open(self, path: Path, *, width: int, dark: bool = False) -> None:
        """Show a file in a window of ``width`` pixels, and wait until it is loaded."""
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=path.as_uri())
        self.browser.until("Page.loadEventFired", self.session)

    def value(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise what it comes to."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, Tab or Enter, and let it go."""
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                windowsVirtualKeyCode=code,
            )  # fmt: skip

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def clipped(self, part: Mapping[str, float]) -> bytes:
        """A part of the page as a PNG; ``part`` is in pixels, with ``scale``."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=part)
        return base64.b64decode(found["data"])

    def printed(self) -> bytes:
        """The page on paper, as a PDF."""
        found = self.call("Page.printToPDF", preferCSSPageSize=True)
        return base64.b64decode(found["data"])

    def take(self, event: dict[str, Any]) -> None:
        """Note what an event reports of requests and messages."""
        given = event.get("params", {})
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(given["request"]["url"])
            case "Log.entryAdded":
                self.said.append(given["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.said.append(json.dumps(given))
            case _:
                pass


def text_of(pdf: bytes) -> str:
    """The text of a PDF that Chromium wrote, without the blanks between words.

    Its fonts are named after their objects, and each has a map of its glyphs to Unicode.
    """
    objects = dict(re.findall(rb"(?:^|\n)(\d+) 0 obj(.*?)endobj", pdf, re.DOTALL))
    plain = {number: _inflated(body) for number, body in objects.items()}
    maps = {number: re.search(rb"/ToUnicode (\d+) 0 R", body) for number, body in objects.items()}
    glyphs = {number: _glyphs(plain[at[1]]) for number, at in maps.items() if at}
    found = []
    for stream in plain.values():
        font = b""
        for name, text in re.findall(rb"/F(\d+) [\d.]+ Tf|<([0-9A-F]+)> Tj", stream):
            font = name or font
            codes = re.findall(r"....", text.decode())
            found += [glyphs[font].get(code, "") for code in codes]
    return unicodedata.normalize("NFKC", "".join(found)).replace(" ", "")  # without ligatures


def _inflated(body: bytes) -> bytes:
    """The stream of an object; empty for one that has none."""
    _, _, stream = body.partition(b"stream")
    try:
        return zlib.decompressobj().decompress(stream.lstrip(b"\r\n"))
    except zlib.error:
        return b""


def _glyphs(map_of_font: bytes) -> dict[str, str]:
    """By glyph, in hexadecimal digits, its text."""
    found = {}
    for kind, body in re.findall(
        r"beginbf(char|range)\n(.*?)endbf", map_of_font.decode(), re.DOTALL
    ):
        for numbers in (re.findall(r"<(\w+)>", line) for line in body.splitlines()):
            first, last, text = (numbers[0], *numbers) if kind == "char" else numbers
            start = int(first, 16)
            for code in range(start, int(last, 16) + 1):
                shown = bytes.fromhex(text).decode("utf-16-be")
                found[f"{code:04X}"] = shown[:-1] + chr(ord(shown[-1]) + code - start)
    return found


class Browser:
    """A running browser; answers and events come over one pipe."""

    def __init__(self, read: int, write: int) -> None:
        self._answers = os.fdopen(read, "rb", buffering=0)
        self._calls = os.fdopen(write, "wb", buffering=0)
        self._number, self._rest = 0, b""
        self._pages: dict[str, Page] = {}

    def page(self) -> Page:
        """A new tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._pages[session] = Page(self, session)
        return self._pages[session]

    def call(self, method: str, session: str = "", **parameters: Any) -> Any:
        """The result of a method; an assertion fails for an error."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._calls.write(json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != self._number:
            pass
        assert "error" not in found, (method, found["error"])
        return found["result"]

    def until(self, event: str, session: str) -> None:
        """Wait for an event of a page."""
        while True:
            found = self._next()
            if (found.get("method"), found.get("sessionId")) == (event, session):
                return

    def close(self) -> None:
        """Close the pipe."""
        self._answers.close()
        self._calls.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = self._answers.read(1 << 16)
            assert read, "the browser has ended"
            self._rest += read
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        page = self._pages.get(found.get("sessionId", ""))
        if page and "method" in found:
            page.take(found)
        return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Browser]:
    """The browser of this machine with a profile in ``folder``, ended with its children."""
    found = program()
    assert found
    calls, answers = os.pipe(), os.pipe()
    # The protocol fixes the numbers 3 and 4; copies above them are not in the way.
    read, write = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (calls[0], answers[1]))
    process = os.posix_spawn(
        found, [found, *FLAGS, f"--user-data-dir={folder}"], {**os.environ, "HOME": str(folder)},
        file_actions=[
            *((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)),
            (os.POSIX_SPAWN_DUP2, read, 3),
            (os.POSIX_SPAWN_DUP2, write, 4),
        ],
        setsid=True,
    )  # fmt: skip
    for fd in (calls[0], answers[1], read, write):
        os.close(fd)
    browser = Browser(answers[0], calls[1])
    try:
        yield browser
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        browser.close()
