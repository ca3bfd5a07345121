"""Messages of the ansible process to the engine, and the secrets that it has told so far."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

#: What the names of files with answers to queries begin with; a host and .json follow.
ANSWER = "answer-"

#: Values of secret variables, for what in this process masks them too.
SECRETS: list[Any] = []


def tell(message: dict[str, Any]) -> None:
    """Send one message; without an engine, nothing."""
    channel = os.environ.get("RUNBOOK_CHANNEL")
    if channel:
        with Path(channel).open("w", encoding="utf-8") as pipe:
            pipe.write(json.dumps(message, default=str) + "\n")
