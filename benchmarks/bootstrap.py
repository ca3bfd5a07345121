"""``bootstrap.yml`` on a target that has its environment: locally, and over ssh on loopback."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.engine import BIN, PROJECT, clean_environment, in_turn, seconds

#: Seconds that the second run may take.
HELD = 2


def main() -> None:
    """Print the table."""
    sys.path.insert(0, str(PROJECT / "tests" / "support"))
    import sshd

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        hosts: dict[str, dict[str, Any]] = {
            "locally": {"ansible_connection": "local", "journal_folder": f"{folder}/journal"}
        }
        homes = {"locally": folder}
        if not sshd.missing():
            reached = stack.enter_context(sshd.target(Path(folder)))
            hosts["over ssh"] = reached.host_variables()
            homes["over ssh"] = str(reached.home)
        commands, environment = {}, {**clean_environment(), "RUNBOOK_HOME": f"{folder}/home"}
        for name, variables in hosts.items():
            file = Path(folder, f"{name}.json")
            own = {
                "ansible_python_interpreter": f"{homes[name]}/bootstrapped/bin/python",
                "learner_loop": False,
            }
            file.write_text(json.dumps({"all": {"hosts": {"bare": {**variables, **own}}}}))
            apply = [str(BIN / "runbook"), "apply", "bootstrap.yml", "-i", str(file), "--yes"]
            seconds(apply, environment)
            commands[name] = apply
        found = in_turn(commands, environment)
    print("\n| bootstrap.yml, the second time | seconds (median) | held to |\n|---|---|---|")
    for name, figure in found.items():
        print(f"| {name} | {figure:.2f} | {HELD} |")
