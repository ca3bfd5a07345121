# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A standalone build of Python, which the operator gives as a file for hosts that have none."""

from __future__ import annotations

import hashlib
import re
import tarfile
from pathlib import Path
from typing import Dict

from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput

_VERSION = re.compile(rb'#define PY_VERSION\s+"(\d+\.\d+\.\d+)')
_HEADER = re.compile(r"python/include/python3\.\d+/patchlevel\.h")
_SYSCONFIG = re.compile(r"python/lib/python3\.\d+/_sysconfigdata_.*_(x86_64|aarch64)-linux-gnu\.py")


def about(given: str) -> Dict[str, str]:
    """Name, version, machine and SHA-256 of a build; InvalidInput for what is none."""
    path = Path(given).expanduser()
    what = "target_python_build is {}".format(given)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        version, machine = _inside(path)
    except (OSError, tarfile.TarError) as error:
        raise InvalidInput("{}: {}".format(what, error)) from error
    if not (version and machine):
        raise InvalidInput(
            "{}: it is no standalone build of Python for Linux with glibc; expected a .tar.gz of "
            "the folder python, as cpython-3.11.x-x86_64-unknown-linux-gnu-install_only.tar.gz of "
            "python-build-standalone".format(what)
        )
    return {"name": path.name, "version": version, "machine": machine, "sha256": sha256}


def _inside(path: Path) -> tuple[str, str]:
    """Version and machine by the files of the archive; empty if they are not there."""
    version = machine = ""
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if _HEADER.fullmatch(member.name):
                header = archive.extractfile(member)
                found = _VERSION.search(header.read() if header else b"")
                version = found.group(1).decode() if found else ""
            known = _SYSCONFIG.fullmatch(member.name)
            machine = known.group(1) if known else machine
            if version and machine:
                break
    return version, machine
