"""The project's files agree on ansible-core's versions, and what some of them need."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from runbook.errors import RunbookError
from runbook.execute import environment

PROJECT = Path(__file__).resolve().parent.parent.parent
NEEDS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def test_the_oldest_ansible_core_is_the_same_for_pip_and_the_collection() -> None:
    (core,) = (need for need in NEEDS["dependencies"] if need.startswith("ansible-core"))
    oldest = yaml.safe_load((PROJECT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert core.removeprefix("ansible-core").split(",")[0] + ".0" == oldest


def test_the_changelog_of_the_collection_has_its_version() -> None:
    changelog = yaml.safe_load((PROJECT / "changelogs" / "changelog.yaml").read_text())
    collection = yaml.safe_load((PROJECT / "galaxy.yml").read_text())
    assert collection["version"] in changelog["releases"]
    assert collection["version"] == NEEDS["version"]


@pytest.mark.parametrize(
    ("core", "length", "refused"),
    [("2.22.0rc1", 76, True), ("2.22.0rc1", 75, False), ("2.21.5", 76, False)],
)
def test_a_temporary_folder_too_long_for_sockets_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, core: str, length: int, refused: bool
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: core)
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * (length - 1))
    with pytest.raises(RunbookError, match="TMPDIR") if refused else nullcontext():
        environment.settings("linear", tmp_path)


def test_nothing_imports_collections_before_ansibles_loader_is_there(tmp_path: Path) -> None:
    """With a wheel installed, the namespace package would hide what the loader finds."""
    (tmp_path / "ansible_collections" / "labeller").mkdir(parents=True)
    script = (
        "import sys\nfrom runbook.execute.child import launch\nlaunch._warm_up()\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert "ansible_collections" not in done.stdout.split()
