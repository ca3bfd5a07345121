"""``runbook doctor`` of a target in order: locally, and over ssh on loopback."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.engine import BIN, PROJECT, clean_environment, in_turn
from benchmarks.held import over_ssh

#: Seconds that it may take.
HELD = 5


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, over_ssh(Path(folder)) as box:
        if not box:
            return
        box.run(PROJECT, "apply", "backup.yml", "-i", box.inventory, "--yes")
        doctor = [str(BIN / "runbook"), "doctor", "-i"]
        found = in_turn(
            {"locally": [*doctor, "sandbox"], "over ssh": [*doctor, box.inventory]},
            {**clean_environment(), "RUNBOOK_HOME": str(box.home)},
        )
    print("\n| runbook doctor | seconds (median) | held to |\n|---|---|---|")
    for name, figure in found.items():
        print(f"| {name} | {figure:.2f} | {HELD} |")
