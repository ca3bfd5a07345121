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
FILES = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/npmrc", "/etc/ssl/certs/ca-certificates.crt")
VARIABLES = re.compile(
    r"PIP_(INDEX_URL|CERT|DEFAULT_TIMEOUT)|SSL_CERT_FILE|NODE_EXTRA_CA_CERTS|\w+_proxy",
    re.IGNORECASE,
)
HOME = "/root"

#: What was downloaded once: the packages of Debian (by release) and of pip, and the bare roots.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labeller-runbook"


@dataclass(frozen=True)
class Machine:
    """A root folder with a clone of the project."""

    root: Path
    release: str

    def run(self, command: str) -> str:
        """The output of a shell command in the clone; fails the test when it fails.

        It has namespaces of its own: its end takes with it all processes and mounts.
        """
        bound = {f"/{name}": name for name in ("dev", "dev/pts", "dev/shm")}
        bound[f"{CACHE}/{self.release}"] = "var/cache/apt/archives"
        bound[f"{CACHE}/pip"] = f"{HOME[1:]}/.cache/pip"
        mounts = [f"mount --bind {source} {self.root}/{to}" for source, to in bound.items()]
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


def _bare(release: str, root: Path) -> None:
    """Unpack a root of a Debian release; the first time it is made by debootstrap."""
    archive = CACHE / f"{release}.tar"
    if not archive.exists():
        packages = "--include=python3,git,make,ca-certificates"
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", packages, release, root, _mirror()],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        written = archive.with_suffix(f".{os.getpid()}")
        subprocess.run(["tar", "--one-file-system", "-cf", written, "-C", root, "."], check=True)
        written.rename(archive)
        return
    root.mkdir()
    subprocess.run(["tar", "-xpf", archive, "-C", root, "--numeric-owner"], check=True)


@pytest.fixture(params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and the package debootstrap")
    made = Machine(tmp_path / request.param, request.param)
    for folder in (CACHE / "pip", CACHE / request.param / "partial", made.root.parent):
        folder.mkdir(parents=True, exist_ok=True)
    _bare(request.param, made.root)
    for file in FILES:
        if Path(file).exists():
            shutil.copy(file, f"{made.root}{file}")
    (made.root / HOME[1:] / ".cache" / "pip").mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", PROJECT, f"{made.root}{HOME}/runbook"], check=True)
    yield made
    shutil.rmtree(made.root)


def test_the_commands_of_the_readme_are_enough(machine: Machine) -> None:
    demonstrated = machine.run("make demo && make demo")
    _check, applied, again = re.findall(r"^sandbox .*ok=.*", demonstrated, re.MULTILINE)
    assert "changed=0" not in applied
    assert "changed=0" in again
    # CI has run all tests on the older release; there these need what the bare one lacks.
    some = machine.release == "bookworm" and os.environ.get("CI")
    tested = machine.run(f"{'PYTEST_ADDOPTS=tests/integration ' if some else ''}make test")
    assert re.search(r"\d+ passed", tested)
    assert "failed" not in tested.splitlines()[-1]
