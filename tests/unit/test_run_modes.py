"""The four run modes are one, and no playbook handles a dry run by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
MODES = {"initial": "static", "single": "static", "regular": "regular", "reset": "regular"}


def play(mode: str) -> dict[str, Any]:
    (found,) = yaml.safe_load((PLAYBOOKS / f"{mode}.yml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_run_mode_decides_its_variables_and_its_database_only(mode: str) -> None:
    own, regular = play(mode), play("regular")
    assert own.pop("vars").keys() == regular.pop("vars").keys() == {"mode", "follows"}
    assert own.pop("name")
    assert regular.pop("name")
    database = f"tasks/database_{MODES[mode]}.yml"
    assert own["tasks"][1]["ansible.builtin.import_tasks"] == database
    del own["tasks"][1], regular["tasks"][1]
    assert own == regular
    assert len(own["tasks"]) == 2


def test_no_playbook_handles_a_dry_run_by_itself() -> None:
    """The modules and the action plugin do; only restore.yml asks for a plan before it acts."""
    found = {
        str(path.relative_to(PLAYBOOKS)): text.count("check_mode")
        for path in [*PLAYBOOKS.glob("*.yml"), *PLAYBOOKS.glob("tasks/*.yml")]
        if "check_mode" in (text := path.read_text())
    }
    assert found == {"restore.yml": 1}
