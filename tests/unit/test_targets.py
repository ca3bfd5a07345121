"""The files that -i NAME and PLAYBOOK resolve to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runbook import collection
from runbook.errors import InvalidInputError
from runbook.load import inventory, targets


@pytest.fixture
def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An operations repository that holds only inventories, as the working directory."""
    (tmp_path / "inventories" / "labeller9" / "group_vars").mkdir(parents=True)
    (tmp_path / "inventories" / "labeller9" / "hosts.yml").write_text("all:\n")
    (tmp_path / "inventories" / "single.yml").write_text("all:\n")
    (tmp_path / "labeller3").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_working_directory_comes_first_then_packaged(operations: Path) -> None:
    assert targets.target("labeller9").path == operations / "inventories" / "labeller9"
    assert targets.target("single").path == operations / "inventories" / "single.yml"
    packaged = collection.root() / "inventories" / "labeller3"
    assert targets.target("labeller3").path == packaged
    (operations / "inventories" / "labeller3").mkdir()
    assert targets.target("labeller3").path == operations / "inventories" / "labeller3"


def test_paths_and_host_lists(operations: Path) -> None:
    assert targets.target("./labeller3").path == operations / "labeller3"
    assert targets.target("./labeller3").name == "labeller3"
    listed = targets.target("one,two,")
    assert (listed.path, listed.hosts, listed.inventory) == (None, ["one", "two"], "one,two,")


@pytest.mark.parametrize("name", ["regular", "regular.yml"])
def test_playbooks(operations: Path, name: str) -> None:
    packaged = collection.root() / "playbooks" / "regular.yml"
    assert targets.playbook(name) == packaged
    assert targets.playbook(str(packaged)) == packaged
    (operations / "playbooks").mkdir()
    own = operations / "playbooks" / "regular.yml"
    own.write_text("[]\n")
    assert targets.playbook(name) == own


def test_unknown_names_say_what_is_known(operations: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"did you mean labeller9.*known: .*labeller3.*single"
    ):
        targets.target("labeler9")
    with pytest.raises(InvalidInputError, match=r"did you mean regular.*known: .*regular"):
        targets.playbook("reguler.yml")
    with pytest.raises(InvalidInputError):
        targets.playbook("")


PATTERNS = (
    "all", "pilot", "area1", "area*", "~area[12]$", "pilot:others", "pilot,area3", "all:!pilot", "!pilot",
    "&pilot", "pilot:&area1", "!pilot:!area3", "all:&others:!area3", "!area9", "area9", "ungrouped",
)  # fmt: skip


#: Prints the hosts of an inventory that ansible takes for each pattern.
TAKEN = """
import json, sys
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()
hosts, *patterns = sys.argv[1:]
read = InventoryManager(DataLoader(), hosts)
print(json.dumps({name: [host.name for host in read.list_hosts(name)] for name in patterns}))
"""


def test_patterns_name_the_hosts_that_ansible_takes(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text(
        "all: {children: {pilot: {hosts: {area1: , area2: }}, others: {hosts: {area3: , area4: }}}}\n"
    )
    taken = subprocess.run(
        [sys.executable, "-c", TAKEN, hosts, *PATTERNS], capture_output=True, text=True, check=True
    ).stdout
    read = inventory.read(targets.target(str(hosts)))
    assert {name: sorted(read.match(name)) for name in PATTERNS} == {
        name: sorted(found) for name, found in json.loads(taken).items()
    }
