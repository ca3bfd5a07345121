"""The README's two commands on a machine that has Python, git and make, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import roots
from command_line import PROJECT

pytestmark = pytest.mark.campaign

CLONE = f"{roots.HOME}/runbook"

#: Its workers share the cores with those of this run.
FEW = "PYTEST_XDIST_AUTO_NUM_WORKERS=2"

#: Tests that together need every Debian package that `make test` installs: a browser, cron, git's
#: hooks, old and new PostgreSQL, sshd, sudo.
PACKAGES = (
    "e2e/test_httpd.py", "e2e/test_ssh.py", "integration/test_crontab_profile.py",
    "integration/test_held.py", "integration/test_init.py", "integration/test_run_in_place.py",
    "unit/test_pages_in_browser.py",
)  # fmt: skip


@pytest.fixture(params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[roots.Root]:
    """A root folder with a clone of the project."""
    if missing := roots.missing():
        pytest.skip(f"needs {missing}")
    made = roots.bare(request.param, tmp_path / request.param)
    subprocess.run(["git", "clone", "-q", PROJECT, f"{made.folder}{CLONE}"], check=True)
    yield made
    shutil.rmtree(made.folder)


def test_the_commands_of_the_readme_are_enough(machine: roots.Root) -> None:
    demonstrated = machine.run(f"cd {CLONE} && make demo && make demo")
    _check, applied, again = re.findall(r"^sandbox .*ok=.*", demonstrated, re.MULTILINE)
    assert "changed=0" not in applied
    assert "changed=0" in again
    # CI itself is such a machine of the older release, and has run all tests there.
    some = machine.release == "bookworm" and os.environ.get("CI")
    chosen = " ".join(f"tests/{path}" for path in PACKAGES) if some else ""
    tested = machine.run(f"cd {CLONE} && PYTEST_ADDOPTS='{chosen}' {FEW} make test")
    assert re.search(r"\d+ passed", tested)
    assert "failed" not in tested.splitlines()[-1]
