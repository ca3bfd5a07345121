"""The engine: `runbook apply --check` beside stock `ansible-playbook --check --diff`.

Same playbook, same target, same machine, run in turn; the figure is the ratio of the medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from runbook import collection

TIMES = 7
BIN = Path(sys.executable).parent
PROJECT = Path(__file__).resolve().parent.parent


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """How long a command takes that ends well."""
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - begun


def in_turn(commands: dict[str, list[str]], environment: dict[str, str]) -> dict[str, float]:
    """The median of each command, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(TIMES + 1):
        for name, command in commands.items():
            figure = seconds(command, environment)
            if number:
                taken[name].append(figure)
    return {name: statistics.median(figures) for name, figures in taken.items()}


def clean_environment() -> dict[str, str]:
    """A user's environment, without settings of Ansible or runbook."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "RUNBOOK_"))}


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        environment = {
            **clean_environment(),
            "RUNBOOK_HOME": str(home),
            "ANSIBLE_COLLECTIONS_PATH": str(collection.link(Path(folder) / "collections")),
        }
        runbook = str(BIN / "runbook")
        seconds([runbook, "sandbox", "up"], environment)
        try:
            stock = [
                str(BIN / "ansible-playbook"),
                "playbooks/regular.yml",
                "-i",
                "inventories/sandbox",
            ]
            found = in_turn(
                {
                    "stock": [*stock, "--check", "--diff"],
                    "runbook": [runbook, "apply", "regular.yml", "-i", "sandbox", "--check"],
                    "help": [runbook, "--help"],
                    "validate": [runbook, "validate"],
                    "up": [runbook, "sandbox", "up"],
                },
                environment,
            )
        finally:
            seconds([runbook, "sandbox", "down"], environment)
    print("\n| engine | seconds (median) | held to |\n|---|---|---|")
    print(f"| ansible-playbook regular.yml --check --diff | {found['stock']:.2f} | |")
    print(f"| runbook apply regular.yml --check | {found['runbook']:.2f} | |")
    least = 4 if metadata.version("ansible-core").startswith("2.19.") else 3.2
    print(f"| ratio | {found['stock'] / found['runbook']:.1f} | at least {least} |")
    print(f"| runbook --help | {found['help']:.3f} | 0.150 |")
    print(f"| runbook validate | {found['validate']:.2f} | 1 |")
    print(f"| runbook sandbox up, when it is up | {found['up']:.2f} | 0.25 |")
