"""Processes of this machine, from /proc: which belong together, and making sure they end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True)
class Process:
    """A process; ``started`` (clock ticks since boot) makes it unique, ids are reused."""

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
    """Id and command line of every process, as far as they may be read; none of a container."""
    here = _machine("self")
    for pid in _pids():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            there = _machine(str(pid))
        except OSError:
            continue  # it has ended, or is of another user
        if command and there in (here, None):
            yield pid, [os.fsdecode(part) for part in command[:-1].split(b"\0")]


def _machine(process: str) -> tuple[Path, Path] | None:
    """Root and process namespace: other ones are those of a container, whose paths mean others.

    None when it cannot be known: root needs CAP_SYS_PTRACE for processes of other users.
    """
    folder = Path("/proc") / process
    try:
        return (folder / "root").readlink(), (folder / "ns/pid").readlink()
    except PermissionError:
        return None


def working_folder(pid: int) -> str:
    """The folder that a process works in; empty when it cannot be known."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(" (deleted)")
    except OSError:
        return ""  # it has ended, or is of another user


def _pids() -> Iterator[int]:
    """The ids of all processes; none where there is no /proc."""
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name)


def die_with_parent() -> None:
    """Be ended when the parent is, however it ends; on Linux only."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, in place of init; on Linux only.

    So ``descendants`` finds them wherever their own parents have gone.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def descendants(pid: int, but: Collection[Process] = ()) -> set[Process]:
    """All that descend from a process, except ``but`` and theirs; none where there is no /proc."""
    stats = {
        one: stat
        for one in _pids()
        if (stat := _stat(one)) is not None and Process(one, stat[2]) not in but
    }
    found = {pid}
    grown = True
    while grown:
        more = {child for child, stat in stats.items() if stat[1] in found} - found
        found |= more
        grown = bool(more)
    return {Process(one, stats[one][2]) for one in found - {pid}}


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
    nobody = 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience
        told: set[Process] = set()
        while True:
            alive = {process for process in find() if process.alive()}
            signal_all(alive - told, number)
            told |= alive
            # One look may miss what was started meanwhile by a process that then ended.
            nobody = 0 if alive else nobody + 1
            if nobody == 2:
                return set()
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
    return alive


def silence() -> None:
    """Have standard output go nowhere from now on, the interpreter's last flush too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
