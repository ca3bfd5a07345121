"""A real sshd on loopback with a user of its own, as a target that is not local."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runbook.sandbox.postgres import free_port

PROJECT = Path(__file__).resolve().parent.parent.parent
SSHD = "/usr/sbin/sshd"
#: Debian's own interpreter: the project's may lie in a folder that another user cannot enter.
SYSTEM_PYTHON = "/usr/bin/python3"
TARGET_REQUIREMENTS = ("boto3", "psycopg2-binary", "PyYAML", "zstandard")


@dataclass(frozen=True)
class Target:
    """Where the user's login answers, and what it has."""

    user: str
    home: Path
    port: int
    key: Path
    known_hosts: Path

    @property
    def python(self) -> Path:
        """The interpreter of the target's virtualenv for modules."""
        return self.home / "runbook" / "bin" / "python"

    def host_variables(self) -> dict[str, object]:
        """The connection variables of an inventory host."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": self.user,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known_hosts} -o IdentitiesOnly=yes",
            "ansible_python_interpreter": str(self.python),
        }

    def disconnect(self) -> None:
        """End every connection of the user, as a network does that goes away."""
        subprocess.run(
            ["pkill", "--signal", "KILL", "--full", rf"^sshd(-session)?: {self.user}\b"], check=True
        )

    def run(self, *command: str, input: bytes = b"") -> str:  # noqa: A002 - as subprocess.run
        """The output of a command run as the target's user."""
        return subprocess.run(
            [*_as(self.user), *command], check=True, capture_output=True, input=input, cwd="/"
        ).stdout.decode()


def missing() -> str:
    """The first thing that this machine lacks for a target: root, to make its user, or a program."""
    if os.geteuid() != 0:
        return "root"
    programs = (SSHD, "crontab", "ssh-keygen", "setpriv")
    return ", ".join(program for program in programs if not shutil.which(program))


#: Names of users, before the id of the process that made them.
PREFIX = "runbook-"


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Start sshd for a user of this process, made for the purpose and gone afterwards."""
    for left in (each.pw_name for each in pwd.getpwall() if each.pw_name.startswith(PREFIX)):
        if not Path("/proc", left.removeprefix(PREFIX)).exists():
            subprocess.run(["userdel", "--remove", "--force", left], capture_output=True)
    user = f"{PREFIX}{os.getpid()}"
    subprocess.run(
        ["useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", user], check=True
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    try:
        yield from _serve(folder, user, Path(pwd.getpwnam(user).pw_dir))
    finally:
        subprocess.run(["pkill", "--signal", "KILL", "--uid", user])
        subprocess.run(["crontab", "-u", user, "-r"], capture_output=True)
        subprocess.run(["userdel", "--remove", "--force", user], capture_output=True)


def _serve(folder: Path, user: str, home: Path) -> Iterator[Target]:
    port = free_port()
    for key in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True
        )
    authorized = Path("/run/sshd") / f"{user}.keys"
    shutil.copyfile(folder / "user_key.pub", authorized)
    authorized.chmod(0o644)
    host_key = (folder / "host_key.pub").read_text().split()[:2]
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {' '.join(host_key)}\n")
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host_key'}\n"
        f"AuthorizedKeysFile {authorized}\nStrictModes no\nUsePAM no\nAllowUsers {user}\n"
        f"PasswordAuthentication no\nPidFile none\nSubsystem sftp internal-sftp\n"
        f"SetEnv TMPDIR={home / 'tmp'}\n"
    )
    subprocess.run([*_as(user), "mkdir", home / "tmp"], check=True, cwd="/")
    reached = Target(user, home, port, folder / "user_key", known_hosts)
    _make_virtualenv(reached)
    log = folder / "sshd.log"
    server = subprocess.Popen([SSHD, "-D", "-f", str(config), "-E", str(log)])
    try:
        _wait_for(port, server, log)
        yield reached
    finally:
        server.terminate()
        server.wait()
        authorized.unlink()


def _make_virtualenv(reached: Target) -> None:
    """Installed by this environment's pip, which need not be installed there first."""
    venv = reached.python.parent.parent
    make = [*_as(reached.user), SYSTEM_PYTHON, "-m", "venv", "--without-pip", venv]
    install = [sys.executable, "-m", "pip", "--python", reached.python, "install", "--no-compile"]
    given = ["--constraint", PROJECT / "constraints.txt", *TARGET_REQUIREMENTS]
    subprocess.run(make, check=True, cwd="/")
    subprocess.run([*install, "--quiet", "--disable-pip-version-check", *given], check=True)
    subprocess.run(["chown", "--recursive", f"{reached.user}:", venv], check=True)


def _as(user: str) -> list[str]:
    entry = pwd.getpwnam(user)
    return [
        "setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups",
        "env", f"HOME={entry.pw_dir}", f"USER={user}", f"LOGNAME={user}",
    ]  # fmt: skip


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if server.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"sshd did not start: {log.read_text()}")
