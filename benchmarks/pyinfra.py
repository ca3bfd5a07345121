"""Fifteen small file operations: modules of runbook beside pyinfra, which writes the same files.

``runbook apply --yes`` of a playbook whose fifteen tasks each write a crontab file, and ``pyinfra
-y`` of a deploy that puts the same fifteen files, in turn, locally and over ssh on loopback. Both
look first and then change. Only runbook's writes are synced, atomic and in a journal.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine import BIN, PROJECT, TIMES, clean_environment

OPERATIONS, MOST = 15, 1.3
PYINFRA = "pyinfra==3.10.0"
PROFILES = ("full", "no_n", "no_n_notifier", "standalone_f", "maintenance")
SCRIPTS = (
    "daemonNanny.sh",
    *(
        f"{name}.py"
        for name in (
            "cleanup_absent_worker", "create_hit_daemon", "generate_consensus_daemon",
            "select_n_sites", "worker_notification_daemon",
        )
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Host:
    """A host of both tools: their names for the same, and how to run a shell command there."""

    variables: dict[str, Any]
    pyinfra: tuple[str, dict[str, Any]]
    home: Path
    shell: list[str]

    @property
    def files(self) -> list[str]:
        """The files that are written."""
        return [f"{self.home}/tabs/{number}" for number in range(OPERATIONS)]

    def run(self, command: str) -> str:
        """The output of a shell command on the host."""
        return subprocess.run(
            [*self.shell, command], check=True, capture_output=True, text=True
        ).stdout

    def empty(self) -> None:
        """Make the checkout, and a folder without files."""
        scripts = " ".join(f"{self.home}/common/{name}" for name in SCRIPTS)
        self.run(
            f"mkdir -p {self.home}/common {self.home}/tabs && rm -f {self.home}/tabs/* && "
            f"touch {scripts} && chmod 755 {scripts}"
        )

    def contents(self) -> list[str]:
        """The texts of the files."""
        return [self.run(f"cat {file}") for file in self.files]


def main() -> None:
    """Print the table."""
    sys.path.insert(0, str(PROJECT / "tests" / "support"))
    import interpreters
    import sshd

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            python = interpreters.environment(Path(sys.executable), folder / "pyinfra", PYINFRA)
        except subprocess.CalledProcessError as error:
            print(f"pyinfra: not measured, {PYINFRA} cannot be installed: {error}")
            return
        print("\n| 15 file operations | runbook, seconds | pyinfra | ratio | held to |")
        print("|---|---|---|---|---|")
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "journal_folder": f"{folder}/journal",
        }
        here = Host(variables, ("@local", {}), folder / "labeller", ["sh", "-c"])
        _print("locally", _compare(here, folder / "locally", python), "")
        if missing := sshd.missing():
            print(f"\nover ssh: not measured, for want of {missing}")
            return
        keys = folder / "sshd"
        keys.mkdir()
        with sshd.target(keys) as reached:
            options = {
                "ssh_port": reached.port,
                "ssh_user": reached.user,
                "ssh_key": str(reached.key),
                "ssh_known_hosts_file": str(reached.known_hosts),
            }
            there = Host(
                reached.host_variables(),
                ("127.0.0.1", options),
                reached.home / "labeller",
                ["runuser", "-u", reached.user, "--", "sh", "-c"],
            )
            _print("over ssh", _compare(there, folder / "ssh", python), f"at most {MOST}")


def _print(name: str, found: tuple[float, float], bound: str) -> None:
    ours, theirs = found
    print(f"| {name} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} | {bound} |")


def _compare(host: Host, folder: Path, python: Path) -> tuple[float, float]:
    """The median seconds of runbook and of pyinfra, after a round to warm up."""
    folder.mkdir()
    environment = {**clean_environment(), "RUNBOOK_HOME": str(folder / "home")}
    ours = _ours(host, folder)
    taken: tuple[list[float], list[float]] = ([], [])
    _seconds(ours, environment, host)
    written = host.contents()
    theirs = _theirs(host, folder, python, written)
    for number in range(TIMES + 1):
        for figures, command in zip(taken, (ours, theirs), strict=True):
            figure = _seconds(command, environment, host)
            if host.contents() != written:
                sys.exit(f"{' '.join(command)}: it wrote something else")
            if number:
                figures.append(figure)
    return statistics.median(taken[0]), statistics.median(taken[1])


def _seconds(command: list[str], environment: dict[str, str], host: Host) -> float:
    """How long a command takes when none of the files is there."""
    host.empty()
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - begun


def _ours(host: Host, folder: Path) -> list[str]:
    """The playbook and its inventory; the command that applies it."""
    tasks = [
        {
            "name": f"Write crontab {number}",
            "labeller.runbook.crontab_profile": {
                "profile": PROFILES[number % len(PROFILES)],
                "home": str(host.home),
                "crontab_file": file,
            },
        }
        for number, file in enumerate(host.files)
    ]
    play = {"name": "Write crontabs", "hosts": "all", "gather_facts": False, "tasks": tasks}
    playbook, inventory = folder / "crontabs.yml", folder / "inventory.json"
    playbook.write_text(json.dumps([play]))
    inventory.write_text(json.dumps({"all": {"hosts": {"labeller9": host.variables}}}))
    return [str(BIN / "runbook"), "apply", str(playbook), "-i", str(inventory), "--yes"]


def _theirs(host: Host, folder: Path, python: Path, contents: list[str]) -> list[str]:
    """pyinfra's deploy and inventory; the command that applies them."""
    wanted = dict(zip(host.files, contents, strict=True))
    deploy, inventory = folder / "deploy.py", folder / "inventory.py"
    deploy.write_text(
        "from io import StringIO\nfrom pyinfra.operations import files\n"
        f"for path, text in {wanted!r}.items():\n"
        "    files.put(name=path, src=StringIO(text), dest=path, mode='600')\n"
    )
    inventory.write_text(f"hosts = [{host.pyinfra!r}]\n")
    return [str(python.parent / "pyinfra"), "-y", str(inventory), str(deploy)]
