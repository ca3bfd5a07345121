"""The host's modules: what DOCUMENTATION says is what the argument spec takes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import yaml

PLUGINS = "ansible_collections.labeller.runbook.plugins"
NAMES = (
    "crontab_profile",
    "daemons",
    "emr_learner",
    "httpd",
    "iteration",
    "labeller_config",
    "lease",
)


@pytest.mark.parametrize("name", NAMES)
def test_documentation_is_the_argument_spec(name: str) -> None:
    module = importlib.import_module(f"{PLUGINS}.modules.{name}")
    documentation = yaml.safe_load(module.DOCUMENTATION)
    options: dict[str, Any] = dict(documentation["options"])
    for fragment in documentation["extends_documentation_fragment"]:
        place = importlib.import_module(f"{PLUGINS}.doc_fragments.{fragment.rpartition('.')[2]}")
        options.update(yaml.safe_load(place.ModuleDocFragment.DOCUMENTATION).get("options", {}))
    alike(options, module.MODULE.argument_spec)


def alike(options: dict[str, Any], spec: dict[str, Any]) -> None:
    assert set(options) == set(spec)
    for name, wanted in spec.items():
        said = options[name]
        for part in ("type", "default", "choices", "elements"):
            assert said.get(part) == wanted.get(part), (name, part)
        assert bool(said.get("required")) == bool(wanted.get("required")), name
        if "options" in wanted:
            alike(said["suboptions"], wanted["options"])
