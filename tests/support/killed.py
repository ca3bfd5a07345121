"""A run that is killed with all that it started, and the target's journal of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any

from ansible_collections.labeller.runbook.plugins.module_utils import journal_read
from command_line import PROJECT, RUNBOOK, Sandbox, descendants
from faulty import Gate


def kill_at(sandbox: Sandbox, gated: Gate, playbook: str = "regular.yml", *arguments: str) -> None:
    """Start an apply and kill all of it, the engine and what it started, at the gate."""
    run = subprocess.Popen(
        [RUNBOOK, "apply", playbook, "-i", "sandbox", "--yes", "-e", f"aws_endpoint_url={gated.url}",
         *arguments],
        env=sandbox.environment, cwd=PROJECT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        reached = gated.reached.wait(180)
    finally:
        for pid in descendants(run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        output, _ = run.communicate()
    assert reached, output


def history(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The runs in the target's journal, the newest first."""
    return journal_read.history(str(sandbox.home / "sandbox" / "journal"))
