"""The EXAMPLES of the modules are valid: names, options, values and variables."""

from __future__ import annotations

from pathlib import Path

import yaml

import module_examples
from runbook.load import parameters, targets
from runbook.load.checks import check


def test_the_examples_of_every_module_are_valid(tmp_path: Path) -> None:
    assert set(module_examples.ORDER) == module_examples.modules()
    playbook = tmp_path / "examples.yml"
    playbook.write_text(yaml.safe_dump(module_examples.play(), sort_keys=False))
    target = targets.target(str(module_examples.PROJECT / "inventories" / "sandbox"))
    assert check(targets.playbook(str(playbook)), target, parameters.parse_extra_vars(())) == []
