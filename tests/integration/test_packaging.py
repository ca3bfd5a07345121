"""The wheel: what is installed from it works without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

#: One worker makes what the tests of this file share.
pytestmark = pytest.mark.xdist_group("packaging")

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "dist", PROJECT],
        check=True,
    )  # fmt: skip
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder / "site", wheel],
        check=True,
    )  # fmt: skip
    return folder / "site"


def run(installed: Path, folder: Path, *command: str) -> str:
    """The output of a command that finds the installed wheel before the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "RUNBOOK_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_collection(installed: Path) -> None:
    collection = installed / "ansible_collections" / "labeller" / "runbook"
    assert (collection / "galaxy.yml").is_file()
    for part in (
        "playbooks/regular.yml",
        "plugins/modules/pg_clear.py",
        "inventories/ghana/hosts.yml",
        "inventories/labeller3/hosts.yml",
        "docs/operations.md",
    ):
        assert (collection / part).is_file()
    assert json.loads((collection / "schemas" / "parameters.schema.json").read_text())


def test_the_engine_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    root = run(
        installed, tmp_path, "-c", "from runbook import collection; print(collection.root())"
    )
    assert Path(root.strip()).is_relative_to(installed)
    assert "regular.yml" in run(installed, tmp_path, "-m", "runbook", "list")
    run(installed, tmp_path, "-m", "runbook", "validate")
    shown = run(installed, tmp_path, "-m", "runbook", "show", "regular.yml", "-i", "labeller3")
    assert "labeller3" in shown


def test_the_wheel_holds_the_documents_that_help_names(installed: Path, tmp_path: Path) -> None:
    assert "runbook docs" in run(installed, tmp_path, "-m", "runbook", "--help")
    listed = run(installed, tmp_path, "-m", "runbook", "docs")
    assert f"{installed}/ansible_collections/labeller/runbook/docs" in listed
    topics = [line.split()[0] for line in listed.partition("\n\n")[0].splitlines()]
    assert topics == sorted(path.stem for path in (PROJECT / "docs").glob("*.md"))
    shown = run(installed, tmp_path, "-m", "runbook", "docs", "operations")
    assert shown.strip() == (PROJECT / "docs" / "operations.md").read_text().strip()


def test_ansible_finds_the_collection_in_site_packages(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "-m", "ansible", "doc", "--list", "labeller.runbook")
    assert "labeller.runbook.pg_clear" in listed


def test_the_collection_holds_what_its_users_need(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "ansible", "galaxy", "collection", "build", "--output-path", tmp_path, PROJECT],
        check=True, capture_output=True,
    )  # fmt: skip
    (tarball,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(tarball) as packed:
        tops = {name.split("/")[0] for name in packed.getnames()}
    assert tops == {
        "CHANGELOG.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md",
        "changelogs", "docs", "inventories", "meta", "playbooks", "plugins", "roles", "schemas",
    }  # fmt: skip
