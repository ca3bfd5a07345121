"""A report as one self-contained HTML page: no script, no request."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from runbook import __version__
from runbook.errors import ExitCode
from runbook.events.model import Status

if TYPE_CHECKING:
    from runbook.events.render.report.content import Content

_HERE = Path(__file__).parent
_SYMBOLS = {
    Status.OK: "✓", Status.CHANGED: "●", Status.SKIPPED: "–",
    Status.FAILED: "✗", Status.UNREACHABLE: "✗", Status.IGNORED: "!",
}  # fmt: skip


def page(content: Content) -> str:
    """The page."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    longest = max((step.seconds for step in content.steps), default=0) or 1
    said: str = _template().render(
        content=content, style=style, digest=digest, longest=longest, version=__version__,
        tone=_tone(content), symbols=_SYMBOLS, kind=_kind,
    )  # fmt: skip
    return said


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2")


def _tone(content: Content) -> str:
    if content.exit_code not in (ExitCode.OK, ExitCode.CHANGES):
        return "bad"
    return "changes" if any(step.status == Status.CHANGED for step in content.steps) else "good"


def _kind(line: str) -> str:
    """The class of a line of a diff."""
    found = re.match(r"\+\+\+|---|@@|\+|-", line)
    names = {"+++": "head", "---": "head", "@@": "place", "+": "added", "-": "removed"}
    return names[found[0]] if found else "same"
