"""An apply that finds something else than its check does nothing, exit 5."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import Sandbox

PLAYBOOK = """
- hosts: all
  gather_facts: false
  roles: [labeller.runbook.parameters]
  module_defaults:
    group/labeller.runbook.postgres: "{{ postgres_login }}"
    group/labeller.runbook.aws: "{{ aws_login }}"
  tasks:
    - name: Write while the run is on its way
      ansible.builtin.command:
        argv: [%(python)s, -c, "%(code)s"]
      changed_when: true
    - name: Change
      %(change)s
"""
CLEAR = "labeller.runbook.pg_clear: {unprotected: true}"
RESTORE = """labeller.runbook.s3_table_backup:
        state: restored
        bucket: "{{ bucket }}"
        prefix: "{{ names.backups }}"
        tables: [system_data]"""
COUNT = "SELECT count(*) FROM user_maps"
CODE = "import psycopg2; s = psycopg2.connect('{}'); s.autocommit = True; s.cursor().execute('{}')"


def apply(
    sandbox: Sandbox, folder: Path, change: str, statement: str, exit_code: int
) -> list[dict[str, object]]:
    """Apply ``change``; ``statement`` is executed after its check."""
    code = CODE.format(sandbox.status()["database_url"], statement)
    values = {"python": sys.executable, "code": code, "change": change}
    written = folder / "play.yml"
    written.write_text(PLAYBOOK % values)
    arguments = ("apply", str(written), "-i", "sandbox", "--yes", "--json")
    done = sandbox.run(*arguments, exit_code=exit_code)
    return [json.loads(line) for line in done.stdout.splitlines()]


def stale(sandbox: Sandbox, folder: Path, change: str, statement: str) -> str:
    """The message of the step that is not what was planned."""
    events = apply(sandbox, folder, change, statement, 5)
    (failed,) = (event for event in events if event.get("status") == "failed")
    assert failed["error_kind"] == "stale"
    return str(failed["message"])


def test_what_moved_between_check_and_apply(sandbox: Sandbox, tmp_path: Path) -> None:
    before = sandbox.query(COUNT)
    message = stale(sandbox, tmp_path, CLEAR, "INSERT INTO machine_maps DEFAULT VALUES")
    assert "pg_clear: machine_maps" in message
    assert "planned rows_deleted" in message
    assert sandbox.query(COUNT) == before


@pytest.mark.campaign
def test_what_moved_in_a_table_to_restore_and_what_does_not_matter(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.run("apply", "backup.yml", "-i", "sandbox", "--yes")
    apply(sandbox, tmp_path, CLEAR, "UPDATE users SET city = city", 0)
    assert sandbox.query(COUNT) == [(0,)]
    statement = "INSERT INTO system_data VALUES ($$later$$, $$1$$)"
    message = stale(sandbox, tmp_path, RESTORE, statement)
    assert "table system_data: planned rows_before" in message
    assert sandbox.query(COUNT) == [(0,)]


#: Rounds of the campaign, three applies each; RUNBOOK_ALARMS raises it.
ROUNDS = int(os.environ.get("RUNBOOK_ALARMS", "4"))


@pytest.mark.campaign
def test_daemons_and_mappers_at_work_are_no_false_alarm(sandbox: Sandbox) -> None:
    """Daemons end and start, mappers write to tables that no step changes, all the time."""
    sandbox.apply()
    home = Path(sandbox.status()["labeller_home"])
    scripts = sorted((home / "common").glob("*_daemon.py"))
    ended = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def disturb() -> None:
        while not ended.wait(0.2):
            with sandbox.database() as cursor:
                cursor.execute(
                    "UPDATE users SET city = md5(random()::text);"
                    "UPDATE worker_data SET last_time = now()"
                )
            for process in running:
                process.kill()
                process.wait()
            running[:] = [
                subprocess.Popen(
                    [sys.executable, script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                for script in random.sample(scripts, 2)
            ]

    with ThreadPoolExecutor(1) as pool:
        disturbing = pool.submit(disturb)
        try:
            for _ in range(ROUNDS):
                for name in ("shutdown.yml", "start.yml", "backup.yml"):
                    sandbox.run("apply", name, "-i", "sandbox", "--yes")
        finally:
            ended.set()
            disturbing.result()
            for process in running:
                process.kill()
                process.wait()
