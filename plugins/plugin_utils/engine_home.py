# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the engine keeps its state (``runbook.home``), for plugins that run without it."""

from __future__ import annotations

import os


def home() -> str:
    """``RUNBOOK_HOME``, or ``runbook`` in the XDG state folder; an absolute path."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    given = os.environ.get("RUNBOOK_HOME") or os.path.join(state, "runbook")
    return os.path.abspath(os.path.expanduser(given))
