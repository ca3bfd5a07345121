"""A fleet: a check of ``regular.yml`` on 16 hosts beside one on 1, and the controller's memory.

The hosts are on this machine, each with a database of its own in one server; moto's server, which
works on one request at a time, stands in for S3. So both are a part of the figure.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.engine import BIN, PROJECT, clean_environment, in_turn
from runbook import processes

SIZE, MOST, MEMORY = 16, 4, 500
#: Seconds between two looks at the controller's memory.
LOOK = 0.1


def peak(command: list[str], environment: dict[str, str]) -> float:
    """The most memory in MB that a command and its processes hold at a time, shared pages once."""
    process = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL)
    most = 0.0
    while process.poll() is None:
        every = {process.pid, *(each.pid for each in processes.descendants(process.pid))}
        most = max(most, sum(map(proportional, every)))
        time.sleep(LOOK)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit {process.returncode}")
    return most / 1024


def proportional(pid: int) -> int:
    """The kilobytes of a process, of shared pages its share; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main() -> None:
    """Print the table."""
    sys.path[:0] = [str(PROJECT / "tests" / "support")]
    from command_line import Sandbox
    from fleet import Fleet  # not before its folder is on the path

    with tempfile.TemporaryDirectory() as folder:
        box = Sandbox(Path(folder) / "home")
        environment = {**clean_environment(), "RUNBOOK_HOME": str(box.home)}
        try:
            fleet = Fleet.of(box, Path(folder), SIZE)
            check = [str(BIN / "runbook"), "apply", "regular.yml", "-i", str(fleet.inventory)]
            check.append("--check")
            found = in_turn({"one": [*check, "--limit", fleet.hosts[0]], "all": check}, environment)
            memory = peak(check, environment)
        finally:
            box.run("sandbox", "down")
    print("\n| a check of regular.yml | | held to |\n|---|---|---|")
    print(f"| 1 host, seconds (median) | {found['one']:.2f} | |")
    print(f"| {SIZE} hosts, seconds (median) | {found['all']:.2f} | |")
    print(f"| ratio | {found['all'] / found['one']:.1f} | at most {MOST} |")
    print(f"| memory of the controller, MB | {memory:.0f} | below {MEMORY} |")
