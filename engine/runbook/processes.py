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
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True)
class Process:
    """A process; ``started`` (clock ticks since boot) tells it from a later one of the same id."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The living process of this id; None when there is none, or only a zombie."""
        stat = _stat(pid)
        return None if stat is None or stat[0] in "ZX" else cls(pid, stat[2])

    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start of a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def commands() -> Iterator[tuple[int, list[str]]]:
    """Id and command line of every process, as far as they may be read."""
    for pid in _pids():
        command = _read(pid, "cmdline")
        if command:
            yield pid, [os.fsdecode(part) for part in command[:-1].split(b"\0")]


def working_folder(pid: int) -> str:
    """The folder that a process works in; empty when it cannot be known."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(" (deleted)")
    except OSError:
        return ""  # it has ended, or is of somebody else


def with_variable(name: str, value: str) -> set[Process]:
    """The processes that were started with an environment variable, as far as they may be read."""
    entry = os.fsencode(f"{name}={value}")
    return {
        process
        for pid in _pids()
        if entry in _read(pid, "environ").split(b"\0") and (process := Process.of(pid))
    }


def _pids() -> Iterator[int]:
    """The ids of all processes; none where there is no /proc."""
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # it has ended, or is of somebody else


def family(pid: int) -> set[Process]:
    """A process and all its descendants; empty where there is no /proc."""
    stats = {one: stat for one in _pids() if (stat := _stat(one)) is not None}
    found = {pid} & stats.keys()
    grown = True
    while grown:
        more = {child for child, stat in stats.items() if stat[1] in found} - found
        found |= more
        grown = bool(more)
    return {Process(one, stats[one][2]) for one in found}


def signal_all(processes: Iterable[Process], number: signal.Signals) -> None:
    """Send a signal to those that still run; another user's (a step that became root) is left."""
    for process in processes:
        if process.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)


def end(find: Callable[[], Iterable[Process]], patience: float = 3.0) -> set[Process]:
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
