# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files of the target: replaced whole or not at all, and only where that can succeed."""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Sequence

from .change import Change
from .errors import ModuleFailure


def read(path: str) -> bytes | None:
    """The file's content, None when there is none; ModuleFailure when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModuleFailure("cannot read {}: {}".format(path, error.strerror)) from error


def check_writable(path: str) -> None:
    """ModuleFailure when ``path`` cannot be replaced, said before anything is changed."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise ModuleFailure("cannot write {}: there is no folder {}".format(path, folder))
    if os.path.isdir(path):
        raise ModuleFailure("cannot write {}: it is a folder".format(path))
    for place in (folder, path):
        if os.path.exists(place) and not os.access(
            place, os.W_OK, effective_ids=os.access in os.supports_effective_ids
        ):
            raise ModuleFailure("cannot write {}: this user may not write {}".format(path, place))


def replace(path: str, content: bytes, mode: int | None = None) -> None:
    """Put ``content`` in place of the file in one step; its owner stays, and its mode unless given.

    A new file gets ``mode``, 0600 by default. A symbolic link stays one: its target is replaced.
    """
    path = os.path.realpath(path)
    try:
        before = os.stat(path) if os.path.exists(path) else None
        if mode is None:
            mode = stat.S_IMODE(before.st_mode) if before else 0o600
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".runbook-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                if before and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(os.path.dirname(path))
    except OSError as error:
        raise ModuleFailure("cannot write {}: {}".format(path, error.strerror)) from error


def executable_changes(paths: Sequence[str]) -> list[Change]:
    """The changes that make those of ``paths`` that exist executable for who may read them.

    daemonNanny.sh refuses a script without the bit, and git holds worker_notification_daemon.py
    without it (reference 2.17).
    """
    changes = []
    for path in paths:
        if os.path.isfile(path):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            text = "mode: {:04o}\n"
            changes.append(
                Change(path, "modify", text.format(mode), text.format(_with_execute(mode)))
            )
    return [change for change in changes if change.changed]


def make_executable(path: str) -> None:
    """Apply one of ``executable_changes``."""
    try:
        os.chmod(path, _with_execute(stat.S_IMODE(os.stat(path).st_mode)))
    except OSError as error:
        raise ModuleFailure("cannot make {} executable: {}".format(path, error.strerror)) from error


def _with_execute(mode: int) -> int:
    return mode | 0o100 | (mode & 0o444) >> 2


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
