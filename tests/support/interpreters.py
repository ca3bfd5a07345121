"""Other Pythons of this machine, and environments made with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
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
    """A virtual environment with packages, or pip's options; gives its interpreter.

    Python compiles what is imported; pip would compile all that is installed.
    """
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = folder / "bin" / "python"
    subprocess.run(
        [own, "-m", "pip", "install", "--no-compile", "--quiet", "--disable-pip-version-check",
         *packages],
        check=True, cwd=PROJECT,
    )  # fmt: skip
    return own


#: Debian's own: it needs no library in a folder that is compiled in, so it can be moved.
SYSTEM = Path("/usr/bin/python3")


def build(folder: Path) -> Path:
    """An archive of Debian's Python like those of python-build-standalone."""
    python = SYSTEM.resolve()
    left_out = {"__pycache__", "test", "idlelib", "lib2to3"}

    def taken(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(member.name).name in left_out else member

    version = subprocess.run([python, "-V"], check=True, capture_output=True, text=True).stdout
    header = folder / "patchlevel.h"
    header.write_text(f'#define PY_VERSION "{version.split()[1]}"\n')
    path = folder / f"cpython-{version.split()[1]}-linux-gnu-install_only.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(python, "python/bin/python3")
        archive.add(header, f"python/include/{python.name}/patchlevel.h")
        archive.add(f"/usr/lib/{python.name}", f"python/lib/{python.name}", filter=taken)
    return path
