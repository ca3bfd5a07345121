"""Other Pythons of this machine, and environments made with them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def found(version: str) -> Path | None:
    """An interpreter of a version such as ``3.8``: on the path, or pyenv's."""
    on_path = shutil.which(f"python{version}")
    if on_path and "shims" not in on_path:
        return Path(on_path)
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next(iter(sorted(versions.glob(f"{version}.*/bin/python"))), None)


def environment(python: Path, folder: Path, *packages: str) -> Path:
    """A virtual environment with packages, or pip's options; gives its interpreter."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = folder / "bin" / "python"
    subprocess.run(
        [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        check=True, cwd=PROJECT,
    )  # fmt: skip
    return own
