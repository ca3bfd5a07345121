"""A check with a report beside one without: what the report costs, as ratios of medians.

The transaction is that of ``benchmarks/database.py``, of 50,100 cells and of 811,600; its map is
timed in the run that makes it. The command is ``runbook apply regular.yml --check`` on a sandbox,
without and with a report in turn.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.database import AOI, Country
from benchmarks.engine import BIN, clean_environment, seconds
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


def main() -> None:
    """Print the table."""
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
