"""observe, plan, apply: put together in one place, and held to the plan between the last two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import held, module
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
from ansible_collections.labeller.runbook.plugins.module_utils.errors import Stale
from ansible_collections.labeller.runbook.plugins.module_utils.module import Plan, composed


class Shelf:
    """A resource with one value, and what was done to it."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.calls: list[str] = []
        self.run = composed(self.observe, self.plan, self.apply)

    def observe(self, params: Any) -> str:
        self.calls.append("observe")
        return "empty\n" if params["empty_in_check"] else self.value

    def plan(self, state: str, params: Any) -> Plan:
        self.calls.append("plan")
        change = Change("the shelf", "write", state, params["value"])
        return Plan([change], {"number": 0, "was": state}, ["dusty"], work=params["value"])

    def apply(self, decided: Plan, _params: Any) -> dict[str, Any]:
        self.calls.append("apply")
        self.value = decided.work
        return {"number": 7}


PARAMS = {"value": "book\n", "empty_in_check": False}


def test_a_check_does_all_but_apply() -> None:
    shelf = Shelf("vase\n")
    checked = shelf.run(PARAMS, True)
    assert (shelf.calls, shelf.value) == (["observe", "plan"], "vase\n")
    done = shelf.run(PARAMS, False)
    assert shelf.calls[2:] == ["observe", "plan", "apply"]
    assert shelf.value == "book\n"
    assert {**checked, "number": 7} == done, "what only apply can know comes on top"
    assert done["warnings"] == ["dusty"]
    assert "work" not in done
    assert not shelf.run(PARAMS, False)["changed"]


def test_a_real_run_is_held_to_its_plan_before_it_applies() -> None:
    shelf = Shelf("vase\n")
    planned = held.of_result(shelf.run(PARAMS, True))
    shelf.value = "lamp\n"
    with pytest.raises(Stale, match="the shelf: planned vase, found lamp"):
        shelf.run({**PARAMS, "planned": planned}, False)
    assert (shelf.calls[-1], shelf.value) == ("plan", "lamp\n")
    shelf.value = "vase\n"
    assert shelf.run({**PARAMS, "planned": planned}, False)["changed"]


def test_what_earlier_steps_of_a_check_have_not_done_counts_in_a_check_only() -> None:
    shelf = Shelf("vase\n")
    params = {**PARAMS, "empty_in_check": True}
    assert shelf.run(params, True)["was"] == "empty\n"
    assert shelf.run(params, False)["was"] == "vase\n"


def test_the_code_that_ansible_unpacked_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """As before a module ends itself by a signal, so that Ansible's wrapper does not."""
    folder = tmp_path / "ansible_labeller.runbook.lease_payload_x7"
    folder.mkdir()
    code = folder / "ansible_labeller.runbook.lease_payload.zip"
    code.touch()
    (tmp_path / "other").touch()
    module.remove_unpacked(module.__file__)
    module.remove_unpacked(f"{folder}/notes/lease.py")
    assert code.exists()
    module.remove_unpacked(f"{code}/ansible_collections/labeller/runbook/module.py")
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
