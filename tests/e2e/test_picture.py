"""The picture of the README: what an operator sees of a check run, as the sandbox shows it.

UPDATE=1 draws it anew.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from command_line import PROJECT, Sandbox, events
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from runbook.errors import ExitCode
from runbook.events import model
from runbook.events.render.people import Detail, Terminal

PICTURE = PROJECT / "docs/pictures/check.svg"
WIDTH = 104
COMMAND = ("apply", "regular.yml", "-i", "sandbox", "-e", "run_id=1", "-e", "replaced_run=0")

#: What a sandbox draws by chance, and what stands for it.
CHANCE = {
    r"sg-[0-9a-f]+": "sg-4e9f9d0c04f396832",
    r"127\.0\.0\.1:\d+": "127.0.0.1:39853",
    r'"db_port": ?\d+': '"db_port": 53837',
}

_KINDS = {kind.kind(): kind for kind in (*model.Event.__subclasses__(),)}


def event(given: Mapping[str, Any]) -> model.Event:
    """An event of ``--json``."""
    kind = _KINDS[given["event"]]
    names = {field.name for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {name: value for name, value in given.items() if name in names}
    if "exit_code" in values:
        values["exit_code"] = ExitCode(values["exit_code"])
    if "status" in values:
        values["status"] = model.Status(values["status"])
    if "hosts" in values:
        values["hosts"] = {
            host: model.HostCounts(**counts) for host, counts in values["hosts"].items()
        }
    return kind(**values)


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


def comparable(svg: str) -> str:
    """A picture without the numbers and positions that differ from run to run."""
    return re.sub(r"\d[\d.,]*", "0", svg)


@pytest.mark.campaign
def test_the_picture_of_the_readme_is_what_one_sees(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {
        "TERM": "xterm-256color",
        "COLUMNS": str(WIDTH),
        "FORCE_COLOR": "1",
    }.items():
        monkeypatch.setenv(name, value)
    sandbox.apply()
    sandbox.run("sandbox", "work")
    done = sandbox.run(*COMMAND, "--check", "--json")
    text = done.stdout.replace(str(sandbox.home), "/home/mapper")
    for drawn_by_chance, shown in CHANCE.items():
        text = re.sub(drawn_by_chance, shown, text)
    picture = drawn(event(each) for each in events(text))
    if os.environ.get("UPDATE"):
        PICTURE.write_text(picture)
    assert comparable(picture) == comparable(PICTURE.read_text()), "UPDATE=1 draws it anew"
