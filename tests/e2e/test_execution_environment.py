"""docs/teams.md in a container: the image is built, the engine works in it, and a job as in AWX."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import packages
import pytest
import roots
import sshd
import yaml
from command_line import PROJECT, Sandbox

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("ssh")]

DOCUMENT = (PROJECT / "docs" / "teams.md").read_text()
PARTS = (
    "constraints.txt", "docs", "engine", "execution-environment.yml", "galaxy.yml", "hatch_build.py",
    "inventories", "LICENSE", "meta", "playbooks", "plugins", "pyproject.toml", "README.md", "roles",
    "schemas",
)  # fmt: skip
#: Debian in place of CentOS, whose registry tests do not ask.
BASE = """\
FROM localhost/bare
COPY . /
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv
RUN python3 -m venv /opt/python
ENV PATH=/opt/python/bin:/usr/local/bin:/usr/bin:/bin
"""
BASE_ARGUMENTS = {
    "EE_BASE_IMAGE": "localhost/base",
    "PKGMGR": "/usr/bin/apt-get",
    "PYPKG": "python3-venv",
    "PYCMD": "/opt/python/bin/python3",
}
#: Of a machine in a container itself: crun and podman's default limits want more rights than it has.
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]
netns = "host"
[engine]
runtime = "runc"
"""


def blocks(language: str) -> list[str]:
    """The blocks of the document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Containers:
    """Programs for containers, with a storage of their own."""

    folder: Path
    programs: Path

    def run(self, *command: str | Path, cwd: Path) -> str:
        """The output of a command, which must end well."""
        done = subprocess.run(
            command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}",
                 "HOME": str(self.folder), "TERM": "xterm", "COLUMNS": "200",
                 "BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(self.folder / "containers"),
                 "CONTAINERS_STORAGE_CONF": str(self.folder / "storage")},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The image of docs/teams.md, built from this checkout on a bare Debian."""
    if missing := roots.missing() or ("" if shutil.which("podman") else "podman"):
        pytest.skip(f"needs {missing}: make campaign installs what CI has")
    Path("/dev/mqueue").mkdir(exist_ok=True)  # ansible-navigator wants it for podman
    folder = tmp_path_factory.mktemp("containers")
    python = packages.venv(folder / "venv", "ansible-builder==3.2.0", "ansible-navigator==26.10.0")
    made = Containers(folder, python.parent)
    (folder / "containers").write_text(CONTAINERS)
    (folder / "storage").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n'
    )
    try:
        _base(made)
        checkout = folder / "checkout"
        checkout.mkdir()
        subprocess.run(["cp", "-r", *PARTS, checkout], cwd=PROJECT, check=True)
        wheel, build = blocks("console")[0].splitlines()
        made.run(sys.executable, "-m", *shlex.split(wheel), cwd=checkout)
        arguments = [f"--build-arg={name}={value}" for name, value in BASE_ARGUMENTS.items()]
        arguments += ["--container-runtime=podman", "--extra-build-cli-args=--network=host"]
        made.run(*shlex.split(build), *arguments, cwd=checkout)
        yield made
    finally:
        made.run("podman", "system", "reset", "--force", cwd=folder)


def _base(made: Containers) -> None:
    """The base image: a root folder that knows where this machine's packages come from."""
    bare = roots.bare("trixie", made.folder / "root")
    made.run("sh", "-c", f"tar -c -C {bare.folder} . | podman import --quiet - localhost/bare",
             cwd=made.folder)  # fmt: skip
    shutil.rmtree(bare.folder)
    context = made.folder / "base"
    context.mkdir()
    (context / "Containerfile").write_text(BASE)
    made.run("podman", "build", "--network=host", "--tag=localhost/base", context, cwd=context)


@pytest.fixture
def operations(sandbox: Sandbox, inventory: Path, remote: sshd.Target, tmp_path: Path) -> Path:
    """A folder of inventories that a container sees whole: with the key, and without a sandbox."""
    folder = tmp_path / "operations"
    shutil.copytree(inventory, folder / "inventories" / "labeller3")
    for file in (remote.key, remote.known_hosts):
        shutil.copy(file, folder)
    hosts = folder / "inventories" / "labeller3" / "hosts.yml"
    hosts.write_text(hosts.read_text().replace(str(remote.key.parent), str(folder)))
    variables = folder / "inventories" / "labeller3" / "group_vars" / "all.yml"
    state = json.loads((sandbox.home / "sandbox" / "state.json").read_text())
    text = re.sub("^sandbox_state: .*$", "", variables.read_text(), flags=re.MULTILINE)
    variables.write_text(f"{text}\nsandbox_state: {json.dumps(state)}\n")
    (folder / "ansible-navigator.yml").write_text(blocks("yaml")[0])
    return folder


def test_the_engine_in_a_container(
    containers: Containers, sandbox: Sandbox, operations: Path
) -> None:
    plan, apply = (shlex.split(line) for line in blocks("console")[1].splitlines())
    assert "17,252 rows deleted" in containers.run(*plan, cwd=operations)
    before, name = apply[: apply.index("--")], "--senv=RUNBOOK_OPERATOR=olli@laptop"
    applied = containers.run(*before, name, *apply[len(before) :], cwd=operations)
    assert "Done, as planned" in applied
    target = operations / "inventories" / "labeller3"
    assert "changed=0" in sandbox.run("apply", "regular.yml", "-i", str(target), "--yes").stdout
    assert "olli@laptop" in sandbox.run("history", "-i", str(target)).stdout


def test_a_job_as_in_awx(containers: Containers, sandbox: Sandbox, operations: Path) -> None:
    (operations / "job.yml").write_text(blocks("yaml")[1])
    target = operations / "inventories" / "labeller3"
    containers.run(
        "ansible-navigator", "run", "job.yml", "-i", target, "--mode=stdout",
        "--senv=RUNBOOK_OPERATOR=olli@awx", "-e", "lease_holder=olli@awx", cwd=operations,
    )  # fmt: skip
    assert "olli@awx" in sandbox.run("history", "-i", str(target)).stdout
    # The engine finds the run in place.
    assert "changed=0" in sandbox.run("apply", "regular.yml", "-i", str(target), "--yes").stdout


def test_the_image_has_the_versions_of_everywhere() -> None:
    pinned = (PROJECT / "constraints.txt").read_text()
    described = yaml.safe_load((PROJECT / "execution-environment.yml").read_text())
    for name in ("ansible_core", "ansible_runner"):
        assert described["dependencies"][name]["package_pip"] in pinned
