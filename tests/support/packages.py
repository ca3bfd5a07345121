"""Packages that a test installs itself: from npm, once below .build, or from PyPI.

Where they cannot be had the test is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent


def npm(name: str, version: str) -> Path:
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


def venv(folder: Path, *packages: str) -> Path:
    """The interpreter of an environment in ``folder`` with packages, and all that this one has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin/python"
    _pip("--python", str(python), "install", "--no-compile", *packages)
    (site,) = folder.glob("lib/python*/site-packages")
    # Only now: pip would replace what it sees there.
    here = sysconfig.get_path("purelib")
    (site / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return python


def wheel(folder: Path, package: str) -> Path:
    """The wheel of a package alone, in ``folder``."""
    _pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), package)
    (found,) = folder.glob("*.whl")
    return found


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"pip cannot fetch {arguments[-1]}")
