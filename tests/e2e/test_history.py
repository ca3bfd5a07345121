"""The target's journal as runs leave it: through the engine, stock ansible-playbook, two hosts."""

from __future__ import annotations

import json
import os
import stat
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


def test_a_run_is_in_the_journal_and_in_no_other_place_its_secrets(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    journal = sandbox.home / "sandbox" / "journal"
    sandbox.apply("-e", "run_id=7", "-e", "initial_f_count=12")
    (run,) = runs(sandbox)["sandbox"]
    (own,) = [f.name for f in (sandbox.home / "runs").iterdir() if f.name == run["run"]]
    assert run["outcome"] == "done"
    assert run["playbook"] == "regular.yml"
    assert run["operator"].endswith(f"@{os.uname().nodename}")
    modules = [step["module"] for step in run["steps"]]
    assert modules == [
        "crontab_profile", "daemons", "s3_table_backup", "pg_transaction", "labeller_config",
        "emr_learner", "crontab_profile",
    ]  # fmt: skip
    assert {stat.S_IMODE(f.stat().st_mode) for f in journal.iterdir()} == {0o600}
    assert stat.S_IMODE(journal.stat().st_mode) == 0o700

    # A second apply changes nothing and writes nothing; the filters; the report.
    sandbox.apply("-e", "run_id=7", "-e", "initial_f_count=12")
    filters = ("--playbook", "regular", "--since", "2020-01-01", "--operator", "@", "--last", "1")
    assert [each["run"] for each in runs(sandbox, *filters)["sandbox"]] == [own]
    whole = json.loads(sandbox.run("report", own[:12], "-i", "sandbox", "--json").stdout)
    schemas.validator("history").validate(whole)
    report = sandbox.run("report", "newest", "-i", "sandbox").stdout
    assert "Reset the database for the run (pg_transaction on sandbox" in report

    # Secrets: in the image of config.yaml and its copy alone.
    secrets = [v for v in sandbox.status().get("secrets", {}).values() if v]
    state = json.loads((sandbox.home / "sandbox/state.json").read_text())
    secrets += [v for v in state["secrets"].values() if len(v) > 8]
    assert len(secrets) >= 3
    kinds = set()
    for line in next(journal.iterdir()).read_text().splitlines():
        if any(secret in line for secret in secrets):
            kinds.add((json.loads(line)["image"] or {}).get("kind"))
    assert kinds <= {"configuration"}
    assert not [s for s in secrets if s in report + json.dumps(whole) + json.dumps(run)]


def stock(sandbox: Sandbox, tmp_path: Path, *arguments: str) -> None:
    """ansible-playbook without the engine."""
    collections = collection.link(tmp_path / "collections")
    program = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [program, *arguments], text=True, capture_output=True, cwd=PROJECT,
        env={**sandbox.environment, "ANSIBLE_COLLECTIONS_PATH": str(collections)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


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
    # Another run of it is another run, and one that changes nothing none.
    stock(sandbox, tmp_path, str(play), "-i", str(folder))
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
