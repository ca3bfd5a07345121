"""No room for a temporary file: steps that need one fail with a message, and change nothing."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import (
    files,
    httpd,
    staged_upload,
)
from ansible_collections.labeller.runbook.plugins.module_utils.errors import ModuleFailure

Disk = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Makes the folder of temporary files a disk with these options of mount."""

    def made(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs root, and that mounting is permitted")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    yield made
    subprocess.run(["umount", "--lazy", str(tmp_path)], capture_output=True)


def refusal(folder: Path) -> str:
    return (
        f"cannot write a temporary file in {folder}: No space left on device; nothing was changed "
        "by this step. Free space there, then run it again"
    )


def test_the_output_of_sudo(disk: Disk, tmp_path: Path) -> None:
    disk("nr_inodes=1")
    with pytest.raises(ModuleFailure) as caught:
        httpd.run({"name": "no-such-service"}, True)
    assert str(caught.value) == refusal(tmp_path)


@pytest.mark.parametrize("more", [100, staged_upload.PART])
def test_an_object_of_a_transaction(disk: Disk, tmp_path: Path, more: int) -> None:
    """Also where only the end of it, which Python would keep in memory, finds no room."""
    room = staged_upload.PART + 2**16
    disk(f"size={room}")
    body = staged_upload.Body(keep=True)
    body.write(bytes(room))

    def end() -> None:
        body.write(bytes(more))
        body.finished(rows=1)

    with pytest.raises(ModuleFailure) as caught:
        end()
    assert str(caught.value) == refusal(tmp_path)


def test_a_new_version_that_a_killed_module_left_goes_after_a_day(tmp_path: Path) -> None:
    """It may hold the secrets of config.yaml. A folder is none, nor is a file of the operator's."""
    file = tmp_path / "config.yaml"
    old, new, other = (
        tmp_path / name
        for name in (".runbook-temporary-a", ".runbook-temporary-b", ".runbook-vault")
    )
    for left in (old, new, other):
        left.touch()
    (tmp_path / ".runbook-temporary-c").mkdir()
    for left in (old, other, tmp_path / ".runbook-temporary-c"):
        os.utime(left, (0, 0))
    files.replace(str(file), b"a: 1\n")
    assert {each.name for each in tmp_path.iterdir()} == {
        "config.yaml", ".runbook-temporary-b", ".runbook-temporary-c", ".runbook-vault",
    }  # fmt: skip
