"""A sandbox of this test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command_line import Sandbox


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
