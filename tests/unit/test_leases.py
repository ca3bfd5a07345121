"""Every packaged playbook changes a target under its lease: its tasks are read, none is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from runbook import collection
from runbook.load import documentation

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAYBOOKS = collection.root() / "playbooks"
OURS = "labeller.runbook."
#: What changes nothing, whatever else its module can.
READ_ONLY = {
    "run_marker": {"read", "checked", "resumable"},
    "configuration": {"valid"},
    "emr_learner": {"verified", "finished"},
    "iteration": {"read"},
    "geography": {"read"},
    "labeller_config": {"verified"},
    "lease": {"released"},
    "undo": {"read"},
}
#: A backup reads a snapshot; no other playbook restarts httpd by itself; without an environment no
#: module reaches the database that the lease is in.
WITHOUT = {"backup.yml", "restart_httpd.yml", "bootstrap.yml"}


def plays(name: str) -> Iterator[dict[str, Any]]:
    """The plays of a playbook, those of imported ones too."""
    for play in yaml.safe_load((PLAYBOOKS / name).read_text()):
        imported = play.get("ansible.builtin.import_playbook")
        yield from plays(imported) if imported else [play]


def tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks in their order, those of blocks and imported files too."""
    for entry in entries:
        file = entry.get("ansible.builtin.import_tasks")
        if file:  # of those that a variable chooses, every one
            pattern = str(file).rpartition("/")[2].replace("{{ sites }}", "*")
            for path in sorted((PLAYBOOKS / "tasks").glob(pattern)):
                yield from tasks(yaml.safe_load(path.read_text()))
        elif "block" in entry:
            yield from tasks(entry["block"])
        else:
            yield entry


def changing(task: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The module of ours that a task changes the target with, and its arguments."""
    for name, arguments in task.items():
        if name.startswith(OURS) and not task.get("check_mode"):
            module = name.removeprefix(OURS)
            entry = documentation.module(name)
            assert entry is not None
            reads = module == "database_consistent" or (
                "lease" not in entry.options and module != "lease"
            )
            if not reads and arguments.get("state") not in READ_ONLY.get(module, set()):
                return module, arguments
    return None


@pytest.mark.parametrize(
    "name", sorted(path.name for path in PLAYBOOKS.glob("*.yml") if path.name not in WITHOUT)
)
def test_the_first_change_is_the_lease_and_each_other_names_it(name: str) -> None:
    (play,) = (play for play in plays(name) if "tasks" in play)
    found = [change for task in tasks(play["tasks"]) if (change := changing(task))]
    assert found[0][0] == "lease"
    for module, arguments in found:
        assert module == "lease" or "lease" in str(arguments.get("lease")), (module, arguments)
