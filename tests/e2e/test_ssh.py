"""Regular production on a host that is not local: sshd, another user, its own virtualenv."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import sshd
from command_line import PROJECT, RUNBOOK, Sandbox, playbook, require_equal_ways
from held import UPLOAD, fill, halfway, play, until_told
from waiting import until

from runbook.execute.unreachable import LOST

#: One worker makes the target, with its virtualenv.
pytestmark = pytest.mark.xdist_group("ssh")


def test_regular_over_ssh(sandbox: Sandbox, remote: sshd.Target, inventory: Path) -> None:
    before = remote.run("crontab", "-l")
    first = sandbox.run("apply", "regular.yml", "-i", str(inventory), "--yes")
    assert "labeller9" in first.stdout
    assert "failed=0" in first.stdout
    crontab = remote.run("crontab", "-l")
    assert crontab.startswith(before)
    assert f"{remote.home}/labeller/common/daemonNanny.sh" in crontab
    assert "learner:" in remote.run("cat", f"{remote.home}/labeller/common/config.yaml")
    assert sandbox.query("SELECT count(*) FROM incoming_names WHERE NOT processed") == [(100,)]
    journal = f"{remote.home}/.local/state/runbook/journal"
    assert remote.run("stat", "-c", "%a %U", journal) == f"700 {remote.user}\n"
    told = sandbox.run("history", "-i", str(inventory)).stdout
    assert f"labeller9: journal {journal}\n" in told
    assert "regular.yml  done" in told
    second = sandbox.run("apply", "regular.yml", "-i", str(inventory), "--yes", "-v")
    assert "changed=0" in second.stdout
    assert "Strategy linear: modules run in one process a host, over ssh" in second.stdout
    assert remote.run("crontab", "-l") == crontab


@pytest.mark.campaign
def test_a_check_over_ssh_changes_nothing(
    sandbox: Sandbox, remote: sshd.Target, inventory: Path
) -> None:
    before = remote.run("crontab", "-l"), sandbox.snapshot()
    sandbox.run("apply", "regular.yml", "-i", str(inventory), "--check")
    assert (remote.run("crontab", "-l"), sandbox.snapshot()) == before


@pytest.mark.campaign
def test_the_fast_way_over_ssh_and_ansibles_own_give_the_same(
    sandbox: Sandbox, inventory: Path
) -> None:
    require_equal_ways(sandbox, str(inventory))


@pytest.mark.campaign
@pytest.mark.usefixtures("fast")
def test_progress_over_ssh(
    sandbox: Sandbox, remote: sshd.Target, inventory: Path, tmp_path: Path
) -> None:
    fill(sandbox)
    common = ("-i", str(inventory), "--yes", "--json")
    until_told(sandbox, UPLOAD, halfway("back up"), str(play(tmp_path, "present")), *common)
    left = Path("/tmp").glob("runbook-progress-*")
    assert not [path for path in left if path.owner() == remote.user]


@pytest.mark.campaign
def test_progress_of_a_module_that_runs_as_another_user(
    sandbox: Sandbox, remote: sshd.Target, inventory: Path, tmp_path: Path
) -> None:
    fill(sandbox)
    variables = {
        "ansible_connection": "local",
        "ansible_become": True,
        "ansible_become_user": remote.user,
        "ansible_become_method": "su",
        "journal_folder": "",
        "ansible_python_interpreter": str(remote.python),
    }
    (inventory / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"labeller9": variables}}}))
    backup = str(play(tmp_path, "present"))
    until_told(sandbox, UPLOAD, halfway("back up"), backup, "-i", str(inventory), "--yes", "--json")
    left = Path("/tmp").glob("runbook-progress-*")
    assert not [path for path in left if path.owner() == remote.user]


@pytest.mark.campaign
def test_ssh_takes_the_operators_arguments_and_says_why_it_fails(
    remote: sshd.Target, tmp_path: Path
) -> None:
    """An unknown host key is refused unless StrictHostKeyChecking says otherwise, then kept."""
    known = {name: tmp_path / name for name in ("unsaid", "common", "extra", "args")}
    accept = "-o StrictHostKeyChecking=accept-new"
    own = {**remote.host_variables(), "ansible_python_interpreter": sshd.SYSTEM_PYTHON}
    once = "-o IdentitiesOnly=yes -o ControlPath=none"
    wrong = tmp_path / "wrong key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)], check=True)
    hosts: dict[str, dict[str, object]] = {
        name: {**own, "ansible_ssh_common_args": f"{once} -o UserKnownHostsFile={file}"}
        for name, file in known.items()
    }
    hosts["common"]["ansible_ssh_common_args"] = (
        f"{accept} {hosts['common']['ansible_ssh_common_args']}"
    )
    hosts["extra"]["ansible_ssh_extra_args"] = accept
    hosts["args"]["ansible_ssh_args"] = accept
    hosts["refused"] = {**own, "ansible_ssh_private_key_file": str(wrong)}
    hosts["refused"]["ansible_ssh_common_args"] = f"{own['ansible_ssh_common_args']} {once}"
    results = reach(hosts, tmp_path)
    assert {host for host, (status, _) in results.items() if status == "ok"} == {
        "common", "extra", "args"
    }  # fmt: skip
    assert [file.exists() for file in known.values()] == [False, True, True, True]
    where = f"(address 127.0.0.1, port {remote.port}, user {remote.user})"
    login = f"ssh -p {remote.port} -i {{}} {remote.user}@127.0.0.1"
    for host, key, advice in (
        ("unsaid", str(remote.key), f"ssh-keygen -R '[127.0.0.1]:{remote.port}'"),
        ("refused", f"'{wrong}'", "does not accept the login: check ansible_user"),
    ):
        status, message = results[host]
        assert status == "unreachable"
        assert message.startswith(f"{host} {where} cannot be reached over ssh: ")
        assert advice in message
        assert message.endswith(f"This must work without a question: {login.format(key)}")
    hosts = {"common": {**hosts["unsaid"]}}
    hosts["common"]["ansible_ssh_common_args"] = f"{once} -o UserKnownHostsFile={known['common']}"
    assert reach(hosts, tmp_path)["common"][0] == "ok"


def reach(hosts: dict[str, dict[str, object]], folder: Path) -> dict[str, tuple[str, str]]:
    """Status and message of a step on each host."""
    task = {"name": "Reach it", "ansible.builtin.raw": "true", "changed_when": False}
    play = {"name": "Reach", "hosts": "all", "gather_facts": False, "tasks": [task]}
    (folder / "p.yml").write_text(json.dumps([play]))
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    done = subprocess.run(
        [
            RUNBOOK, "apply", str(folder / "p.yml"), "-i", str(folder / "hosts.json"), "--yes",
            "--json",
        ],
        env={**os.environ, "RUNBOOK_HOME": str(folder / "home")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        event = json.loads(line)
        if event["event"] == "task_result":
            found[event["host"]] = (event["status"], event["message"])
    bad = any(status != "ok" for status, _ in found.values())
    assert done.returncode == (4 if bad else 0), done.stdout + done.stderr
    return found


WAITING = "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"


@pytest.mark.campaign
@pytest.mark.usefixtures("fast")
def test_a_step_ends_on_the_host_when_it_is_interrupted_or_its_connection_lost(
    sandbox: Sandbox, remote: sshd.Target, inventory: Path, tmp_path: Path
) -> None:
    """A transaction that waits for a lock when the operator thinks better of it."""
    step = {"tables": ["user_maps"], "unprotected": True, "lock_timeout": 600}
    file = playbook(tmp_path / "clear.yml", "Clear the maps", **{"labeller.runbook.pg_clear": step})
    arguments = ["apply", str(file), "-i", str(inventory), "--yes"]
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
                until(lambda: not remote.run("find", remote.home / "tmp", "-name", "*_payload_*"))
            finally:
                run.kill()
                cursor.execute("COMMIT")
        assert sandbox.query("SELECT count(*) FROM user_maps") == before
