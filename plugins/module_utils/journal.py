# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The target's journal: what each run changes here, written before and after each change.

A file a run, of JSON lines, in a folder of the user that the modules run as. ``begun`` writes the
*intent* of a step: who, what, and in a line before it the *image*, what undoing it needs; both in
one write, synced, before anything is changed. Its end is the *outcome*. A line that a killed writer
left torn is skipped by readers (``journal_read``), and the next writer begins a new line.

The folder is found by the passwd database: cron and ssh give other environments than a login, and
XDG_STATE_HOME in one of them would split the journal.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import re
import secrets
import stat
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Type

from . import files, held, journal_read
from .change import result
from .errors import InvalidInput, ModuleFailure

if TYPE_CHECKING:
    from types import TracebackType

    from .change import Change

#: The option of every module (``module.Module`` adds it).
ARGUMENT: Dict[str, Any] = {
    "journal": {
        "type": "dict",
        "options": {
            "run": {"type": "str", "required": True},
            "operator": {"type": "str", "default": ""},
            "playbook": {"type": "str", "default": ""},
            "plan": {"type": "str", "default": ""},
            "task": {"type": "str", "default": ""},
            "host": {"type": "str", "default": ""},
            "module": {"type": "str", "default": ""},
            "folder": {"type": "str", "default": ""},
        },
    }
}

#: Below the user's home.
FOLDER = ".local/state/runbook/journal"
#: Runs are kept for so many days, and the newest ones longer.
KEEP_DAYS = 400
KEEP_RUNS = 1000

_RUN_ID = re.compile(journal_read.RUN_ID)


def location(given: Optional[str]) -> str:
    """The journal's folder: the one given, else the user's own."""
    if given:
        return os.path.abspath(given)
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise ModuleFailure(
            "the user with number {} has no home on this host for the journal of what is changed; "
            "name its folder by journal_folder".format(os.geteuid())
        ) from None
    return os.path.join(home, FOLDER)


class Entry:
    """A step's entry in the journal, as a context: its end is the outcome of the step.

    Without ``path``, for a step that changes nothing, nothing is written.
    """

    def __init__(self, path: str, about: Mapping[str, Any], masked: Callable[[Any], Any]) -> None:
        self._path, self._about, self._masked = path, about, masked
        #: What only the end knows, for the outcome.
        self.facts: Dict[str, Any] = {}

    def __enter__(self) -> Entry:
        return self

    def __exit__(
        self,
        _type: Optional[Type[BaseException]],
        error: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> None:
        if not self._path:
            return
        if error is None:
            self._end("done")
            return
        kind = getattr(error, "kind", "failed")
        with suppress(ModuleFailure):  # the error that comes on says more
            self._end(getattr(error, "outcome", "failed"), kind=kind, message=str(error))

    def _end(self, outcome: str, **more: str) -> None:
        record = {**self._about, "at": _now(), "outcome": outcome, **self.facts, **more}
        try:
            _append(self._path, [self._masked(record)])
        except OSError as error:
            raise ModuleFailure(
                "this step is done, and the journal {} does not say so: {}; free space or correct "
                "its owner, then run the same command again, which does the rest".format(
                    self._path, error.strerror
                )
            ) from error


def begun(
    params: Mapping[str, Any], changes: Sequence[Change], image: Any = None, **facts: Any
) -> Entry:
    """Write the intent of a step that is about to make ``changes``; its entry.

    ``image`` is what undoing them needs, the only place for secrets; ``facts`` are more that the
    entry says. Raises ModuleFailure when it cannot be written: then nothing may be changed.
    """
    about = params.get("journal")
    if not about or not any(change.changed for change in changes):
        return Entry("", {}, dict)
    masked = about.get("masked", lambda value: value)
    said = {name: about.get(name) or "" for name in journal_read.ABOUT}
    given = {"lease": params.get("lease"), "plan": about.get("plan")}
    said.update((name, value) for name, value in given.items() if value)
    entry = {"entry": secrets.token_hex(6)}
    whole = held.of_result(result(changes))
    short = [
        {
            **{name: change[name] for name in ("resource", "action", "counts")},
            **({"volatile": True} if each.volatile else {}),
        }
        for change, each in zip(whole, changes)
        if each.changed
    ]
    records = [
        {"image": image, **entry},
        masked({"changes": whole, **entry}),
        masked({"intent": short, **entry, **said, **facts, "at": _now()}),
    ]
    path = _file(about)
    try:
        if _append(path, records):
            _prune(os.path.dirname(path), os.path.basename(path))
    except OSError as error:
        raise _unwritable(path, error) from error
    return Entry(path, entry, masked)


def require_writable(params: Mapping[str, Any], changes: Sequence[Change]) -> None:
    """In a check: ModuleFailure when it can be seen that ``begun`` would fail."""
    about = params.get("journal")
    if not about or not any(change.changed for change in changes):
        return
    path = _file(about)
    folder = os.path.dirname(path)
    try:
        if os.path.isdir(folder):
            _require_own(folder)
            if os.path.exists(path):
                _require_own(path)
        else:
            folder = files.existing_folder(folder)
        _require_room(folder)
    except OSError as error:
        raise _unwritable(path, error) from error


def _require_room(folder: str) -> None:
    """Raise OSError unless this user can write so much to the folder's disk."""
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, "this user cannot write {}".format(folder))
    files.require_room(folder)


def ended(params: Mapping[str, Any]) -> None:
    """Note that the run has come to its end; nothing for a run that changed nothing here."""
    about = params.get("journal")
    if about and os.path.exists(_file(about)):
        path = _file(about)
        try:
            _append(path, [{"end": True, "host": about.get("host") or "", "at": _now()}])
        except OSError as error:
            raise _unwritable(path, error) from error


def _unwritable(path: str, error: OSError) -> ModuleFailure:
    return ModuleFailure(
        "cannot write the journal {}: {}; nothing was changed, for no step changes the target "
        "without a record of it. Free space or correct owner and mode of its folder, or name "
        "another by journal_folder".format(path, error.strerror or error)
    )


def _file(about: Mapping[str, Any]) -> str:
    """The file of a run."""
    if not _RUN_ID.fullmatch(about["run"]):
        raise InvalidInput(
            "journal.run is {!r}; expected a run's id, such as 20260114T093012-3f9a1c".format(
                about["run"]
            )
        )
    return os.path.join(location(about.get("folder")), about["run"] + journal_read.SUFFIX)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _append(path: str, records: List[Dict[str, Any]]) -> bool:
    """Add records in one write, synced; whether the file is new. OSError leaves it as it was."""
    folder = os.path.dirname(path)
    _make(folder)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _require_own(path)
        os.fchmod(descriptor, 0o600)
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        lines = [json.dumps(record, separators=(",", ":")) for record in records]
        _write(descriptor, ("\n" * torn + "\n".join(lines) + "\n").encode("ascii"), size)
    finally:
        os.close(descriptor)
    if size == 0:
        files.sync_folder(folder)
    return size == 0


def _write(descriptor: int, content: bytes, size: int) -> None:
    """Write all in one call, synced, or nothing: OSError."""
    try:
        written = os.write(descriptor, content)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    if written < len(content):
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _make(folder: str) -> None:
    """Make the folder for this user alone; PermissionError for another's.

    One that holds other files too keeps its mode: others may need them, as a web server does.
    """
    files.make_private(folder)
    if _require_own(folder) & 0o077 and not journal_read.others(folder):
        os.chmod(folder, 0o700)


def _require_own(path: str) -> int:
    """The mode of a folder or file of this user; PermissionError for another's."""
    found = os.stat(path)
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "{} belongs to another user".format(path))
    return stat.S_IMODE(found.st_mode)


def _prune(folder: str, new: str) -> None:
    """Remove runs older than KEEP_DAYS, but not the newest KEEP_RUNS, nor any that did not end.

    A run is old if this host's clock and the operator's, which the id has, both say so.
    """
    oldest = datetime.now(timezone.utc) - timedelta(days=KEEP_DAYS)
    limit = "{:%Y%m%dT%H%M%S}".format(oldest)
    for run in journal_read.runs(folder)[KEEP_RUNS:]:
        name = run + journal_read.SUFFIX
        old = name != new and max(run, journal_read.began(folder, run)) < limit
        if old and not journal_read.unfinished(os.path.join(folder, name)):
            os.unlink(os.path.join(folder, name))
