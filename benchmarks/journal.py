"""The target's journal: a step's two records, and the list of 10,000 runs.

The bounds: 2 ms a change on this disk beside what its own syncs take, 1 s for the list.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runbook import collection

RUNS, STEPS, WRITES = 10_000, 3, 200


def main() -> None:
    sys.path.insert(0, str(collection.link(Path(".build/collections"))))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for line in (*_writes(Path(folder) / "one"), *_list(Path(folder) / "many")):
            print(line)


def _modules() -> tuple[Any, Any, Any]:
    from ansible_collections.labeller.runbook.plugins.module_utils import (
        change,
        journal,
        journal_read,
    )

    return change, journal, journal_read


def _writes(folder: Path) -> list[str]:
    """A step's intent and outcome, and what two syncs of as many bytes take by themselves."""
    change, journal, _ = _modules()
    changes = [change.Change("crontab", "write", "a line\n" * 20, "another\n" * 20)]

    def step() -> None:
        with journal.begun(_params(folder, 0), changes, {"before": "a line\n" * 100}):
            pass

    step()
    file = os.open(folder / "synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def synced() -> None:
        for size in (2400, 100):
            os.write(file, b"x" * size)
            os.fsync(file)

    own, bare = _median(step), _median(synced)
    os.close(file)
    line = (
        "journal, a change {:7.2f} ms; its two syncs alone {:.2f} ms, the rest {:.2f} (bound 2.00)"
    )
    return [line.format(own * 1000, bare * 1000, (own - bare) * 1000)]


def _list(folder: Path) -> list[str]:
    """The whole list, and its newest 20, of runs of three steps, as the loop makes them."""
    change, journal, journal_read = _modules()
    _fill(change, journal, folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    found = []
    for name, limit in (("all", 0), ("20", 20)):
        begun = time.process_time()
        assert len(journal_read.history(str(folder), limit=limit)) == (limit or RUNS)
        taken = time.process_time() - begun
        found.append(
            f"journal, list {name:>3} of {RUNS:,} runs ({size / 1e6:.0f} MB) {taken:6.3f} s of CPU "
            "(bound 1.000)"
        )
    return found


def _fill(change: Any, journal: Any, folder: Path) -> None:
    """The same run many times, under other ids."""
    changes = [
        change.Change(f"table {n}", "delete", "12 rows\n", "0 rows\n", {"rows_deleted": 12})
        for n in range(3)
    ]
    for _ in range(STEPS):
        with journal.begun(_params(folder, 0), changes, "x" * 600):
            pass
    (first,) = folder.iterdir()
    content = first.read_bytes()
    for number in range(1, RUNS):
        (folder / f"{_run(number)}.jsonl").write_bytes(content)


def _run(number: int) -> str:
    return f"20260114T{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}-{number:06x}"


def _params(folder: Path, number: int) -> dict[str, Any]:
    about = {"operator": "olli@laptop", "playbook": "regular.yml", "task": "Reset the database"}
    return {
        "journal": {
            **about, "run": _run(number), "host": "labeller3", "module": "pg_transaction",
            "folder": str(folder),
        }
    }  # fmt: skip


def _median(call: Callable[[], None]) -> float:
    times = []
    for _ in range(WRITES):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)
