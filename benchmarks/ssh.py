"""A check of regular.yml over ssh on loopback: runbook, stock Ansible, and Mitogen alone.

Same playbook, same target, run in turn; the figures are ratios of medians. Both ways of runbook
are both measured: Mitogen, which it takes where it can, and Ansible's own.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

from benchmarks.engine import BIN, PROJECT, clean_environment, in_turn
from benchmarks.held import over_ssh
from runbook import collection


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, over_ssh(Path(folder)) as box:
        if not box:
            return
        environment = {
            **clean_environment(),
            "RUNBOOK_HOME": str(box.home),
            "ANSIBLE_COLLECTIONS_PATH": str(collection.link(Path(folder) / "collections")),
            "ANSIBLE_STRATEGY_PLUGINS": str(_mitogen()),
        }
        apply = [str(BIN / "runbook"), "apply", "regular.yml", "-i", box.inventory, "--check"]
        stock = [str(BIN / "ansible-playbook"), str(PROJECT / "playbooks/regular.yml"), "-i",
                 box.inventory, "--check", "--diff"]  # fmt: skip
        found = in_turn(
            {
                "stock": stock,
                "mitogen": ["env", "ANSIBLE_STRATEGY=mitogen_linear", *stock],
                "runbook": [*apply, "--strategy", "mitogen"],
                "plain": [*apply, "--strategy", "linear"],
            },
            environment,
        )
    print("\n| over ssh | seconds (median) | stock takes | held to |\n|---|---|---|---|")
    names = {"stock": "ansible-playbook --check --diff", "mitogen": "the same with Mitogen",
             "runbook": "runbook apply --check", "plain": "the same without Mitogen"}  # fmt: skip
    bounds = {"runbook": "at least 3", "plain": "at least 1.4"}
    for key, name in names.items():
        ratio = found["stock"] / found[key]
        print(f"| {name} | {found[key]:.2f} | {ratio:.2f} times | {bounds.get(key, '')} |")
    alone = found["mitogen"] / found["runbook"]
    print(f"| Mitogen alone takes, of what runbook does | | {alone:.2f} times | at least 1.3 |")


def _mitogen() -> Path:
    """The folder of Mitogen's strategies."""
    found = importlib.util.find_spec("ansible_mitogen")
    assert found
    assert found.origin
    return Path(found.origin).parent / "plugins" / "strategy"
