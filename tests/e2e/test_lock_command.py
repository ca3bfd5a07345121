"""``runbook lock`` and ``unlock``, and what a locked or held target means for other commands."""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import PROJECT, RUNBOOK, Sandbox, descendants
from waiting import until

from runbook import collection
from runbook.events.render import text
from runbook.load import schemas

LOCK = ("lock", "-i", "sandbox", "--reason", "moving the grid")
#: Other operators. Ansible looks for the home of LOGNAME, and of USER where that is not set.
OTHER, SAME = ({"env": {"USER": name, "LOGNAME": getpass.getuser()}} for name in ("eva", "olli"))


def lease(sandbox: Sandbox, *command: str, **options: Any) -> dict[str, Any] | None:
    """Who holds the sandbox after a command."""
    done = sandbox.run(*command, "--json", **options)
    found = json.loads(done.stdout)
    schemas.validator("status" if command[0] == "status" else "lock").validate(found)
    held: dict[str, Any] | None = found["hosts"]["sandbox"]["lease"]
    return held


@pytest.mark.campaign
def test_a_locked_target(sandbox: Sandbox) -> None:
    held = lease(sandbox, *LOCK, "--for", "1h30m", **SAME)
    assert held is not None
    who = f"olli@{os.uname().nodename}"
    assert (held["holder"], held["reason"]) == (who, "moving the grid")
    before = sandbox.snapshot()

    # Of the same person too.
    done = sandbox.apply(exit_code=6, **SAME)
    times = [text.moment(held[name]) for name in ("since", "until")]
    for said in (who, "moving the grid", *times, "runbook unlock -i sandbox"):
        assert said in " ".join(done.stdout.split()), said
    assert "Apply regular.yml" not in done.stdout, "refused by the check"
    assert sandbox.snapshot() == before
    # A check warns, and status says it.
    done = sandbox.run("apply", "regular.yml", "-i", "sandbox", "--check")
    assert f"{who}, who holds the target" in " ".join(done.stdout.split())
    assert lease(sandbox, "status", "-i", "sandbox") == held

    # Another person gives it back by force only, which needs a terminal or --yes.
    done = sandbox.run(*LOCK, exit_code=6, **OTHER)
    assert who in done.stderr
    sandbox.run("unlock", "-i", "sandbox", exit_code=6, **OTHER)
    done = sandbox.run("unlock", "-i", "sandbox", "--force", exit_code=7, **OTHER)
    assert f"locked by {who}, since {text.moment(held['since'])}" in done.stderr
    assert sandbox.query("SELECT holder FROM runbook.lease") == [(who,)]
    assert lease(sandbox, "unlock", "-i", "sandbox", "--force", "--yes", **OTHER) is None


@pytest.mark.campaign
def test_what_else_meets_a_lock_and_a_target_that_is_free_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.run(*LOCK, **SAME)
    before = sandbox.snapshot()
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventories/sandbox",
         "playbooks/regular.yml"],
        env={**sandbox.environment, "ANSIBLE_COLLECTIONS_PATH": str(collection.link(tmp_path))},
        cwd=PROJECT, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"olli@{os.uname().nodename}" in done.stdout
    assert sandbox.snapshot() == before
    unlock = ("unlock", "-i", "sandbox")
    assert sandbox.run(*unlock, **SAME).stdout == "sandbox: free\n"
    assert sandbox.run(*unlock).stdout == "sandbox: was free\n"
    sandbox.apply()
    # The call of cron ends quietly: one line in its log.
    sandbox.run("sandbox", "work")
    sandbox.run(*LOCK, **OTHER)
    call = sandbox.run("apply", "iterate.yml", "-i", "sandbox", "--yes", "--quiet")
    (line,) = call.stdout.splitlines()
    assert "moving the grid" in line
    assert call.stderr == ""
    status = sandbox.run("status", "-i", "sandbox").stdout
    assert f"locked by eva@{os.uname().nodename}" in status
    sandbox.run("unlock", "-i", "sandbox", **OTHER)


@pytest.mark.parametrize("given", ["", "8", "0h", "31d", "1h 30m", "-1h", "1w", "1.5h"])
def test_times_that_are_none(given: str) -> None:
    done = subprocess.run(
        [RUNBOOK, *LOCK, "--for", given], text=True, capture_output=True, cwd=PROJECT
    )
    assert done.returncode == 64
    assert "no time up to 30 days, such as 90m, 8h or 1d12h" in done.stderr


#: Two changes under one lease, and between them a step that waits for a file.
PLAYBOOK = """
- hosts: all
  gather_facts: false
  roles: [labeller.runbook.parameters]
  module_defaults:
    group/labeller.runbook.postgres: "{{ postgres_login }}"
    group/labeller.runbook.aws: "{{ aws_login }}"
  tasks:
    - name: Take the lease
      labeller.runbook.lease: {state: taken}
      register: lease
    - name: Change one
      labeller.runbook.configuration: {lease: "{{ lease_number }}", settings: {Hit_Reward: "{{ height }}"}}
    - name: Wait
      ansible.builtin.shell: touch %(folder)s/ready; until [ -e %(folder)s/go ]; do sleep 0.02; done
      changed_when: true
    - name: Change the other
      labeller.runbook.configuration: {lease: "{{ lease_number }}", settings: {KMLMapHeight: "{{ height }}"}}
    - name: Release the lease
      labeller.runbook.lease: {state: released, number: "{{ lease_number }}"}
"""
SETTINGS = (
    "SELECT value FROM configuration WHERE key IN ('Hit_Reward', 'KMLMapHeight') ORDER BY key"
)


def begin(
    sandbox: Sandbox, playbook: Path, height: int, target: Path | str, home: Path
) -> subprocess.Popen[str]:
    """An apply of the playbook."""
    return subprocess.Popen(
        [RUNBOOK, "apply", playbook, "-i", target, "--yes", "-e", f"height={height}"],
        env={**sandbox.environment, "RUNBOOK_HOME": str(home)}, cwd=PROJECT, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def written(folder: Path) -> Path:
    """The playbook, whose wait is in ``folder``."""
    folder.mkdir()
    path = folder / "play.yml"
    path.write_text(PLAYBOOK % {"folder": folder})
    return path


@pytest.mark.campaign
def test_a_holder_stopped_past_its_lease_is_refused_when_it_goes_on(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    before = sandbox.query(SETTINGS)
    run = begin(sandbox, written(folder), 700, "sandbox", sandbox.home)
    until((folder / "ready").exists)
    stopped = descendants(run.pid)
    try:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):  # the shell's short sleeps
                os.kill(pid, signal.SIGSTOP)
        # Its process is there, on this machine: it is not taken for dead before its time.
        sandbox.run(*LOCK, exit_code=6, **OTHER)
        sandbox.query("UPDATE runbook.lease SET seen = seen - interval '60 s' RETURNING 1")
        sandbox.run(*LOCK, **OTHER)
        (folder / "go").touch()
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    said, _ = run.communicate()
    assert run.returncode == 6, said
    assert "eva@" in said
    assert "has taken the target over since" in said
    assert sandbox.query(SETTINGS) == [("700",), before[1]]


#: Rounds of the campaign, 7 s of CPU each; RUNBOOK_ROUNDS raises it.
ROUNDS = int(os.environ.get("RUNBOOK_ROUNDS", "6"))


def ended(runs: list[subprocess.Popen[str]]) -> bool:
    """Whether one of them has."""
    return any(run.poll() is not None for run in runs)


@pytest.mark.campaign
def test_of_two_applies_at_once_one_runs_and_the_other_says_who(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Two operators, each with a home of their own, apply other values at the same time."""
    target = tmp_path / "inventory"
    shutil.copytree(PROJECT / "inventories/sandbox", target)
    variables = target / "group_vars/all.yml"
    state = (sandbox.home / "sandbox/state.json").read_text()
    lookup = "\"{{ lookup('labeller.runbook.sandbox_state') }}\""
    variables.write_text(variables.read_text().replace(lookup, state))
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        playbook = written(folder)
        heights = [1000 + 2 * number, 1001 + 2 * number]
        runs = [
            begin(sandbox, playbook, height, target, tmp_path / f"home{height % 2}")
            for height in heights
        ]
        # The winner waits between its changes until the other has ended.
        until(functools.partial(ended, runs), 120)
        (folder / "go").touch()
        said = [run.communicate()[0] for run in runs]
        assert sorted(run.returncode for run in runs) == [0, 6], said
        winner = 0 if runs[0].returncode == 0 else 1
        assert f"process {runs[winner].pid}, who holds the target since" in said[1 - winner]
        assert sandbox.query(SETTINGS) == [(str(heights[winner]),)] * 2
