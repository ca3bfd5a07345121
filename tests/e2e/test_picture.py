"""The pictures of the README: what an operator sees of a check run, as the sandbox shows it.

UPDATE=1 draws them anew. A browser draws its page a little differently on each machine, so its picture
carries the page that it was drawn of, and that is compared.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import browser
import pytest
from command_line import PROJECT, Sandbox, events
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from runbook.events import model
from runbook.events.render.people import Detail, Terminal
from runbook.events.render.report.file import ReportFile

PICTURE = PROJECT / "docs/pictures/check.svg"
PAGE = PROJECT / "docs/pictures/report.png"
WIDTH = 104
#: Pixels of the page's picture across; down it ends below the map's legend.
ACROSS, BELOW = (
    1000,
    "document.querySelector('svg.map ~ .legend').getBoundingClientRect().bottom + 4",
)
COMMAND = ("apply", "regular.yml", "-i", "sandbox", "-e", "run_id=1", "-e", "replaced_run=0")

#: What a sandbox draws by chance, and what stands for it.
CHANCE = {
    r"sg-[0-9a-f]+": "sg-4e9f9d0c04f396832",
    r"127\.0\.0\.1:\d+": "127.0.0.1:39853",
    r'"db_port": ?\d+': '"db_port": 53837',
    r"\d{8}T\d{6}-[0-9a-f]{6}": "20260114T093012-3f9a1c",
    r"\d{8}T\d{6}Z-[0-9a-f]{4}": "20260114T093012Z-3f9a",
}


def drawn(shown: Iterable[model.Event]) -> str:
    """The events as a terminal shows them, as SVG."""
    stream = io.StringIO()
    terminal = Terminal(Detail(), stream, live=False)
    for each in shown:
        terminal(each)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ runbook {' '.join(COMMAND)} --check", style="bold"))
    console.print(Text.from_ansi(stream.getvalue().strip()))
    local = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="runbook", unique_id="check", code_format=local)


def reported(shown: Iterable[model.Event], file: Path) -> str:
    """The page of the events. Of ``--report`` the length of the sandbox's path would cut lines."""
    report = ReportFile(file, pytest.fail)
    for each in shown:
        report(each)
    return file.read_text()


def photographed(page: str, folder: Path) -> bytes:
    """The top of a page as a PNG, with the page in it."""
    file = folder / "report.html"
    file.write_text(page)
    with browser.running(folder / "profile") as chromium:
        shown = chromium.page()
        shown.open(file, width=ACROSS)
        size = {"x": 0, "y": 0, "width": ACROSS, "height": shown.value(BELOW), "scale": 1}
        return with_text(shown.clipped(size), page)


#: Bytes of a PNG up to the end of its header, after which a text may stand.
HEADER = 33


def with_text(png: bytes, text: str) -> bytes:
    """A PNG with a chunk zTXt."""
    body = b"zTXtpage\0\0" + zlib.compress(text.encode(), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:HEADER] + chunk + png[HEADER:]


def text_of(png: bytes) -> str:
    """The text that ``with_text`` put in."""
    (length,) = struct.unpack(">I", png[HEADER : HEADER + 4])
    kind, _, body = png[HEADER + 4 : HEADER + 8 + length].partition(b"\0\0")
    assert kind == b"zTXtpage"
    return zlib.decompress(body).decode()


def comparable(svg: str) -> str:
    """A picture without the numbers and positions that differ from run to run."""
    return re.sub(r"\d[\d.,]*", "0", svg)


@pytest.mark.campaign
def test_the_pictures_of_the_readme_are_what_one_sees(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {
        "TERM": "xterm-256color",
        "COLUMNS": str(WIDTH),
        "FORCE_COLOR": "1",
        "RUNBOOK_OPERATOR": "olli@laptop",
    }.items():
        monkeypatch.setenv(name, value)
    sandbox.apply()
    sandbox.run("sandbox", "work")
    # A check makes a map only for a report.
    done = sandbox.run(*COMMAND, "--check", "--json", f"--report={tmp_path / 'asked.html'}")
    shown = [model.from_json(each) for each in events(settled(done.stdout, sandbox))]
    picture, page = drawn(shown), reported(shown, tmp_path / "made.html")
    if os.environ.get("UPDATE"):
        PICTURE.write_text(picture)
        PAGE.write_bytes(photographed(page, tmp_path))
    assert comparable(picture) == comparable(PICTURE.read_text()), "UPDATE=1 draws it anew"
    assert comparable(page) == comparable(text_of(PAGE.read_bytes())), "UPDATE=1 draws it anew"


def settled(text: str, sandbox: Sandbox) -> str:
    """A text of a sandbox without what it draws by chance."""
    text = text.replace(str(sandbox.home), "/home/mapper")
    for drawn_by_chance, shown in CHANCE.items():
        text = re.sub(drawn_by_chance, shown, text)
    return text
