"""Lease, newest run, daemons and crontab as ``status`` reads them in one step."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import (
    crontab,
    errors,
    journal,
    lease,
    lock,
    target_info,
)
from ansible_collections.labeller.runbook.plugins.module_utils.change import Change

if TYPE_CHECKING:
    from labeller_support import Labeller

DAEMON = "import time; print('up', flush=True); time.sleep(600)\n"


def read(labeller: Labeller, folder: Path, **more: Any) -> dict[str, Any]:
    defaults = {name: spec.get("default") for name, spec in target_info.ARGUMENTS.items()}
    given = {"home": str(folder), "crontab_file": str(folder / "crontab"),
             "journal_folder": str(folder / "journal")}  # fmt: skip
    return target_info.run({**defaults, **labeller.login, **given, **more}, True)


def known(found: dict[str, Any]) -> tuple[Any, Any, Any]:
    return found["lease"], found["newest_run"], found["service"]


def test_what_status_reads_in_one_step(labeller: Labeller, tmp_path: Path) -> None:
    (tmp_path / "crontab").write_text("MAILTO=olli\n")
    assert known(read(labeller, tmp_path)) == (None, None, {"daemons": [], "crontab": False})

    lines = crontab.block(["create_hit_daemon"], str(tmp_path))
    (tmp_path / "crontab").write_text("\n".join([*lines, ""]))
    (tmp_path / "common").mkdir()
    script = tmp_path / "common" / "create_hit_daemon.py"
    script.write_text(DAEMON)
    about = {"run": "20260114T093012-3f9a1c", "operator": "olli@laptop", "playbook": "reset.yml",
             "task": "Reset", "host": "h", "module": "m", "folder": str(tmp_path / "journal")}  # fmt: skip
    with journal.begun({"journal": about}, [Change("crontab", "write", "a\n", "b\n")], None):
        pass
    defaults = {name: spec.get("default") for name, spec in lock.ARGUMENTS.items()}
    held = {"state": "present", "holder": "eva@desk", "reason": "moving the grid"}
    lock.run({**defaults, **labeller.login, **held}, False)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        found, newest, service = known(read(labeller, tmp_path))
        process.kill()
    assert (found["holder"], found["state"]) == ("eva@desk", "locked")
    assert (newest["run"], newest["playbook"]) == (about["run"], "reset.yml")
    assert service == {"daemons": ["create_hit_daemon"], "crontab": True}


def test_what_cannot_be_read_keeps_the_rest_not_back(labeller: Labeller, tmp_path: Path) -> None:
    (tmp_path / "crontab").mkdir()
    (tmp_path / "journal").write_text("no folder")
    assert known(read(labeller, tmp_path)) == (None, None, None)
    with pytest.raises(errors.ModuleFailure, match="nowhere"):
        read(labeller, tmp_path, login_host="nowhere.invalid")


def test_the_process_of_a_run_is_told_and_one_that_ended_holds_nothing(
    labeller: Labeller, tmp_path: Path
) -> None:
    process = "0f0f0f0f-0000-4000-8000-00000000000f/pid:[1]/7/8"
    with contextlib.closing(labeller.connect()) as session, session, session.cursor() as cursor:
        lease.require_free(cursor, "t")
        lease.claim(cursor, "olli@laptop, process 7", process=process)
    found = read(labeller, tmp_path)
    assert (found["lease"]["state"], found["holder_process"]) == ("seen", process)
    assert read(labeller, tmp_path, ended=process)["lease"] is None
