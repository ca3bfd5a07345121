"""Programs from npm, installed once below .build; a test that needs one is skipped without npm."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent


def installed(name: str, version: str) -> Path:
    """The folder ``node_modules`` with a package and what it needs."""
    folder = PROJECT / ".build" / "npm" / f"{name}-{version}"
    modules = folder / "node_modules"
    if not modules.exists():
        if shutil.which("npm") is None:
            pytest.skip("there is no npm")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            done = subprocess.run(
                ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts",
                 "--prefix", made, f"{name}@{version}"],
                capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"npm cannot fetch {name}")
            folder.mkdir(exist_ok=True)
            with suppress(OSError):  # another test process was faster
                Path(made, "node_modules").rename(modules)
    return modules
