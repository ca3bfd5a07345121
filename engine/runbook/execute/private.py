"""The private folder of a run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from runbook.home import home, is_locked, own_folder

#: The names that ``private_folder`` gives. All else is the operator's own.
_NAME = re.compile(r"\.?\d+-\d{10,}")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder of this run, 0700; removed at the end, with leftovers of killed runs."""
    base = own_folder(home() / "private")
    folder = base / f"{os.getpid()}-{time.monotonic_ns()}"
    made = base / f".{folder.name}"
    made.mkdir(mode=0o700)
    with (made / "alive").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(folder)  # under its name it is locked, or its run has ended
        for other in base.iterdir():
            if _NAME.fullmatch(other.name) and other != folder and not _alive(other):
                shutil.rmtree(other, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _alive(folder: Path) -> bool:
    """Whether the run that made a private folder still holds it, or is just making it."""
    if folder.name.startswith("."):
        return Path(f"/proc/{folder.name[1:].split('-')[0]}").exists()
    try:
        return is_locked(folder / "alive")
    except OSError:
        return False  # its run is just removing it
