"""``--json``: one object a line for each event (schemas/event.schema.json), the result last."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from runbook.events.model import Event


class JsonLines:
    """Writes events to a stream, flushed one by one."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def __call__(self, event: Event) -> None:
        """Write one line."""
        self._stream.write(json.dumps(event.as_json(), ensure_ascii=False) + "\n")
        self._stream.flush()
