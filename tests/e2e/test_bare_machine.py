"""The README's two commands on a machine that has Python, git and make, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import PROJECT

pytestmark = pytest.mark.campaign

#: What a machine is told about the network, as files and as variables: names, indexes, authorities.
FILES = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
VARIABLES = re.compile(
    r"PIP_(INDEX_URL|CERT|DEFAULT_TIMEOUT)|SSL_CERT_FILE|\w+_proxy", re.IGNORECASE
)
HOME = "/root"


@dataclass(frozen=True)
class Machine:
    """A root folder with a clone of the project."""

    root: Path

    def run(self, command: str) -> str:
        """The output of a shell command in the clone; fails the test when it fails."""
        mounts = [
            f"mount --bind /{name} {self.root}/{name}" for name in ("dev", "dev/pts", "dev/shm")
        ]
        script = " && ".join(
            [*mounts, f"mount -t proc proc {self.root}/proc", f'exec chroot {self.root} "$@"']
        )
        given = {name: value for name, value in os.environ.items() if VARIABLES.fullmatch(name)}
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
             "sh", "-c", script, "sh", "sh", "-c", f"cd {HOME}/runbook && {command}"],
            env={**given, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout


def _mirror() -> str:
    """Where this machine's Debian packages come from."""
    targets = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    return subprocess.run(targets, check=True, capture_output=True, text=True).stdout.split()[0]


@pytest.fixture(params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and the package debootstrap")
    made = Machine(tmp_path / request.param)
    packages = "--include=python3,git,make,ca-certificates"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", packages, request.param, made.root, _mirror()],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    for file in FILES:
        if Path(file).exists():
            shutil.copy(file, f"{made.root}{file}")
    subprocess.run(["git", "clone", "-q", PROJECT, f"{made.root}{HOME}/runbook"], check=True)
    yield made
    shutil.rmtree(made.root)


def test_the_commands_of_the_readme_are_enough(machine: Machine) -> None:
    assert "failed=0" in machine.run("make demo")
    assert "changed=0" in machine.run("make demo")
    tested = machine.run("make test")
    assert re.search(r"\d+ passed", tested)
    assert "failed" not in tested.splitlines()[-1]
