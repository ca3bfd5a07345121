"""The four run modes are one, and no playbook handles a dry run by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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


def test_no_playbook_handles_a_dry_run_by_itself() -> None:
    """The modules and the action plugin do; only restore.yml asks for a plan before it acts."""
    found = {
        str(path.relative_to(PLAYBOOKS)): text.count("check_mode")
        for folder in ("", "shared", "tasks")
        for path in (PLAYBOOKS / folder).glob("*.yml")
        if "check_mode" in (text := path.read_text())
    }
    assert found == {"restore.yml": 1}
