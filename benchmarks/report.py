"""A check with a report beside one without: what the report costs, as ratios of medians.

The transaction is that of ``benchmarks/database.py``, of 50,100 cells and of 811,600; its map is
timed in the run that makes it. The command is ``runbook apply regular.yml --check`` on a sandbox,
without and with a report in turn. A page with the largest map that geography_info gives, and a diff
of 100,000 lines, is rendered in a process of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.database import AOI, Country
from benchmarks.engine import BIN, PROJECT, clean_environment, seconds
from runbook import collection
from runbook.sandbox import postgres

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = int(os.environ.get("TIMES", "5"))
#: How much longer a check may take for its report.
LIMIT = 1.05


def in_turn(without: Callable[[], float], reported: Callable[[], float]) -> tuple[float, float]:
    """The medians of both, in turn, after a round to warm up."""
    pairs = [(without(), reported()) for _ in range(TIMES + 1)][1:]
    first, second = (statistics.median(taken) for taken in zip(*pairs, strict=True))
    return first, second


def mapped(bench: Country, aoi: int) -> tuple[float, float]:
    """The fastest check without the time of its map, and with it."""
    pairs = []
    for _ in range(TIMES + 1):
        seconds, _ = bench.chain(check=True, aoi=aoi, mapped=True)
        pairs.append((seconds - bench.mapping, seconds))
    return min(pairs[1:], key=lambda pair: pair[1])


def row(name: str, without: float, reported: float) -> None:
    ratio = reported / without
    print(f"| {name} | {without:.2f} | {reported:.2f} | {ratio:.3f} | at most {LIMIT} |")


#: Seconds, bytes and MB that rendering a page may take, with all that its process holds.
RENDER = {"seconds": 1.5, "kB": 500, "MB of memory": 150}
_RENDER = """
import resource, time
from dataclasses import replace
from test_maps import largest, with_map
from test_report import reported
from runbook.events.render.report import page
diff = {"before_header": "t", "after_header": "t", "before": "", "after": "a row\\n" * 100_000}
events = with_map(largest())
events[-2] = replace(events[-2], changed=True, diff=[diff])
begun = time.perf_counter()
text = page.page(reported(events))
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(time.perf_counter() - begun, len(text.encode()) / 1000, used)
"""


def rendered() -> None:
    """Print how long a page takes, its size, and the memory of the process that made it."""
    parts = [str(PROJECT / "tests" / part) for part in ("unit", "support")]
    with tempfile.TemporaryDirectory() as folder:
        path = os.pathsep.join([*parts, str(collection.link(Path(folder) / "collections"))])
        told = subprocess.run(
            [sys.executable, "-c", _RENDER], env={**clean_environment(), "PYTHONPATH": path},
            check=True, stdout=subprocess.PIPE, text=True,
        ).stdout.split()  # fmt: skip
    print("\n| a page of the largest map and a diff of 100,000 lines | | held to |\n|---|---|---|")
    for (unit, most), figure in zip(RENDER.items(), map(float, told), strict=True):
        print(f"| {unit} | {figure:.2f} | at most {most} |")


def main() -> None:
    """Print the tables."""
    rendered()
    print("\n| check | seconds without a report | with one | ratio | held to |")
    print("|---|---|---|---|---|")
    postgres.SETTINGS.update(fsync="on", full_page_writes="on")
    with tempfile.TemporaryDirectory() as folder, Country(Path(folder)) as bench:
        bench.fill()
        bench.fresh()
        areas = {"transaction, 50,100 cells": AOI, "transaction, 811,600 cells": 18}
        for name, aoi in areas.items():
            row(name, *mapped(bench, aoi))
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **clean_environment(),
            "RUNBOOK_HOME": str(Path(folder) / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(collection.link(Path(folder) / "collections")),
        }
        runbook = str(BIN / "runbook")
        check = [runbook, "apply", "regular.yml", "-i", "sandbox", "--check"]
        seconds([runbook, "sandbox", "up"], environment)
        try:
            row("command, on a sandbox", *in_turn(
                lambda: seconds(check, environment),
                lambda: seconds([*check, f"--report={folder}/r.html"], environment),
            ))  # fmt: skip
        finally:
            seconds([runbook, "sandbox", "down"], environment)
