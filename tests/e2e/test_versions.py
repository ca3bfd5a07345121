"""The newest Python and ansible-core there are, release candidates too: every module, a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import interpreters
import pytest

PROJECT = interpreters.PROJECT

#: Every module, and a run of regular.yml; the whole suite runs on the newest release by
#: test_bare_machine.
SUBSET = (
    "unit/test_in_process.py",
    "unit/test_translate.py",
    "unit/test_core_versions.py",
    "unit/test_module_examples.py",
    "e2e/test_modes.py::test_the_examples_of_every_module_run_as_they_stand",
    "e2e/test_regular.py::test_regular_production_from_its_check_to_the_run_after_it",
    "e2e/test_run.py::test_no_secret_is_shown_or_stays_on_disk",
    "e2e/test_ssh.py::test_regular_over_ssh",
    "e2e/test_callbacks.py::test_ara_records_a_run_without_its_secrets",
    "e2e/test_callbacks.py::test_opentelemetry_gets_the_spans_of_a_run_without_its_secrets",
)


@pytest.mark.campaign
def test_modules_and_commands_with_the_newest_versions(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    newest = [found for minor in (14, 13, 12) if (found := interpreters.found(f"3.{minor}"))]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (core,) = (need for need in project["dependencies"] if need.startswith("ansible-core"))
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(
        "".join(
            line
            for line in (PROJECT / "constraints.txt").read_text().splitlines(keepends=True)
            if not line.startswith("ansible-core")
        )
    )
    python = interpreters.environment(
        next(iter(newest), Path(sys.executable)),
        tmp_path / "newest",
        *("--constraint", str(constraints), "--editable", f"{PROJECT}[sandbox]"),
        *("pytest", "pytest-xdist", "hypothesis", f"{core},>=2.19.0rc0"),  # candidates too
    )
    # Short, for the sockets of ansible-core 2.22 (execute/environment.py).
    folder = tempfile.mkdtemp(prefix="v", dir="/tmp")
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    done = subprocess.run(
        [
            *(python, "-m", "pytest", "-q", "-n", "2", f"--basetemp={folder}/t"),
            *(f"tests/{name}" for name in SUBSET),
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        cwd=PROJECT, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
