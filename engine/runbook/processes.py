"""Processes of this machine, from /proc: which belong together, and making sure they end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Process:
    """A process; ``started`` (clock ticks since boot) tells it from a later one of the same id."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        state = _stat(self.pid)
        return state is not None and state[2] == self.started and state[0] != "Z"


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start of a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def family(pid: int) -> set[Process]:
    """A process and all its descendants; empty where there is no /proc."""
    stats = {
        int(entry.name): stat
        for entry in Path("/proc").glob("[0-9]*")
        if (stat := _stat(int(entry.name))) is not None
    }
    found = {pid} & stats.keys()
    grown = True
    while grown:
        more = {child for child, stat in stats.items() if stat[1] in found} - found
        found |= more
        grown = bool(more)
    return {Process(one, stats[one][2]) for one in found}


def with_variable(name: str, value: str) -> set[Process]:
    """The processes that were started with an environment variable, as far as one may look."""
    entry = f"{name}={value}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                pid = int(folder.name)
                if stat := _stat(pid):
                    found.add(Process(pid, stat[2]))
    return found


def signal_all(processes: Iterable[Process], number: signal.Signals) -> None:
    """Send a signal to those that still run; another user's (a step that became root) is left."""
    for process in processes:
        if process.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def end(find: Callable[[], set[Process]], patience: float = 3.0) -> set[Process]:
    """Terminate all that ``find`` finds, those they start meanwhile too, and wait until none runs.

    Those that stay longer than ``patience`` seconds are killed, and waited for as long again: one
    that hangs in the kernel must not keep the caller. Gives those that run even then.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience
        told: set[Process] = set()
        while alive := {process for process in find() if process.alive()}:
            signal_all(alive - told, number)
            told |= alive
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
    return alive
