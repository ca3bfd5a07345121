"""The subscriber that writes a report when its command has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook.errors import InvalidInputError
from runbook.events.model import Event, Result
from runbook.events.render.report.content import Content, Gathered
from runbook.home import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUFFIXES = (".html", ".md")


def verify(path: Path) -> None:
    """Raise InvalidInputError for a name of another format, and a folder that is not there."""
    if path.suffix not in SUFFIXES:
        raise InvalidInputError(
            f"the report {path}: the name must end in {' or '.join(SUFFIXES)}, for the format"
        )
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InvalidInputError(f"the report {path}: there is no folder to write this file to")


class ReportFile:
    """Gathers a command's events, and writes its report to ``path`` at the end.

    ``tell`` is called with a message when the file cannot be written; the run's result stands.
    Raises what ``verify`` does, at once.
    """

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        verify(path)
        self._path, self._tell = path, tell
        self._gathered = Gathered()

    def __call__(self, event: Event) -> None:
        """Take in one event; the result is the last."""
        self._gathered(event)
        if isinstance(event, Result):
            rendered = _rendered(self._gathered.content(event), self._path.suffix)
            try:
                write_whole(self._path, rendered)
            except OSError as error:
                self._tell(f"the report {self._path} was not written: {error.strerror}")


def _rendered(content: Content, suffix: str) -> str:
    if suffix == ".md":
        from runbook.events.render.report.markdown import markdown

        return markdown(content)
    from runbook.events.render.report.page import page

    return page(content)
