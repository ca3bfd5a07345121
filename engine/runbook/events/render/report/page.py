"""A report as one self-contained HTML page: no script, no request."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from runbook import __version__
from runbook.errors import ExitCode
from runbook.events.model import Status
from runbook.events.render.report import maps, plots
from runbook.events.render.report.loop import Level

if TYPE_CHECKING:
    from runbook.events.render.report.content import Content
    from runbook.events.render.report.loop import Loop

_HERE = Path(__file__).parent
_SYMBOLS = {
    Status.OK: "✓", Status.CHANGED: "●", Status.SKIPPED: "–",
    Status.FAILED: "✗", Status.UNREACHABLE: "✗", Status.IGNORED: "!",
}  # fmt: skip
_LEVELS = {Level.IDLE: "–", Level.RUNS: "●", Level.LOOK: "!", Level.STOPPED: "✗"}
_TONES = {Level.IDLE: "idle", Level.RUNS: "good", Level.LOOK: "changes", Level.STOPPED: "bad"}


def page(content: Content) -> str:
    """The page of a run."""
    longest = max((step.seconds for step in content.steps), default=0)
    return _rendered(
        "run.html.j2", content.title, content=content, longest=longest, tone=_tone(content),
        symbols=_SYMBOLS, kind=_kind,
    )  # fmt: skip


def loop_page(content: Loop) -> str:
    """The page of the loop on a target's hosts."""
    return _rendered(
        "loop.html.j2", f"The loop on {content.target}", content=content, every=content.every,
        symbols=_LEVELS, tones=_TONES,
    )  # fmt: skip


def _rendered(name: str, title: str, **values: Any) -> str:
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _templates()
        .get_template(name)
        .render({"every": None, **values}, title=title, style=style, digest=digest)
    )


@functools.cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    edge = {"left": maps.LEFT, "right": maps.RIGHT, "top": maps.TOP, "bottom": maps.BOTTOM}
    axes = {"left": plots.LEFT, "right": plots.RIGHT, "bottom": plots.BOTTOM}
    found.globals.update(
        version=__version__, drawn=plots.drawn, marks=plots.MARKS, axes=axes,
        edge=edge, size=(plots.WIDTH, plots.HEIGHT),
    )  # fmt: skip
    return found


def _tone(content: Content) -> str:
    if content.exit_code not in (ExitCode.OK, ExitCode.CHANGES):
        return "bad"
    return "changes" if any(step.status == Status.CHANGED for step in content.steps) else "good"


def _kind(line: str) -> str:
    """The class of a line of a diff."""
    found = re.match(r"\+\+\+|---|@@|\+|-", line)
    names = {"+++": "head", "---": "head", "@@": "place", "+": "added", "-": "removed"}
    return names[found[0]] if found else "same"
