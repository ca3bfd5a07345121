"""A check of regular.yml over ssh on loopback: runbook, stock Ansible, and Mitogen alone.

Same playbook, same target, run in turn; the figures are ratios of medians. runbook uses no Mitogen:
it is installed for this measurement.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.engine import BIN, PROJECT, clean_environment, in_turn
from benchmarks.held import over_ssh
from runbook import collection

MITOGEN = "mitogen==0.3.54"


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, over_ssh(Path(folder)) as box:
        if not box:
            return
        mitogen = Path(folder) / "mitogen"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(mitogen), MITOGEN]
        subprocess.run(pip, check=True)
        environment = {
            **clean_environment(),
            "RUNBOOK_HOME": str(box.home),
            "ANSIBLE_COLLECTIONS_PATH": str(collection.link(Path(folder) / "collections")),
        }
        stock = [str(BIN / "ansible-playbook"), str(PROJECT / "playbooks/regular.yml"), "-i",
                 box.inventory, "--check", "--diff"]  # fmt: skip
        with_mitogen = {
            "PYTHONPATH": str(mitogen),
            "ANSIBLE_STRATEGY_PLUGINS": str(mitogen / "ansible_mitogen/plugins/strategy"),
            "ANSIBLE_STRATEGY": "mitogen_linear",
        }
        found = in_turn(
            {
                "stock": stock,
                "mitogen": ["env", *(f"{k}={v}" for k, v in with_mitogen.items()), *stock],
                "runbook": [
                    str(BIN / "runbook"), "apply", "regular.yml", "-i", box.inventory, "--check"
                ],
            },
            environment,
        )  # fmt: skip
    print("\n| over ssh | seconds (median) | stock takes | held to |\n|---|---|---|---|")
    names = {"stock": "ansible-playbook --check --diff", "mitogen": "the same with Mitogen",
             "runbook": "runbook apply --check"}  # fmt: skip
    for key, name in names.items():
        ratio = found["stock"] / found[key]
        bound = "at least 3" if key == "runbook" else ""
        print(f"| {name} | {found[key]:.2f} | {ratio:.2f} times | {bound} |")
    alone = found["mitogen"] / found["runbook"]
    print(f"| Mitogen alone takes, of what runbook does | | {alone:.2f} times | at least 1.3 |")
