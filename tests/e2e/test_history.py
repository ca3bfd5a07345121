"""The target's journal as runs leave it: through the engine, stock ansible-playbook, two hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import PROJECT, Sandbox

from runbook import collection
from runbook.load import schemas


def runs(sandbox: Sandbox, *options: str, target: str = "sandbox") -> dict[str, Any]:
    """The runs that ``runbook history --json`` prints, by host."""
    found = json.loads(sandbox.run("history", "-i", target, "--json", *options).stdout)
    schemas.validator("history").validate(found)
    hosts: dict[str, Any] = found["hosts"]
    return hosts


def stock(sandbox: Sandbox, tmp_path: Path, *arguments: str) -> None:
    """ansible-playbook without the engine."""
    collections = collection.link(tmp_path / "collections")
    program = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [program, *arguments], text=True, capture_output=True, cwd=PROJECT,
        env={**sandbox.environment, "ANSIBLE_COLLECTIONS_PATH": str(collections)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign
def test_stock_ansible_and_two_hosts_on_one_machine(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    folder.mkdir()
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {
        name: {**variables, "journal_folder": str(tmp_path / name / "journal")}
        for name in ("one", "two")
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    group_vars = PROJECT / "inventories/sandbox/group_vars/all.yml"
    (folder / "group_vars").mkdir()
    (folder / "group_vars/all.yml").write_text(group_vars.read_text())
    # Two hosts, two crontabs: only these are changed.
    crontabs = [tmp_path / f"{name}.crontab" for name in hosts]
    play = tmp_path / "play.yml"
    play.write_text(
        yaml.safe_dump(
            [
                {
                    "name": "Crontab",
                    "hosts": "all",
                    "gather_facts": False,
                    "roles": [{"role": "labeller.runbook.parameters"}],
                    "tasks": [
                        {
                            "name": f"Install {number}",
                            "labeller.runbook.crontab_profile": {
                                "state": "present",
                                "profile": "full",
                                "home": "{{ labeller_home }}",
                                "crontab_file": f"{tmp_path}/{{{{ inventory_hostname }}}}.crontab{number}",
                            },
                        }
                        for number in ("", "2")
                    ],
                }
            ]
        )
    )
    stock(sandbox, tmp_path, str(play), "-i", str(folder))
    assert all(crontab.exists() for crontab in crontabs)
    found = runs(sandbox, target=str(folder))
    assert len({run["run"] for (run,) in found.values()}) == 1, "one run of ansible, one id"
    for name, (run,) in found.items():
        assert (run["playbook"], run["hosts"], run["outcome"]) == ("play.yml", [name], "done")
        assert [step["task"] for step in run["steps"]] == ["Install ", "Install 2"]
    # Another run of it is another run, and where it changes nothing none.
    crontabs[0].unlink()
    stock(sandbox, tmp_path, str(play), "-i", str(folder))
    assert [len(each) for each in runs(sandbox, target=str(folder)).values()] == [2, 1]


@pytest.mark.campaign  # as in tests/unit/test_target_journal.py, through all layers
def test_a_journal_that_cannot_be_written_stops_check_and_apply(sandbox: Sandbox) -> None:
    journal = sandbox.home / "sandbox" / "journal"
    journal.write_text("")
    before = sandbox.snapshot()
    try:
        for options in (("--check",), ()):
            done = sandbox.apply(*options, exit_code=1)
            assert f"cannot write the journal {journal}" in done.stdout
            assert sandbox.snapshot() == before
    finally:
        journal.unlink()
