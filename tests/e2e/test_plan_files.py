"""A plan is saved, reviewed, and applied once: as it was reviewed, or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ansible_collections.labeller.runbook.plugins.module_utils import journal_read
from command_line import Sandbox, events

PLAYBOOK = """
- name: Clear
  hosts: all
  gather_facts: false
  roles: [labeller.runbook.parameters]
  module_defaults:
    group/labeller.runbook.postgres: "{{ postgres_login }}"
    group/labeller.runbook.aws: "{{ aws_login }}"
  tasks:
    - name: Take the lease
      labeller.runbook.lease: {state: taken}
      register: lease
    - name: Clear the tables
      ansible.builtin.import_tasks: clear.yml
    - name: Release the lease
      labeller.runbook.lease: {state: released, number: "{{ lease.number }}"}
"""
CLEAR = """
- name: Clear
  labeller.runbook.pg_clear: {unprotected: true, bucket: "{{ bucket }}", lease: "{{ lease.number }}"}
"""


def test_what_is_applied_is_what_was_reviewed(sandbox: Sandbox, tmp_path: Path) -> None:
    play, tasks, file = (tmp_path / name for name in ("play.yml", "clear.yml", "plan.json"))
    play.write_text(PLAYBOOK)
    tasks.write_text(CLEAR)
    count, lease = "SELECT count(*) FROM user_maps", "SELECT to_regclass('runbook.lease')"
    before = sandbox.query(count)

    def plan() -> str:
        sandbox.run(
            "plan", str(play), "-i", "sandbox", "-o", str(file), "-e", "bucket=activemapper"
        )
        return file.read_text()

    def refused(*options: str, exit_code: int) -> str:
        done = sandbox.run("apply", str(file), *options, exit_code=exit_code)
        assert sandbox.query(count) == before
        return done.stdout + done.stderr

    text = plan()
    state = json.loads((sandbox.home / "sandbox" / "state.json").read_text())
    assert not [secret for secret in state["secrets"].values() if secret in text]
    assert sandbox.query(lease) == [(None,)], "a plan changes nothing"
    assert "user_maps" in sandbox.run("show", str(file)).stdout
    assert "accepts this plan" in sandbox.run("apply", str(file), "--check").stderr

    tasks.write_text(CLEAR + "\n# more\n")
    assert "clear.yml was changed" in refused(exit_code=3)
    tasks.write_text(CLEAR)
    sandbox.query("INSERT INTO machine_maps DEFAULT VALUES RETURNING 1")
    assert "pg_clear: machine_maps" in refused(exit_code=5)
    assert "applied already" in refused(exit_code=5)
    assert "applied already" in refused("--check", exit_code=5)

    plan()
    done = sandbox.run("apply", str(file), "--json")
    told = events(done)
    assert [event["check"] for event in told if event["event"] == "run_started"] == [False]
    (finished,) = [event for event in told if event["event"] == "run_finished"]
    assert finished["unplanned"] == []
    assert sandbox.query(count) == [(0,)]
    reviewed = hashlib.sha256(file.read_bytes()).hexdigest()
    newest = journal_read.history(str(sandbox.home / "sandbox" / "journal"))[0]
    assert newest["plan"] == reviewed
    given = (sandbox.home / "runs").glob("*/input.json")
    assert json.loads(max(given).read_text())["plan"] == reviewed
    assert json.loads(file.read_text())["extra_vars"] == ['{"bucket": "activemapper"}']
