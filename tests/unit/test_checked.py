"""Later steps of a check run learn what earlier ones would have stopped and written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.labeller.runbook.plugins.module_utils import daemons
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change, result
from ansible_collections.labeller.runbook.plugins.module_utils.crontab import block
from ansible_collections.labeller.runbook.plugins.modules import crontab_profile, emr_learner
from ansible_collections.labeller.runbook.plugins.modules import daemons as daemons_module
from ansible_collections.labeller.runbook.plugins.plugin_utils import checked

COLLECTIONS = Path(__file__).resolve().parents[2] / ".build" / "collections"
DONE = result([])


def stopped(host: str, module: str, arguments: dict[str, Any]) -> Any:
    (value,) = checked.options(host, module, arguments).values()
    return value


def test_the_modules_with_the_options_are_those_that_get_them() -> None:
    for module in (crontab_profile, daemons_module):
        name = module.__name__.rpartition(".")[2]
        assert checked.STOPPED in module.MODULE.argument_spec
        assert checked.STOPPING[name] in module.MODULE.argument_spec["state"]["choices"]
    assert {"emr_learner", "undo"} == checked.READING
    assert checked.WRITTEN in emr_learner.MODULE.argument_spec
    assert checked.options("one", "lease", {}) == {}


def test_a_crontab_without_its_lines_counts_as_such_on_that_host_and_home(tmp_path: Path) -> None:
    step = {"home": str(tmp_path), "state": "absent"}
    up = {"home": str(tmp_path), "state": "present", "profile": "full"}
    assert stopped("one", "crontab_profile", up) is False
    checked.note("one", "crontab_profile", step, DONE)
    assert stopped("one", "crontab_profile", up) is True
    assert stopped("two", "crontab_profile", up) is False
    assert stopped("one", "crontab_profile", {**up, "home": "/elsewhere"}) is False
    assert stopped("one", "crontab_profile", {**up, "user": "mapper"}) is False
    checked.note("one", "crontab_profile", up, DONE)
    assert stopped("one", "crontab_profile", step) is False


def test_daemons_that_were_stopped_count_as_stopped_by_name(tmp_path: Path) -> None:
    step: dict[str, Any] = {"home": str(tmp_path), "state": "stopped"}
    first, *rest = sorted(daemons.NAMES)
    checked.note("one", "daemons", {**step, "names": [first]}, DONE)
    assert stopped("one", "daemons", step) == [first]
    checked.note("one", "daemons", step, DONE)
    checked.note("one", "daemons", {**step, "state": "started", "names": [first]}, DONE)
    assert stopped("one", "daemons", step) == rest


def test_objects_that_a_step_writes_count_as_there(tmp_path: Path) -> None:
    host = str(tmp_path)  # a name that no other test has
    made = [
        Change("s3://bucket/new", "write", "", "text\n"),
        Change("s3://bucket/same", "write", "text\n", "text\n"),
        Change("/etc/file", "write", "", "text\n"),
    ]
    checked.note(host, "labeller_config", {}, result(made))
    checked.note(host, "pg_transaction", {}, result([Change("s3://b/c", "write", "", "x\n")]))
    checked.note(host, "labeller_config", {}, {"failed": True, "msg": "no"})
    expected = {checked.WRITTEN: ["s3://b/c", "s3://bucket/new"]}
    assert checked.options(host, "emr_learner", {}) == expected
    assert checked.options("two", "emr_learner", {}) == {checked.WRITTEN: []}


def test_ansible_playbook_itself_gets_them_by_the_action_plugin(tmp_path: Path) -> None:
    """A check of "down, again, up" shows that the lines come back."""
    home, crontab = tmp_path / "labeller", tmp_path / "crontab"
    (home / "common").mkdir(parents=True)
    crontab.write_text("".join(f"{line}\n" for line in block((), str(home))))
    options = {"home": str(home), "crontab_file": str(crontab), "profile": "maintenance"}
    tasks = [
        {"labeller.runbook.crontab_profile": {**options, "state": state}}
        for state in ("absent", "absent", "present")
    ]
    play = [{"hosts": "all", "connection": "local", "gather_facts": False, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), tmp_path / "play.yml",
         "-i", "one,", "--check", "-e", f"ansible_python_interpreter={sys.executable}"],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.findall(r"^(ok|changed): \[one\]", done.stdout, re.MULTILINE) == [
        "changed", "ok", "changed",
    ], done.stdout  # fmt: skip
