"""A sandbox of this test process."""

from __future__ import annotations

from collections.abc import Iterator

import host
import pytest
from command_line import Sandbox
from instances import Instance, instances


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
