"""Where runbook keeps its state: the sandbox, the journal, the private folders of runs."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
from collections.abc import Callable
from pathlib import Path

from runbook.errors import RunbookError


def home() -> Path:
    """``RUNBOOK_HOME``, or ``runbook`` in the XDG state folder; not necessarily there yet.

    Raises RunbookError when neither is set and the user has no home.
    """
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    found = expanded(os.environ.get("RUNBOOK_HOME") or f"{state}/runbook")
    if str(found).startswith("~"):
        raise RunbookError(f"there is no folder {found}; set RUNBOOK_HOME to a folder of your own")
    return found.absolute()


def operator() -> str:
    """Who is at work: ``RUNBOOK_OPERATOR``, for people who share a user, else user@machine."""
    return os.environ.get("RUNBOOK_OPERATOR") or f"{_user()}@{os.uname().nodename}"


def _user() -> str:
    if named := os.environ.get("USER") or os.environ.get("LOGNAME"):
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, where a user needs no name
        return str(os.getuid())


def own_folder(path: Path) -> Path:
    """``path``, a folder in ``home()``, made for this user alone if it is not there.

    Raises RunbookError when it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        effective = os.access in os.supports_effective_ids
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=effective):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise RunbookError(
            f"cannot write to {path} ({error.strerror}); set RUNBOOK_HOME to a folder of your own"
        ) from error
    return path


def sync(folder: Path) -> None:
    """Have the names in a folder survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """Write a file at once: a reader sees the old one or the new one. Raises OSError.

    ``mode``: its permissions, whatever the umask; by that unless given.
    """
    new = path.with_name(f".{path.name[:100]}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode or 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if mode:
                os.fchmod(descriptor, mode)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def is_file(path: Path) -> bool:
    """Whether ``path`` is a file; a name that the system refuses, as a too long one, is none."""
    return _answered(path.is_file)


def is_folder(path: Path) -> bool:
    """As ``is_file``, for folders."""
    return _answered(path.is_dir)


def is_pipe(path: Path) -> bool:
    """As ``is_file``, for pipes, as bash's ``<(...)``: what is read from one is gone afterwards."""
    return _answered(path.is_fifo)


def _answered(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:
        return False


def expanded(path: str) -> Path:
    """A path with ``~`` and ``~USER`` expanded; an unknown user's stays as it is written."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's fails of an unknown user


def is_locked(path: Path) -> bool:
    """Whether a process holds the exclusive lock on ``path``; OSError if it is not there."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
