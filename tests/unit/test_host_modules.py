"""The host's modules: what DOCUMENTATION says is what the argument spec takes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml

PLUGINS = "ansible_collections.labeller.runbook.plugins"
SPECS = {
    "crontab_profile": "module_utils.crontab",
    "daemons": "module_utils.daemons",
    "emr_learner": "module_utils.emr",
    "iteration": "modules.iteration",
    "labeller_config": "module_utils.labeller_config",
}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_documentation_is_the_argument_spec(name: str) -> None:
    documentation = yaml.safe_load(
        importlib.import_module(f"{PLUGINS}.modules.{name}").DOCUMENTATION
    )
    options: dict[str, Any] = dict(documentation["options"])
    for fragment in documentation["extends_documentation_fragment"]:
        place = importlib.import_module(f"{PLUGINS}.doc_fragments.{fragment.rpartition('.')[2]}")
        options.update(yaml.safe_load(place.ModuleDocFragment.DOCUMENTATION).get("options", {}))
    alike(options, importlib.import_module(f"{PLUGINS}.{SPECS[name]}").ARGUMENTS)


def alike(options: dict[str, Any], spec: dict[str, Any]) -> None:
    assert set(options) == set(spec)
    for name, wanted in spec.items():
        said = options[name]
        for part in ("type", "default", "choices", "elements"):
            assert said.get(part) == wanted.get(part), (name, part)
        assert bool(said.get("required")) == bool(wanted.get("required")), name
        if "options" in wanted:
            alike(said["suboptions"], wanted["options"])
