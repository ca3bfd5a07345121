"""The EXAMPLES of the modules are valid: names, options, values and variables."""

from __future__ import annotations

from pathlib import Path

import module_examples
import yaml

from runbook.load import targets
from runbook.load.run_input import examined
from runbook.load.source import Source


def test_the_examples_of_every_module_are_valid(tmp_path: Path) -> None:
    assert {*module_examples.ORDER, *module_examples.ELSEWHERE} == module_examples.modules()
    playbook = tmp_path / "examples.yml"
    playbook.write_text(
        yaml.safe_dump(
            module_examples.play([*module_examples.ORDER, *module_examples.ELSEWHERE]),
            sort_keys=False,
        )
    )
    target = targets.target(str(module_examples.PROJECT / "inventories" / "sandbox"))
    assert examined(Source.of(playbook, target)).problems == ()
