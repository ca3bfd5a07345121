# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The wheels for a target's environment, downloaded on the controller by pip, and runbook's own.

A target may have neither internet nor pip: the wheels are sent, and pip's own is one of them.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from importlib import metadata, util
from pathlib import Path
from typing import Dict, Iterator, List, Sequence

from ansible_collections.labeller.runbook.plugins.module_utils.errors import ModuleFailure
from ansible_collections.labeller.runbook.plugins.module_utils.host_python import normalized
from ansible_collections.labeller.runbook.plugins.module_utils.target_environment import RUNBOOK
from ansible_collections.labeller.runbook.plugins.plugin_utils.engine_home import home

with suppress(ImportError):  # ansible-core needs it, but not in the sanity test of imports
    from packaging.requirements import Requirement

PINS = Path(__file__).with_name("target_requirements.txt")
#: The collection, whose parts are in the wheel of runbook (hatch_build.py).
COLLECTION = Path(__file__).resolve().parents[2]
PARTS = (
    "galaxy.yml", "README.md", "docs", "meta", "playbooks", "plugins", "roles", "schemas",
    "inventories",
)  # fmt: skip
PIP = "pip"


def pins(python: str, *, engine: bool) -> List[str]:
    """The packages of a target's environment for a Python such as ``3.8``, as ``NAME==VERSION``."""
    environment = {"python_version": python, "extra": "engine" if engine else ""}
    lines = PINS.read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [
        "{}{}".format(each.name, each.specifier)
        for each in wanted
        if each.name != PIP and (each.marker is None or each.marker.evaluate(environment))
    ]


def pip_pin() -> str:
    """The version of pip that installs them."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(PIP + "=="))


def downloaded(requirements: Sequence[str], python: str, machine: str) -> List[Path]:
    """The wheels of requirements for a Python such as ``3.8`` and a machine, and pip's.

    Those that are not there are downloaded. Raises ModuleFailure if that fails.
    """
    tag = "cp" + python.replace(".", "")
    kept = Path(home(), "wheels", "{}-manylinux2014_{}".format(tag, machine))
    wanted = [*requirements, pip_pin()]
    kept.mkdir(parents=True, exist_ok=True)
    with _alone(kept):
        missing = [each for each in wanted if not _wheel(kept, each)]
        if missing:
            _download(missing, python, machine, kept)
    found = [_wheel(kept, each) for each in wanted]
    return [path for each in found for path in each]


@contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Have one process at a time download: the others find what it has."""
    with (kept / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wheel(kept: Path, requirement: str) -> List[Path]:
    """The wheel of a requirement; empty if it is not there."""
    name, _, version = requirement.partition("==")
    for path in kept.glob("*-{}-*.whl".format(version)):
        if normalized(path.name.partition("-")[0]) == normalized(name):
            return [path]
    return []


def _download(missing: Sequence[str], python: str, machine: str, kept: Path) -> None:
    with tempfile.TemporaryDirectory(dir=kept, prefix=".") as new:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-input", "--no-deps", "--only-binary=:all:", "--implementation", "cp",
            "--python-version", python, "--dest", new,
        ]  # fmt: skip
        for tag in ("cp" + python.replace(".", ""), "abi3", "none"):
            command += ["--abi", tag]
        for platform in ("manylinux2014_", "manylinux_2_17_"):
            command += ["--platform", platform + machine]
        done = subprocess.run(
            [*command, *missing], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise ModuleFailure(_not_downloaded(done.stdout))
        for path in Path(new).glob("*.whl"):
            path.replace(kept / path.name)


def _not_downloaded(output: str) -> str:
    said = [line for line in output.splitlines() if line.startswith("ERROR")] or [output.strip()]
    return (
        "this machine cannot download the target's packages: {}. It needs {} -m pip and a package "
        "index; pip's own settings name another index (PIP_INDEX_URL), or a folder of wheels "
        "(PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER). Nothing was changed".format(
            said[-1][:300], sys.executable
        )
    )


def engine() -> Dict[str, bytes]:
    """The files of runbook's own wheel by name; ModuleFailure where runbook is not installed.

    They are those that are installed here, or of the checkout.
    """
    try:
        known = metadata.distribution(RUNBOOK)
        package = util.find_spec("runbook")
    except metadata.PackageNotFoundError:
        package = None
    if package is None or not package.submodule_search_locations:
        raise ModuleFailure(
            "the loop's call from cron needs runbook on the target, and it is not installed here: "
            "run `runbook apply bootstrap.yml`, or give learner_command"
        )
    source = Path(package.submodule_search_locations[0])
    found = dict(_below(source, "runbook"))
    for part in PARTS:
        found.update(_below(COLLECTION / part, "ansible_collections/labeller/runbook/" + part))
    about = "labeller_runbook-{}.dist-info/".format(known.version)
    for name in ("METADATA", "entry_points.txt"):
        found[about + name] = (known.read_text(name) or "").encode()
    found[about + "WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: runbook\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    found[about + "RECORD"] = _record(found, about + "RECORD")
    return found


def _below(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    for each in files:
        if "__pycache__" not in each.parts and each.suffix != ".pyc":
            inner = "" if each == path else "/" + each.relative_to(path).as_posix()
            yield name + inner, each.read_bytes()


def _record(files: Dict[str, bytes], own: str) -> bytes:
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append("{},sha256={},{}\n".format(name, digest, len(content)))
    return "".join([*lines, own + ",,\n"]).encode()


def engine_version() -> str:
    """The version of runbook that is installed here."""
    return metadata.version(RUNBOOK)


def digest(files: Dict[str, bytes]) -> str:
    """The SHA-256 of the names and contents of a wheel, whatever its compression."""
    record = next(content for name, content in files.items() if name.endswith("/RECORD"))
    return hashlib.sha256(record).hexdigest()


def packed(files: Dict[str, bytes], kept: Path) -> Path:
    """The wheel of runbook in a folder."""
    path = kept / "labeller_runbook-{}-py3-none-any.whl".format(engine_version())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpacked(wheels: Sequence[Path]) -> int:
    """The bytes that wheels need on a disk: sent, unpacked, and as compiled modules."""
    total = 0
    for path in wheels:
        with zipfile.ZipFile(path) as archive:
            sizes = {each.filename: each.file_size for each in archive.infolist()}
        compiled = sum(size for name, size in sizes.items() if name.endswith(".py"))
        total += path.stat().st_size + sum(sizes.values()) + compiled
    return total
