"""An apply that finds something else than its check does nothing, exit 5."""

from __future__ import annotations

import json
import sys
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
