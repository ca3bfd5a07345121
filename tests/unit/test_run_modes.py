"""The four run modes are one, and no playbook handles a dry run by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runbook import collection
from runbook.load.walk.playbook import Walk

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
MODES = {
    "initial": ("initial", False, "static"),
    "single": ("single", False, "static"),
    "regular": ("regular", False, "regular"),
    "reset": ("regular", True, "regular"),
}


@pytest.mark.parametrize("name", MODES)
def test_a_run_mode_only_sets_the_variables_of_the_shared_one(name: str) -> None:
    (own,) = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text())
    mode, follows, sites = MODES[name]
    assert own.pop("name")
    assert own == {
        "ansible.builtin.import_playbook": "shared/run_mode.yml",
        "vars": {"mode": mode, "follows": follows, "sites": sites},
    }


@pytest.mark.parametrize("name", MODES)
def test_its_steps_are_known_before_the_run(name: str) -> None:
    walk = Walk(frozenset(), open_names=True)
    walk.playbook(PLAYBOOKS / f"{name}.yml")
    (transaction,) = [step for step in walk.steps if step.parts]
    sites = {"static": "static_sites", "regular": "f_sites"}[MODES[name][2]]
    assert sites in transaction.parts
    assert transaction.tags == ("database",)
    assert not walk.open_uses


#: Prints the steps of the transactions that ansible-playbook would run, of each playbook.
LOADED = """
import json, sys
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager

init_plugin_loader()
loader = DataLoader()
variables = VariableManager(loader, InventoryManager(loader, "host,"))

def tasks(block):
    for entry in block.block:
        yield from tasks(entry) if hasattr(entry, "block") else [entry]

def steps(playbook):
    (play,) = Playbook.load(playbook, variables, loader).get_plays()
    found = [task for block in play.compile() for task in tasks(block)]
    return [name for task in found for step in task.args.get("steps", []) for name in step]

print(json.dumps([steps(playbook) for playbook in sys.argv[1:]]))
"""


def test_ansible_takes_the_same_steps(tmp_path: Path) -> None:
    """Ansible names files at load time, by rules of its own."""
    playbooks = [PLAYBOOKS / f"{name}.yml" for name in MODES]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *playbooks],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collection.link(tmp_path))},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [list(parts(playbook)) for playbook in playbooks]


def parts(playbook: Path) -> tuple[str, ...]:
    """The parts of a playbook's one transaction, as the engine reads them."""
    walk = Walk(frozenset(), open_names=True)
    walk.playbook(playbook)
    (transaction,) = [step for step in walk.steps if step.parts]
    return transaction.parts


def test_no_playbook_handles_a_dry_run_by_itself() -> None:
    """The modules and the action plugin do; only restore.yml and undo.yml ask for a plan first."""
    found = {
        str(path.relative_to(PLAYBOOKS)): text.count("check_mode")
        for folder in ("", "shared", "tasks")
        for path in (PLAYBOOKS / folder).glob("*.yml")
        if "check_mode" in (text := path.read_text())
    }
    assert found == {"restore.yml": 1, "undo.yml": 1}
