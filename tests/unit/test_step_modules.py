"""Each step is a module, an element of pg_transaction's steps, and documented in both alike."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import yaml
from ansible_collections.labeller.runbook.plugins.module_utils import aws, postgres
from ansible_collections.labeller.runbook.plugins.module_utils.step import COMMON_ARGUMENTS
from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry

from runbook import collection

MODULES = "ansible_collections.labeller.runbook.plugins.modules"
GROUPS = yaml.safe_load((collection.root() / "meta" / "runtime.yml").read_text())["action_groups"]


def documentation(name: str) -> dict[str, Any]:
    """Its own options, without those of fragments."""
    text = importlib.import_module(f"{MODULES}.{name}").DOCUMENTATION
    return dict(yaml.safe_load(text).get("options", {}))


def spec(options: dict[str, Any]) -> dict[str, Any]:
    """The options, as documentation and argument spec must agree on them."""
    return {
        name: {
            key: option.get(key, default)
            for key, default in {
                "type": "str", "default": None, "required": False, "choices": None,
                "elements": None,
            }.items()
        }
        for name, option in options.items()
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Documentation without the markup that differs between a module and a suboption."""
    text = re.sub(r"\bO\((steps\[\]\.\w+\.)?", "V(", yaml.safe_dump(value, width=10**6))
    return yaml.safe_load(text)


@pytest.mark.parametrize("name", registry.STEPS)
def test_a_steps_module_documents_its_arguments(name: str) -> None:
    module = importlib.import_module(f"{MODULES}.{name}")
    step = registry.STEPS[name].ARGUMENTS
    assert spec(documentation(name)) == spec(step)
    assert {**COMMON_ARGUMENTS, **step} == module.ARGUMENTS


@pytest.mark.parametrize("name", registry.STEPS)
def test_pg_transaction_documents_the_step_alike(name: str) -> None:
    nested = documentation("pg_transaction")["steps"]["suboptions"][name]
    assert plain(nested.get("suboptions", {})) == plain(documentation(name))


def test_pg_transaction_takes_every_step() -> None:
    module = importlib.import_module(f"{MODULES}.pg_transaction")
    assert set(documentation("pg_transaction")["steps"]["suboptions"]) == set(registry.STEPS)
    options = module.ARGUMENTS["steps"]["options"]
    assert {name: option["options"] for name, option in options.items()} == {
        name: step.ARGUMENTS for name, step in registry.STEPS.items()
    }
    assert set(GROUPS["transaction_steps"]) == set(registry.STEPS)


def test_every_steps_module_is_in_the_groups_of_its_connections() -> None:
    names = {*registry.STEPS, "pg_transaction"}
    assert names <= set(GROUPS["postgres"])
    assert names <= set(GROUPS["aws"])
    assert set(postgres.POSTGRES_ARGUMENTS) | set(aws.AWS_ARGUMENTS) < set(COMMON_ARGUMENTS)


def test_the_steps_of_a_chain_keep_their_order() -> None:
    elements = [
        {**dict.fromkeys(registry.STEPS), "pg_clear": {"metrics": "keep", "run_id": None}},
        {**dict.fromkeys(registry.STEPS), "grid_availability": {"state": "present"}},
    ]
    assert [step.name for step in registry.chain(elements)] == ["pg_clear", "grid_availability"]
