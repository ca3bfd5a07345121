# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The changes of a run, from the images in the target's journal: before it, and as it left it.

A run may change a resource several times, and may have been killed in any of its steps. So of each
resource the state before the first change is kept, and every state that the run gave it: where a
resource is in one of those, it was not changed since.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import journal, journal_read, marker
from ..errors import InvalidInput, Refused

#: The option ``force``: parts whose later changes are overwritten.
PARTS = ("grid", "tables", "settings", "files", "crontab")

#: The options of a state that undoes a part of a run.
ARGUMENTS: Dict[str, Any] = {
    "run": {"type": "str", "default": ""},
    "force": {"type": "list", "elements": "str", "choices": list(PARTS), "default": []},
}

#: The playbook that undoes runs.
PLAYBOOK = "undo.yml"

#: A resource: its kind and where it is.
Key = Tuple[str, ...]
#: Steps that leave nothing to undo, and those of which only this can be said.
_HARMLESS = {"s3_table_backup": "back up"}
_LEFT = {
    "emr_learner": "the learner's cluster and what it cost",
    "target_environment": "the environment for modules, which target_environment=absent removes",
    "s3_table_backup": "backups that were removed",
}


@dataclass
class States:
    """The states of a resource: before the run, and those that the run gave it."""

    before: Any
    given: List[Any] = field(default_factory=list)

    def accepts(self, now: Any) -> bool:
        """Whether a state is one of the run's or the one before it."""
        return now in (self.before, *self.given)


@dataclass
class Record:
    """A run's changes by resource; ``left`` says in words what cannot be undone.

    ``tables``: by name the states that the run left, each with rows and fingerprint; ``backup``:
    which one holds them as they were. ``cells``: entries of ``availability.cells_changed``, the
    first first. ``daemons``: those that ran before the run, None if it stopped and started none;
    ``started``: others that it started.
    """

    run: str
    about: Mapping[str, Any]
    since: Sequence[Mapping[str, Any]]
    places: Dict[Key, States] = field(default_factory=dict)
    tables: Dict[str, List[Any]] = field(default_factory=dict)
    backup: Optional[Mapping[str, str]] = None
    settings: Dict[str, States] = field(default_factory=dict)
    cells: List[Mapping[str, Any]] = field(default_factory=list)
    daemons: Optional[List[str]] = None
    started: List[str] = field(default_factory=list)
    left: List[str] = field(default_factory=list)

    @property
    def stops(self) -> bool:
        """Whether labeller must be out of service while the run is undone."""
        return bool(self.tables or self.of_kind("crontab"))

    def of_kind(self, *kinds: str) -> Dict[Key, States]:
        """The places of these kinds."""
        return {key: states for key, states in self.places.items() if key[0] in kinds}


def of(params: Mapping[str, Any]) -> Record:
    """The changes of the run that ``params`` name, on this host.

    Raises InvalidInput for a run that the journal does not have, and Refused for one whose tables
    no backup of its own holds.
    """
    about = params.get("journal") or {}
    folder, host = journal.location(about.get("folder")), about.get("host")
    run = _named(folder, params["run"], host)
    steps = [
        step
        for step in reversed(list(journal_read.images(folder, run)))
        if not host or step["host"] == host
    ]
    if not steps:
        raise InvalidInput("run {} changed nothing on {}".format(run, host))
    record = Record(run, steps[0], _since(folder, run, host))
    for step in steps:
        _take(record, step)
    _complete(record)
    return record


def _named(folder: str, run: str, host: Optional[str]) -> str:
    """A run's whole id. ``newest`` is the last one of this host that is no undo itself.

    So the same command, given again, completes an undo that was killed. Raises InvalidInput.
    """
    if not run:
        raise InvalidInput("which run is undone? Name it: `runbook history` lists them")
    if run != "newest":
        return journal_read.named(folder, run)
    for each in journal_read.in_order(folder):
        steps = journal_read.stored(folder, each).steps
        hosts = {step["host"] for step in steps}
        if steps and steps[0]["playbook"] != PLAYBOOK and (not host or host in hosts):
            return each
    raise InvalidInput("the journal {} has no run to undo".format(folder))


def _since(folder: str, run: str, host: Optional[str]) -> List[Mapping[str, Any]]:
    """The later runs that changed this host, the newest first."""
    later = itertools.takewhile(run.__ne__, journal_read.in_order(folder))
    found = (journal_read.stored(folder, each) for each in later)
    rows = (journal_read.row(each) for each in found if each.steps)
    return [row for row in rows if not host or host in row["hosts"]]


def _take(record: Record, step: Mapping[str, Any]) -> None:
    image = step.get("image")
    if image:
        if not _is_known(image):
            raise Refused(
                "run {} cannot be undone: its step {!r} was journaled by another version of "
                "runbook, which did not keep what undo needs".format(record.run, step["task"])
            )
        _KINDS[image["kind"]](record, image)
        return
    actions = {resource["action"] for resource in step["resources"]}
    if actions - {_HARMLESS.get(step["module"])}:
        record.left.append("{} ({})".format(_LEFT.get(step["module"], "its changes"), step["task"]))


def _place(record: Record, key: Key, before: Any, after: Any) -> None:
    record.places.setdefault(key, States(before)).given.append(after)


def _crontab(record: Record, image: Mapping[str, Any]) -> None:
    key = ("crontab", image["crontab_file"] or "", image["user"] or "")
    _place(record, key, image["before"], image["after"])
    for each in image.get("modes", ()):
        _place(record, ("mode", each["path"]), each["before"], each["after"])


def _daemons(record: Record, image: Mapping[str, Any]) -> None:
    if record.daemons is None:
        record.daemons = list(image["before"])
    record.started = sorted({*record.started, *image["after"]}.difference(record.daemons))


def _configuration(record: Record, image: Mapping[str, Any]) -> None:
    if "file" in image:
        each = image["file"]
        _place(record, ("configuration", each["path"]), each["before"], each["after"])
    if "copy" in image:
        each = image["copy"]
        key = ("configuration on S3", each["bucket"], each["key"])
        _place(record, key, each["before"], each["after"])


def _object(record: Record, image: Mapping[str, Any]) -> None:
    _place(record, ("object", image["bucket"], image["key"]), image["before"], image["after"])


def _places(record: Record, image: Mapping[str, Any]) -> None:
    for each in image["places"]:
        _place(record, tuple(each["key"]), each["before"], each["after"])


def _database(record: Record, image: Mapping[str, Any]) -> None:
    record.backup = record.backup or image.get("backup")
    for name, state in image.get("tables", {}).items():
        record.tables.setdefault(name, []).append(state)
    if image.get("run") and set(image.get("tables", ())) & set(marker.RUN_TABLES):
        for name in marker.RUN_TABLES:
            record.tables.setdefault(name, [])
    for each in image.get("objects", ()):
        _place(record, ("copy", each["bucket"], each["key"]), each["before"], each["after"])
    record.cells += image.get("cells", ())
    settings = image.get("settings") or {"before": {}, "after": {}, "secret": []}
    for key, before in settings["before"].items():
        record.settings.setdefault(key, States(before)).given.append(settings["after"][key])
    if settings["secret"]:
        record.settings.setdefault("", States(None)).given += settings["secret"]


_KINDS: Dict[str, Callable[[Record, Mapping[str, Any]], None]] = {
    "crontab": _crontab,
    "daemons": _daemons,
    "configuration": _configuration,
    "object": _object,
    "places": _places,
    "database": _database,
}


def _is_known(image: Mapping[str, Any]) -> bool:
    """Whether an image has what undo needs; those of early versions lack some of it."""
    lacks = image["kind"] == "database" and "tables" not in image
    return image["kind"] in _KINDS and not lacks and "mode" not in image.get("file", {})


def _complete(record: Record) -> None:
    """Settings come from the backup if there is one; what nothing holds is refused, or said."""
    secret = record.settings.pop("", None)
    if record.backup:
        record.settings.clear()
    else:
        if record.settings or secret:
            record.tables.pop("configuration", None)
        if secret:
            names = ", ".join(sorted(set(secret.given)))
            record.left.append("the secret settings {}, which no journal holds".format(names))
        if record.tables:
            raise Refused(
                "run {} ({}) cannot be undone: it made no backup of the tables that it wrote, {}; "
                "restore.yml restores them from an older backup".format(
                    record.run, record.about["playbook"], ", ".join(sorted(record.tables))
                )
            )
    for key, states in record.of_kind("copy").items():
        if states.before["is"] and not states.before["kept"]:
            record.left.append("s3://{}/{}, of which no copy was kept".format(*key[1:]))
            del record.places[key]
