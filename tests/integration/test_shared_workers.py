"""The strategy ``runbook_linear``: in a check a worker process takes a step on several hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import runbook
from runbook import collection

PLUGINS = Path(runbook.__file__).parent / "execute/child/strategy"
HOSTS = ("a", "b", "c")

#: A step whose message repeats its argument, which names a variable of another host, one of the host
#: itself, and the worker process that evaluates it.
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - labeller.runbook.crontab_profile:
        home: "/{{ hostvars['a'].own }}/{{ own }}/{{ lookup('ansible.builtin.pipe', how) }}"
      register: step
      ignore_errors: true
    - ansible.builtin.debug:
        msg: "RESULT {{ inventory_hostname }} {{ step.msg }} END"
"""


def run(folder: Path, *arguments: str, how: str = "echo $PPID", status: int = 0) -> str:
    """Run the playbook on three hosts, one worker at a time; what Ansible writes."""
    (folder / "play.yml").write_text(PLAYBOOK)
    (folder / "hosts").write_text(
        "".join(f"{host} ansible_connection=local own=of-{host}\n" for host in HOSTS)
        + f"[all:vars]\nansible_python_interpreter={sys.executable}\n"
    )
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "play.yml", "-i", "hosts"),
            *("--forks", "1", "-e", json.dumps({"how": how}), *arguments),
        ],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(collection.link(folder / "collections")),
            "ANSIBLE_STRATEGY": "runbook_linear",
            "ANSIBLE_STRATEGY_PLUGINS": str(PLUGINS),
        },
        cwd=folder, text=True, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def given(said: str) -> tuple[dict[str, str], set[str]]:
    """By host, the values that its step got; and the processes."""
    found = re.findall(r"RESULT (\w+) home is (\S+)/(\d+), but", said)
    return {host: values for host, values, _ in found}, {process for *_, process in found}


def test_a_check_takes_the_hosts_in_one_process_each_with_its_own_values(tmp_path: Path) -> None:
    values, processes = given(run(tmp_path, "--check"))
    assert values == {host: f"/of-a/of-{host}" for host in HOSTS}
    assert len(processes) == 1


def test_a_real_run_has_a_process_for_each(tmp_path: Path) -> None:
    values, processes = given(run(tmp_path))
    assert len(values) == len(processes) == len(HOSTS)


def test_a_killed_worker_ends_the_run(tmp_path: Path) -> None:
    said = run(tmp_path, "--check", how="kill -9 $PPID", status=1)
    assert "dead state" in said
