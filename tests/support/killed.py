"""A run that is killed with all that it started, and the target's journal of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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


def wait_for_end(pids: list[int]) -> None:
    """Of a run whose engine was killed, nothing stays."""
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"{left} are left of a killed run"
        time.sleep(0.05)


def history(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The runs in the target's journal, the newest first."""
    return journal_read.history(str(sandbox.home / "sandbox" / "journal"))


@dataclass
class Begun:
    """An apply that is going on; its lines are read as they come."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    #: Events of the real run, and what waits for one of them.
    events: int = 0
    begun: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line)
                real = '"event": "run_started"' in line and '"check": false' in line
                self.begun = time.monotonic() if real else self.begun
                self.events += bool(self.begun)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, event: int) -> bool:
        """Return at an event of the real run, or at its end: False."""
        with self._changed:
            self._changed.wait_for(lambda: self.events >= event or self._ended, 180)
            return self.events >= event

    @property
    def run_id(self) -> str:
        found = re.search(r'"run_id": "([^"]+)"', "".join(self.lines))
        assert found
        return found[1]


@contextlib.contextmanager
def begun(
    sandbox: Sandbox, arguments: tuple[str, ...], target: tuple[str, ...] = ("-i", "sandbox")
) -> Iterator[Begun]:
    """``apply ARGUMENTS`` on the sandbox, going on; at the end it is killed."""
    process = subprocess.Popen(
        [RUNBOOK, "apply", *arguments, *target, "--yes", "--json"],
        env=sandbox.environment, cwd=PROJECT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    run = Begun(process)
    reading = threading.Thread(target=run.read)
    reading.start()
    try:
        yield run
    finally:
        process.kill()
        process.wait()
        reading.join()


def kill(victim: str, pid: int) -> list[int]:
    """Kill a part of a run; all its processes as they were then."""
    family = descendants(pid)
    chosen = {"engine": [pid], "ansible": family[-2:-1], "module": family[:1], "all": family}[
        victim
    ]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)
    return family
