"""The journal: one folder a run below ``RUNBOOK_HOME/runs``, without secrets.

``events.jsonl`` grows while the run goes on, each line flushed and synced; ``input.json``, what the
run was given, is written before its real run begins; ``result.json`` is written when it ends, so a
run without it was killed. The names of folder and files are synced too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode, InvalidInputError
from runbook.events.model import Event, Progress, Recap, Result, RunFinished, from_json, now
from runbook.home import home, is_locked, own_folder, sync, write_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path


#: What ``prune`` keeps unless the environment says otherwise.
KEEP = {"RUNBOOK_KEEP_DAYS": 90, "RUNBOOK_KEEP_RUNS": 200}


#: The newest reports of bugs that ``keep_crash`` leaves.
CRASHES = 50


class Journal:
    """Subscribes to the events of one run.

    ``quiet``: if it finds nothing to do, it takes the place of one before it that did not either,
    as most calls of the loop.
    """

    def __init__(self, run_id: str, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.folder = own_folder(path(run_id))
        self._events = self._create("events.jsonl")
        sync(self.folder)
        sync(self.folder.parent)
        fcntl.flock(self._events, fcntl.LOCK_EX)  # until the process ends: see ``prune``

    def __call__(self, event: Event) -> None:
        """Keep one event; how far a step was at some second is of no use later.

        An OSError, as of a full disk, names the run's folder.
        """
        if not isinstance(event, Progress):
            with self._named():
                self._keep(event)

    def keep_input(self, given: Mapping[str, Any]) -> None:
        """Keep what the real run that now begins is given; OSError as of an event."""
        with self._named():
            self._write("input.json", given)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Have an OSError name the run's folder."""
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self.folder)
            raise

    def _keep(self, event: Event) -> None:
        if isinstance(event, Result):
            self._write("result.json", event.as_json())
            os.close(self._events)
            if self._quiet:
                self._replace(event.as_json())
            return
        os.write(self._events, (json.dumps(event.as_json(), ensure_ascii=False) + "\n").encode())
        os.fdatasync(self._events)

    def _replace(self, ended: Mapping[str, Any]) -> None:
        """Remove the run before this one if neither found anything to do on the same hosts."""
        for before in [each for each in _folders() if each.name < self.folder.name][-1:]:
            with contextlib.suppress(InvalidInputError):
                found = _ended(before)
                if found and _idle(found) is not None and _idle(found) == _idle(ended):
                    shutil.rmtree(before, ignore_errors=True)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a file, whole or not at all."""
        new = f"{name}.new"
        with os.fdopen(self._create(new), "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        (self.folder / new).replace(self.folder / name)
        sync(self.folder)

    def _create(self, name: str) -> int:
        return os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def new_run_id() -> str:
    """A run's id: its start in UTC, and a suffix that makes it unique."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(3).hex()}"


def path(run_id: str) -> Path:
    """The folder of a run."""
    return home() / "runs" / run_id


def kept(name: str) -> int:
    """The number in the environment variable ``name`` of ``KEEP``, else its default."""
    text = os.environ.get(name, "").strip() or str(KEEP[name])
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise InvalidInputError(f"{name} is {text!r}; expected a whole number from 1 to 999999")
    return int(text)


def prune() -> list[str]:
    """Remove runs older than ``RUNBOOK_KEEP_DAYS``, but not the newest ``RUNBOOK_KEEP_RUNS``.

    Those that ``needed_backups`` names stay, and those that still run. Oldest first, so that a
    failed run is never left without the later one that made its backup dispensable. Gives the ids
    of the removed ones.
    """
    oldest = f"{datetime.now(UTC) - timedelta(days=kept('RUNBOOK_KEEP_DAYS')):%Y%m%dT%H%M%S}"
    old = [f for f in _folders()[: -kept("RUNBOOK_KEEP_RUNS")] if f.name < oldest]
    needed = set(needed_backups().values()) if old else set()
    removed = []
    for folder in old:
        if folder.name not in needed and not _running(folder):
            shutil.rmtree(folder)
            removed.append(folder.name)
    return removed


#: What stands for the id of the last run.
NEWEST = "newest"
_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")


@dataclass(frozen=True)
class Kept:
    """A run as it is kept: what its real run was ``given``, None before one; its result, if any.

    ``running``: its process is there.
    """

    run_id: str
    given: Mapping[str, Any] | None
    ended: Mapping[str, Any] | None
    running: bool

    @property
    def ended_well(self) -> bool:
        """Whether it came to its end, with exit code 0."""
        return self.ended is not None and self.ended["exit_code"] == ExitCode.OK

    def events(self) -> Iterator[Event]:
        """Its events, up to where a killed process stopped writing, and its result."""
        for each in _whole_lines(path(self.run_id)):
            yield from_json(each)
        if self.ended:
            yield from_json(self.ended)

    @property
    def unfinished(self) -> frozenset[str]:
        """The hosts where a real run left something to do; empty where that is not known.

        It is not of a run that was killed, or whose check could not see all of what it does.
        """
        bad: set[str] = set()
        found: set[str] = set()
        for event in self.events():
            if isinstance(event, Recap):
                bad = {host for host, counts in event.hosts.items() if counts.bad}
            elif isinstance(event, RunFinished):
                if event.unchecked:
                    return frozenset()
                found = set() if event.check else bad | event.left.keys()
        return frozenset(found)


def named(run: str) -> Kept:
    """The run with an id, or the beginning of one; ``newest``. Raises InvalidInputError."""
    found = [each for each in runs() if run == NEWEST or each.run_id.startswith(run)]
    if found and (len(found) == 1 or run == NEWEST):
        return found[0]
    if found:
        raise InvalidInputError(
            f"several runs begin with {run}: {', '.join(each.run_id for each in found)}"
        )
    raise InvalidInputError(
        f"there is no run {run} in this machine's journal, {path('')}: runbook history -i TARGET "
        "names who ran it, where its journal is"
    )


def runs() -> Iterator[Kept]:
    """The runs, the newest first."""
    for folder in reversed(_folders()):
        yield Kept(folder.name, _read(folder / "input.json"), _ended(folder), _running(folder))


def _folders() -> list[Path]:
    """The folders of the runs, the oldest first."""
    return [f for f in sorted((home() / "runs").glob("*/")) if _RUN_ID.fullmatch(f.name)]


def _running(folder: Path) -> bool:
    try:
        return is_locked(folder / "events.jsonl")
    except FileNotFoundError:
        return False


def last_as_declared(
    playbook: str, target: str, hosts: Collection[str] = ()
) -> dict[str, Any] | None:
    """The newest run after which ``hosts`` were as the playbook says: ``run_id`` and ``at``.

    It ended well on all of them, or found nothing to change. None when no such run is kept.
    """
    for folder in reversed(_folders()):
        ended = _ended(folder)
        if ended and ended["exit_code"] == ExitCode.OK and ended["target"] == target:
            same = PurePath(ended["playbook"]).stem == PurePath(playbook).stem
            same = same and {*hosts} <= ended["hosts"].keys()
            if same and not (ended["check"] and ended["changed"]):
                return {"run_id": folder.name, "at": ended["at"]}
    return None


def keep_drift(target: str, found: Mapping[str, Any]) -> None:
    """Keep what was last found to differ on a target. Raises OSError."""
    own_folder(home() / "drift")
    write_whole(_drift(target), json.dumps({"at": now(), **found}))


def last_drift(target: str) -> dict[str, Any] | None:
    """The last result of ``keep_drift``, with its time ``at``; None of a file that a crash left."""
    with contextlib.suppress(InvalidInputError):
        return _read(_drift(target))
    return None


def _drift(target: str) -> Path:
    """The file of a target, which may be named by a path."""
    name = hashlib.sha256(os.fsencode(target)).hexdigest()[:32]
    return home() / "drift" / f"{name}.json"


def needed_backups() -> dict[str, str]:
    """The backups of runs that were killed or failed, each with the run that points to it.

    Only until the same playbook has ended well on the same host of the target.
    """
    needed: dict[tuple[str, str, str], dict[str, str]] = {}
    for folder in sorted((home() / "runs").glob("*/")):
        ended = _ended(folder)
        if ended and ended["check"]:
            continue
        if ended and ended["exit_code"] == ExitCode.OK:
            for host in ended["hosts"]:
                needed.pop((ended["playbook"], ended["target"], host), None)
            continue
        for about, backup_id in _backups(folder):
            needed.setdefault(about, {})[backup_id] = folder.name
    return {backup_id: run for found in needed.values() for backup_id, run in found.items()}


def _idle(ended: Mapping[str, Any]) -> tuple[str, str, list[str]] | None:
    """Playbook, target and hosts of a run that ended well with nothing to do; else None."""
    if ended["changed"] or not ended["check"] or ended["exit_code"] != ExitCode.OK:
        return None
    return ended["playbook"], ended["target"], sorted(ended["hosts"])


def _ended(folder: Path) -> dict[str, Any] | None:
    return _read(folder / "result.json")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InvalidInputError(
            f"{file}: not as runbook wrote it: {error}. Remove {file.parent} if nothing of it is "
            "needed"
        ) from error
    return found


def _backups(folder: Path) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Playbook, target and host, and a backup, for every step of a real run that reports one."""
    about = None
    for event in _whole_lines(folder):
        if event["event"] == "run_started":
            about = None if event["check"] else (event["playbook"], event["target"])
        elif about and event.get("backup_id"):
            yield (*about, event["host"]), event["backup_id"]


def _whole_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of a run as JSON, up to the line that a killed process left."""
    try:
        text = (folder / "events.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:  # killed before it could write
        return
    for line in text.split("\n")[:-1]:  # not splitlines: texts in JSON hold other ends of lines
        yield json.loads(line)


def keep_crash(text: str) -> Path:
    """Keep the traceback of a bug in a file of its own; gives its path.

    Of the reports only the newest ``CRASHES`` stay: cron may come upon a bug every five minutes.
    """
    place = own_folder(home() / "crashes") / f"{new_run_id()}.txt"
    place.write_text(text, encoding="utf-8")
    place.chmod(0o600)
    for old in sorted(place.parent.glob("*-*.txt"))[:-CRASHES]:
        old.unlink(missing_ok=True)
    return place
