"""Which inventories take the sandbox's state from its lookup, and how a run gets it once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runbook import collection
from runbook.execute import runner
from runbook.load import inventory, targets

LOOKUP = "{{ lookup('labeller.runbook.sandbox_state') }}"


@pytest.mark.parametrize(
    ("hosts", "sandboxed"),
    [
        ({"a": {"sandbox_state": LOOKUP}, "b": {"sandbox_state": LOOKUP}}, True),
        ({"a": {"sandbox_state": LOOKUP}, "b": {"sandbox_state": {"bucket": "mine"}}}, False),
        ({"a": {"sandbox_state": LOOKUP}, "b": {}}, False),
        ({}, False),
    ],
)
def test_only_a_lookup_of_every_host_is_answered_in_advance(
    tmp_path: Path, hosts: dict[str, object], sandboxed: bool
) -> None:
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
    assert inventory.read(targets.target(str(tmp_path))).sandboxed is sandboxed


def test_the_packaged_inventory_is_one() -> None:
    packaged = targets.target(str(collection.root() / "inventories/sandbox"))
    assert inventory.read(packaged).sandboxed


def test_without_a_sandbox_the_lookup_says_so_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    assert runner.sandbox_state(tmp_path) == []
