# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files of the target: replaced whole or not at all, and only where that can succeed."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import tempfile
import time
from contextlib import suppress
from typing import Any, Sequence

from .change import Change
from .errors import ModuleFailure, Stale

#: Bytes; with fewer left on a disk, nothing is begun that writes to it.
ROOM = 256 << 10
#: How the names of new versions of files begin, before they take the place of the old ones.
TEMPORARY = ".runbook-temporary-"
#: Seconds after which a file is taken for what a killed module left.
STALE = 24 * 3600


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
    around, found = _stat(folder), _stat(path)
    if around is None:
        raise ModuleFailure("cannot write {}: there is no folder {}".format(path, folder))
    if found and stat.S_ISDIR(found.st_mode):
        raise ModuleFailure("cannot write {}: it is a folder".format(path))
    for place, known in ((folder, around), (path, found)):
        if known and not os.access(
            place, os.W_OK, effective_ids=os.access in os.supports_effective_ids
        ):
            raise ModuleFailure("cannot write {}: this user may not write {}".format(path, place))
    groups = (os.getegid(), *os.getgroups())
    if found and not (_is_own(found) and (os.geteuid() == 0 or found.st_gid in groups)):
        raise ModuleFailure(
            "cannot write {}: it belongs to {}, and would not any more; run the step as that user "
            "or as root (become)".format(path, _owner(found))
        )
    try:
        require_room(folder)
    except OSError as error:
        raise ModuleFailure(
            "cannot write {}: {}; nothing was changed. Free space there".format(
                path, error.strerror
            )
        ) from error


def require_room(folder: str) -> None:
    """Raise OSError unless this user can write ``ROOM`` bytes to the folder's disk."""
    disk = os.statvfs(folder)
    blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    if blocks * disk.f_frsize < ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_temporary(error: OSError) -> ModuleFailure:
    """The failure of a step that cannot write a temporary file."""
    return ModuleFailure(
        "cannot write a temporary file in {}: {}; nothing was changed by this step. Free space "
        "there, then run it again".format(temporary_folder(), error.strerror or error)
    )


def temporary_folder() -> str:
    """Where temporary files are, or would be on a disk that is not full."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "/tmp")  # noqa: S108


def _stat(path: str) -> os.stat_result | None:
    """The file at ``path``, None for nothing; ModuleFailure when that cannot be known."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModuleFailure("cannot look at {}: {}".format(path, error.strerror)) from error


def _is_own(found: os.stat_result) -> bool:
    """Whether this user may change a file's mode and owner."""
    return os.geteuid() in (0, found.st_uid)


def _owner(found: os.stat_result) -> str:
    """User and group of a file, by name where they have one."""
    user, group = str(found.st_uid), str(found.st_gid)
    with suppress(KeyError):
        user = pwd.getpwuid(found.st_uid).pw_name
    with suppress(KeyError):
        group = grp.getgrgid(found.st_gid).gr_name
    return "{}:{}".format(user, group)


def require_same(name: str, before: bytes | None, now: bytes | None) -> None:
    """Raise Stale when the content was changed after it was read for a decision."""
    if before != now:
        raise Stale(
            "{}: another process changed it while this step worked; nothing was changed by this "
            "step. Run the same command again".format(name)
        )


def replace(path: str, content: bytes, mode: int | None = None) -> None:
    """Put ``content`` in place of the file in one step; its owner stays, and its mode unless given.

    A new file gets ``mode``, 0600 by default. A symbolic link stays one: its target is replaced.
    """
    path = os.path.realpath(path)
    try:
        before = os.stat(path) if os.path.exists(path) else None
        if mode is None:
            mode = stat.S_IMODE(before.st_mode) if before else 0o600
        remove_stale(os.path.dirname(path), TEMPORARY)
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=TEMPORARY)
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
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise ModuleFailure("cannot write {}: {}".format(path, error.strerror)) from error


def remove_stale(folder: str, prefix: str) -> None:
    """Remove files that killed modules of this user left in a folder a day ago or earlier."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if found.st_uid == os.geteuid() and time.time() - found.st_mtime > STALE:
                        os.remove(entry.path)


def executable_changes(paths: Sequence[str]) -> list[Change]:
    """The changes that make those of ``paths`` that exist executable for who may read them.

    daemonNanny.sh refuses a script without the bit, and git holds worker_notification_daemon.py
    without it (docs/labeller.md 4.1).
    """
    changes = []
    for path in paths:
        found = _stat(path)
        if found and stat.S_ISREG(found.st_mode):
            mode = stat.S_IMODE(found.st_mode)
            change = Change(path, "modify", mode_text(mode), mode_text(_with_execute(mode)))
            if change.changed and not _is_own(found):
                raise ModuleFailure(
                    "cannot make {} executable: it belongs to {}; run the step as that user or as "
                    "root (become)".format(path, _owner(found))
                )
            changes.append(change)
    return [change for change in changes if change.changed]


def mode_text(mode: int | None) -> str:
    """A file's mode in a diff; empty for no file."""
    return "" if mode is None else "mode: {:04o}\n".format(mode)


def mode(path: str) -> int | None:
    """A file's mode; None for no file."""
    found = _stat(path)
    return None if found is None else stat.S_IMODE(found.st_mode)


def mode_of(change: Change) -> dict[str, Any]:
    """One of ``executable_changes`` for the target's journal."""
    before, after = (int(text.split()[1], 8) for text in (change.before, change.after))
    return {"path": change.resource, "before": before, "after": after}


def make_executable(path: str) -> None:
    """Apply one of ``executable_changes``."""
    try:
        os.chmod(path, _with_execute(stat.S_IMODE(os.stat(path).st_mode)))
    except OSError as error:
        raise ModuleFailure("cannot make {} executable: {}".format(path, error.strerror)) from error


def _with_execute(mode: int) -> int:
    return mode | 0o100 | (mode & 0o444) >> 2


def existing_folder(folder: str) -> str:
    """The folder, or the nearest one above it that is there; NotADirectoryError for a file."""
    while not os.path.isdir(folder):
        if os.path.lexists(folder):
            raise NotADirectoryError(errno.ENOTDIR, "{} is no folder".format(folder))
        folder = os.path.dirname(folder)
    return folder


def make_private(folder: str) -> None:
    """Make the folder and those above it that are missing for this user alone, names on disk.

    Whatever the umask; NotADirectoryError where a file is in its way.
    """
    while not os.path.isdir(folder):
        there = existing_folder(folder)
        missing = os.path.join(there, os.path.relpath(folder, there).split(os.sep)[0])
        with suppress(FileExistsError):  # another process was faster
            os.mkdir(missing, 0o700)
            os.chmod(missing, 0o700)
            sync_folder(there)


def sync_folder(folder: str) -> None:
    """Make the names of a folder's files durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
