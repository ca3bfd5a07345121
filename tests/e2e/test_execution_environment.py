"""docs/teams.md: the image's build context, and the playbook of an AWX project."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import interpreters
import pytest
import yaml
from command_line import PROJECT, Sandbox

pytestmark = pytest.mark.campaign

DOCUMENT = (PROJECT / "docs" / "teams.md").read_text()
PARTS = (
    "constraints.txt", "docs", "engine", "execution-environment.yml", "galaxy.yml", "hatch_build.py",
    "inventories", "LICENSE", "meta", "playbooks", "plugins", "pyproject.toml", "README.md", "roles",
    "schemas",
)  # fmt: skip


def block(language: str) -> str:
    """The first block of the document in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_image_gets_the_engine_of_this_checkout(tmp_path: Path) -> None:
    """As far as it goes without a container engine: ``create`` is what ``build`` begins with."""
    wheel, build = block("console").splitlines()
    assert build == "ansible-builder build --tag runbook"
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    subprocess.run(["cp", "-r", *PARTS, checkout], cwd=PROJECT, check=True)
    subprocess.run([sys.executable, "-m", *shlex.split(wheel)], cwd=checkout, check=True)
    python = interpreters.environment(Path(sys.executable), tmp_path / "venv", "ansible-builder")
    create = [python.parent / "ansible-builder", "create", "--output-filename", "Containerfile"]
    subprocess.run(create, cwd=checkout, check=True, capture_output=True)
    (engine,) = (checkout / "context/_build/runbook").glob("*.whl")
    assert engine.name.startswith("labeller_runbook-")
    steps = (checkout / "context/Containerfile").read_text()
    assert "RUN runbook --version" in steps
    # The same versions as everywhere.
    pinned = (PROJECT / "constraints.txt").read_text()
    described = yaml.safe_load((PROJECT / "execution-environment.yml").read_text())
    for name in ("ansible_core", "ansible_runner"):
        assert described["dependencies"][name]["package_pip"] in pinned


def test_the_playbook_of_a_project_runs_without_the_engine(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, PROJECT],
        check=True,
    )
    job = tmp_path / "job.yml"
    job.write_text(block("yaml"))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", PROJECT / "inventories/sandbox", job,
         "-e", "lease_holder=olli@awx"],
        env={**sandbox.environment, "PYTHONPATH": str(site), "RUNBOOK_OPERATOR": "olli@awx"},
        cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "olli@awx" in sandbox.run("history", "-i", "sandbox").stdout
    # The engine finds the run in place.
    assert "changed=0" in sandbox.apply().stdout
