"""The journal: one folder a run below ``RUNBOOK_HOME/runs``, without secrets.

``events.jsonl`` grows while the run goes on, each line flushed and synced; ``result.json`` is
written when it ends, so a run without it was killed.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from runbook.events import Event, Progress, Result
from runbook.home import home

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """Subscribes to the events of one run."""

    def __init__(self, run_id: str) -> None:
        self.folder = home() / "runs" / run_id
        self.folder.mkdir(parents=True, mode=0o700)
        self._events = self._create("events.jsonl")

    def __call__(self, event: Event) -> None:
        """Keep one event; how far a step was at some second is of no use later."""
        if isinstance(event, Progress):
            return
        if isinstance(event, Result):
            with os.fdopen(self._create("result.json.new"), "w", encoding="utf-8") as file:
                json.dump(event.as_json(), file, ensure_ascii=False, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            (self.folder / "result.json.new").replace(self.folder / "result.json")
            os.close(self._events)
            return
        os.write(self._events, (json.dumps(event.as_json(), ensure_ascii=False) + "\n").encode())
        os.fdatasync(self._events)

    def _create(self, name: str) -> int:
        return os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def new_run_id() -> str:
    """A run's id: its start in UTC, and what tells it from another of the same moment."""
    from datetime import UTC, datetime

    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"


def path(run_id: str) -> Path:
    """The folder of a run."""
    return home() / "runs" / run_id


def keep_crash(text: str) -> Path:
    """Keep the traceback of a bug in a file of its own; gives its path."""
    folder = home() / "crashes"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = folder / f"{new_run_id()}.txt"
    place.write_text(text, encoding="utf-8")
    place.chmod(0o600)
    return place
