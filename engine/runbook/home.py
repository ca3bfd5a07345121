"""Where runbook keeps its state: the sandbox, the journal, the private folders of runs."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """``RUNBOOK_HOME``, or ``runbook`` in the XDG state folder; not necessarily there yet."""
    chosen = os.environ.get("RUNBOOK_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "runbook"
