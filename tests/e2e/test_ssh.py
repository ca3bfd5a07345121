"""Regular production on a host that is not local: sshd, another user, its own virtualenv."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd
from command_line import PROJECT, RUNBOOK, Sandbox, playbook
from held import UPLOAD, fill, halfway, play, until_told

from runbook.translate import LOST
from waiting import until


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[sshd.Target]:
    if missing := sshd.missing():
        pytest.skip(f"needs {missing}: .ci/apt installs what CI has")
    with sshd.target(tmp_path_factory.mktemp("sshd"), f"runbook-{worker_id}") as reached:
        yield reached


@pytest.fixture
def inventory(remote: sshd.Target, sandbox: Sandbox, tmp_path: Path) -> Path:
    """The sandbox's services, reached from the remote user's host; its own labeller and crontab."""
    folder = tmp_path / "inventory"
    shutil.copytree(PROJECT / "inventories" / "sandbox" / "group_vars", folder / "group_vars")
    home = remote.home / "labeller"
    variables = {**remote.host_variables(), "labeller_home": str(home), "crontab_file": ""}
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"labeller9": variables}}}))
    labeller = Path(sandbox.status()["labeller_home"])
    archive = subprocess.run(
        ["tar", "-C", str(labeller), "-c", "."], check=True, capture_output=True
    ).stdout
    remote.run("mkdir", "-p", str(home))
    remote.run("tar", "-C", str(home), "--no-same-owner", "-x", input=archive)
    remote.run("sh", "-c", "echo '0 4 * * * true' | crontab -")
    return folder


def test_regular_over_ssh(sandbox: Sandbox, remote: sshd.Target, inventory: Path) -> None:
    before = remote.run("crontab", "-l")
    sandbox.run("apply", "regular.yml", "-i", str(inventory), "--check")
    assert remote.run("crontab", "-l") == before
    first = sandbox.run("apply", "regular.yml", "-i", str(inventory), "--yes")
    assert "labeller9" in first.stdout
    assert "failed=0" in first.stdout
    crontab = remote.run("crontab", "-l")
    assert crontab.startswith(before)
    assert f"{remote.home}/labeller/common/daemonNanny.sh" in crontab
    assert "learner:" in remote.run("cat", f"{remote.home}/labeller/common/config.yaml")
    assert sandbox.query("SELECT count(*) FROM incoming_names WHERE NOT processed") == [(100,)]
    second = sandbox.run("apply", "regular.yml", "-i", str(inventory), "--yes")
    assert "changed=0" in second.stdout
    assert remote.run("crontab", "-l") == crontab


@pytest.mark.parametrize("strategy", ["mitogen", "linear"])
def test_progress_over_ssh(
    sandbox: Sandbox, remote: sshd.Target, inventory: Path, tmp_path: Path, strategy: str
) -> None:
    fill(sandbox)
    common = ("-i", str(inventory), "--yes", "--json", "--strategy", strategy)
    until_told(sandbox, UPLOAD, halfway("back up"), str(play(tmp_path, "present")), *common)
    left = Path("/tmp").glob("runbook-progress-*")
    assert not [path for path in left if path.owner() == remote.user]


def test_progress_of_a_module_that_runs_as_another_user(
    sandbox: Sandbox, remote: sshd.Target, inventory: Path, tmp_path: Path
) -> None:
    fill(sandbox)
    variables = {
        "ansible_connection": "local",
        "ansible_become": True,
        "ansible_become_user": remote.user,
        "ansible_become_method": "su",
        "ansible_python_interpreter": str(remote.python),
    }
    (inventory / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"labeller9": variables}}}))
    backup = str(play(tmp_path, "present"))
    until_told(sandbox, UPLOAD, halfway("back up"), backup, "-i", str(inventory), "--yes", "--json")
    left = Path("/tmp").glob("runbook-progress-*")
    assert not [path for path in left if path.owner() == remote.user]


@pytest.mark.parametrize("strategy", ["mitogen", "linear"])
def test_an_unknown_host_key_is_taken_as_the_ssh_arguments_say(
    remote: sshd.Target, tmp_path: Path, strategy: str
) -> None:
    """As OpenSSH does it: refused unless StrictHostKeyChecking says otherwise, then kept."""
    known = tmp_path / "known"
    file = tmp_path / "p.yml"
    task = {"name": "Reach it", "ansible.builtin.ping": {}}
    play = {"name": "Reach", "hosts": "all", "gather_facts": False, "tasks": [task]}
    file.write_text(json.dumps([play]))
    arguments = [
        "apply",
        str(file),
        "-i",
        str(tmp_path / "hosts.json"),
        "--yes",
        "--strategy",
        strategy,
    ]
    checking = f"-o UserKnownHostsFile={known} -o IdentitiesOnly=yes -o ControlPath=none"
    for said, exit_code in (("", 4), (" -o StrictHostKeyChecking=accept-new", 0), ("", 0)):
        variables = {**remote.host_variables(), "ansible_ssh_common_args": checking + said}
        hosts = {"all": {"hosts": {"far": variables}}}
        (tmp_path / "hosts.json").write_text(json.dumps(hosts))
        done = subprocess.run(
            [RUNBOOK, *arguments], env={**os.environ, "RUNBOOK_HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert known.exists() == (exit_code == 0)


WAITING = "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"


@pytest.mark.parametrize("strategy", ["mitogen", "linear"])
def test_a_step_ends_on_the_host_when_it_is_interrupted_or_its_connection_lost(
    sandbox: Sandbox, remote: sshd.Target, inventory: Path, tmp_path: Path, strategy: str
) -> None:
    """A transaction that waits for a lock when the operator thinks better of it."""
    step = {"tables": ["user_maps"], "unprotected": True, "lock_timeout": 600}
    file = playbook(tmp_path / "clear.yml", "Clear the maps", **{"labeller.runbook.pg_clear": step})
    arguments = ["apply", str(file), "-i", str(inventory), "--yes", "--strategy", strategy]
    before = sandbox.query("SELECT count(*) FROM user_maps")
    for ended, exit_code, said in (
        (lambda run: run.send_signal(signal.SIGINT), 130, "Cut off: Clear the maps."),
        (lambda _: remote.disconnect(), 4, f"{LOST}\n"),
    ):
        with sandbox.database() as cursor:
            cursor.execute("BEGIN; LOCK TABLE user_maps IN SHARE MODE")
            run = subprocess.Popen(
                [RUNBOOK, *arguments], env=sandbox.environment, cwd=PROJECT,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True,
            )  # fmt: skip
            try:
                until(lambda: bool(sandbox.query(WAITING)))
                ended(run)
                out, _ = run.communicate(timeout=60)
                assert run.returncode == exit_code, out
                assert said in out
                assert "warning" not in out
                until(lambda: not sandbox.query(WAITING))
            finally:
                run.kill()
                cursor.execute("COMMIT")
        assert sandbox.query("SELECT count(*) FROM user_maps") == before
