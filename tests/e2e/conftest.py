"""Fixtures of end-to-end tests: a sandbox, an instance on a host of its own, a remote user."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import host
import pytest
import sshd
from command_line import PROJECT, Sandbox
from instances import Instance, instances


@pytest.fixture(params=["1", pytest.param("0", marks=pytest.mark.campaign)])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How modules get to a host: in one process of ours a host, and each as Ansible does it."""
    value = str(request.param)
    monkeypatch.setenv("RUNBOOK_FAST", value)
    return value


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one worker run the tests of make test that use a sandbox: each would make its own.

    Those over SSH use one too, so all are of their group.
    """
    for item in items:
        grouped = item.get_closest_marker("xdist_group") or item.get_closest_marker("campaign")
        if "shared_sandbox" in getattr(item, "fixturenames", ()) and not grouped:
            item.add_marker(pytest.mark.xdist_group("ssh"))


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox that is up; tests that change it take ``sandbox``."""
    box = Sandbox(tmp_path_factory.mktemp("runbook-home"))
    box.run("sandbox", "up")
    yield box
    box.run("sandbox", "down")


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    """The sandbox as new."""
    shared_sandbox.run("sandbox", "reset")
    return shared_sandbox


@pytest.fixture(scope="session")
def shared_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance of labeller on a host of its own; tests that use it are of the group ``host``."""
    if missing := host.missing():
        pytest.skip(f"needs {missing}: .ci/apt installs what CI has")
    with instances(tmp_path_factory.mktemp("instances")) as (made,):
        yield made


@pytest.fixture
def instance(shared_instance: Instance) -> Instance:
    """The instance as new."""
    shared_instance.reset()
    return shared_instance


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Target]:
    """A user of this machine behind an sshd; tests that use it are of the group ``ssh``."""
    if missing := sshd.missing():
        pytest.skip(f"needs {missing}: .ci/apt installs what CI has")
    with sshd.target(tmp_path_factory.mktemp("sshd")) as reached:
        yield reached


@pytest.fixture
def inventory(remote: sshd.Target, sandbox: Sandbox, tmp_path: Path) -> Path:
    """The sandbox's services, reached from the remote user's host; its own labeller and crontab."""
    folder = tmp_path / "inventory"
    shutil.copytree(PROJECT / "inventories" / "sandbox" / "group_vars", folder / "group_vars")
    home = remote.home / "labeller"
    variables = {**remote.host_variables(), "labeller_home": str(home), "crontab_file": "",
                 "journal_folder": ""}  # fmt: skip
    (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"labeller9": variables}}}))
    labeller = Path(sandbox.status()["labeller_home"])
    archive = subprocess.run(
        ["tar", "-C", str(labeller), "-c", "."], check=True, capture_output=True
    ).stdout
    remote.run("mkdir", "-p", str(home))
    remote.run("tar", "-C", str(home), "--no-same-owner", "-x", input=archive)
    remote.run("sh", "-c", "echo '0 4 * * * true' | crontab -")
    return folder
