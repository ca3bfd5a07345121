"""An apply that finds something else than its check does nothing, exit 5."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from command_line import Sandbox

PLAYBOOK = """
- hosts: all
  gather_facts: false
  roles: [labeller.runbook.parameters]
  module_defaults:
    group/labeller.runbook.postgres: "{{ postgres_login }}"
  tasks:
    - name: Write while the run is on its way
      ansible.builtin.command:
        argv: [%(python)s, -c, "%(code)s"]
      changed_when: true
    - name: Clear
      labeller.runbook.pg_clear: {unprotected: true}
"""
CODE = "import psycopg2; s = psycopg2.connect('{}'); s.autocommit = True; s.cursor().execute('{}')"


def test_what_moved_between_check_and_apply(sandbox: Sandbox, tmp_path: Path) -> None:
    count = "SELECT count(*) FROM user_maps"
    before = sandbox.query(count)
    written = tmp_path / "play.yml"

    def apply(statement: str, exit_code: int) -> list[dict[str, object]]:
        code = CODE.format(sandbox.status()["database_url"], statement)
        written.write_text(PLAYBOOK % {"python": sys.executable, "code": code})
        arguments = ("apply", str(written), "-i", "sandbox", "--yes", "--json")
        done = sandbox.run(*arguments, exit_code=exit_code)
        return [json.loads(line) for line in done.stdout.splitlines()]

    events = apply("INSERT INTO machine_maps DEFAULT VALUES", 5)
    (failed,) = (event for event in events if event.get("status") == "failed")
    assert failed["error_kind"] == "stale"
    assert "pg_clear: machine_maps" in str(failed["message"])
    assert "planned rows_deleted" in str(failed["message"])
    assert sandbox.query(count) == before
    apply("UPDATE users SET city = city", 0)
    assert sandbox.query(count) == [(0,)]
