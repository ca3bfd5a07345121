# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files, crontab and S3 objects of a run put back as they were before it (``record``).

A place that is in no state that the run gave it was changed since: it is refused, unless its part
is forced. One that is as before the run already counts as done, so that an undo that was killed can
be completed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import aws, config_content, crontab, daemons, files, labeller_config, object_copies
from ..change import Change
from ..errors import InvalidInput, ModuleFailure, Refused
from ..module import Params, Plan, by_state, composed, unchanging
from . import record as records

if TYPE_CHECKING:
    from .record import Key, Record, States

ARGUMENTS: Dict[str, Any] = {
    "state": {"type": "str", "choices": ["read", "files", "crontab"], "required": True},
    **records.ARGUMENTS,
    "home": {"type": "path", "required": True},
    "user": {"type": "str"},
    "crontab_file": {"type": "path"},
    "backup": {"type": "dict"},
    "restart_file": {"type": "str", "default": ""},
    "stopped_in_check": {"type": "bool", "default": False},
    "written_in_check": {"type": "list", "elements": "str", "default": []},
    **aws.ENCRYPTION,
    **aws.AWS_ARGUMENTS,
}

#: How many later runs are named.
NAMED = 5

#: Before and after, for a diff.
Texts = Tuple[str, str]

#: The kinds of places of a state, in the order in which they are put back.
KINDS = {
    "files": ("copy", "object", "configuration on S3", "configuration", "mode"),
    "crontab": ("crontab",),
}


class Place:
    """Where something is that a run changed: what is there now, and how to put it back."""

    def __init__(self, key: Key, states: States, params: Params) -> None:
        self.key, self.states, self.params = key, states, params
        #: How messages, diffs and plans name it.
        self.name = key[1]

    def read(self) -> Any:
        """The state now."""
        raise NotImplementedError

    def put(self, now: Any) -> None:
        """Put the state before the run in place of ``now``."""
        raise NotImplementedError

    def is_before(self, now: Any) -> bool:
        """Whether it is as before the run already."""
        return bool(now == self.states.before)

    def accepts(self, now: Any) -> bool:
        """Whether the run left it like this."""
        return self.states.accepts(now)

    def texts(self, now: Any) -> Texts:
        """Both states for a diff, without secrets; different exactly when the states are."""
        return _lines(now), _lines(self.states.before)


def _lines(text: Optional[str]) -> str:
    """A text as a diff shows it; what is no UTF-8 appears as escapes."""
    if text is None:
        return ""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return shown if shown.endswith("\n") or not shown else shown + "\n"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Crontab(Place):
    """The crontab; without runbook's lines it counts as the run left it: labeller is stopped."""

    def __init__(self, key: Key, states: States, params: Params) -> None:
        super().__init__(key, states, params)
        self.tab = crontab.tab_of({"crontab_file": key[1], "user": key[2] or None})
        self.name = self.tab.name

    def _stopped(self, text: str) -> str:
        return crontab.edit(text, [], crontab.plain_home(self.params["home"]))

    def read(self) -> str:
        """The text, without what an earlier step of a check removes."""
        text = self.tab.read().decode("utf-8", "surrogateescape")
        return self._stopped(text) if self.params["stopped_in_check"] else text

    def put(self, now: str) -> None:
        """Write the text, unless another process has changed it meanwhile."""
        files.require_same(self.name, _bytes(now), self.tab.read())
        self.tab.write(_bytes(self.states.before))

    def accepts(self, now: str) -> bool:
        """Whether the run left it like this, or so but for the lines of runbook."""
        known = [self.states.before, *self.states.given]
        return now in known or now in map(self._stopped, known)


class Mode(Place):
    """The mode of a script."""

    def read(self) -> Optional[int]:
        """The mode; None for no file."""
        return files.mode(self.key[1])

    def put(self, now: Any) -> None:  # noqa: ARG002
        """Set the mode; a file that has gone needs none."""
        with suppress(FileNotFoundError):
            os.chmod(self.key[1], self.states.before)

    def accepts(self, now: Any) -> bool:
        """As any place; a file that has gone needs nothing."""
        return now is None or super().accepts(now)

    def is_before(self, now: Any) -> bool:
        """As any place; a file that has gone needs nothing."""
        return now is None or super().is_before(now)

    def texts(self, now: Any) -> Texts:
        """Both modes."""
        return files.mode_text(now), files.mode_text(self.states.before)


class _Secret(Place):
    """A configuration, whose secrets no diff shows."""

    def _described(self, now: Optional[str], before: Optional[str]) -> Texts:
        configs = [_parsed(text, self.name) for text in (now, before)]
        old, new = config_content.describe(configs[0], configs[1] or {})
        if old == new and now != before:
            new += "(other text, the same values)\n"
        return old, new


class ConfigFile(_Secret):
    """config.yaml on the host: its text and its mode."""

    def read(self) -> List[Any]:
        """Text and mode; both None for no file."""
        files.check_writable(self.key[1])
        content = files.read(self.key[1])
        text = None if content is None else content.decode("utf-8", "surrogateescape")
        return [text, files.mode(self.key[1])]

    def put(self, now: List[Any]) -> None:
        """Write or remove the file, unless another process has changed it meanwhile."""
        path, (text, mode) = self.key[1], self.states.before
        files.require_same(path, None if now[0] is None else _bytes(now[0]), files.read(path))
        if text is None:
            os.unlink(path)
            files.sync_folder(os.path.dirname(path))
            return
        files.replace(path, _bytes(text), mode)

    def texts(self, now: List[Any]) -> Texts:
        """The values, secrets masked, and the mode."""
        old, new = self._described(now[0], self.states.before[0])
        return files.mode_text(now[1]) + old, files.mode_text(self.states.before[1]) + new


def _parsed(text: Optional[str], where: str) -> Optional[config_content.Config]:
    """A configuration; None for none, and for what is no configuration."""
    with suppress(InvalidInput):
        return None if text is None else config_content.parse(_bytes(text), where)
    return None


class TextObject(Place):
    """A small object, whose content the journal holds."""

    def __init__(self, key: Key, states: States, params: Params) -> None:
        super().__init__(key, states, params)
        self.where = {"Bucket": key[1], "Key": key[2]}
        self.name = "s3://{}/{}".format(*key[1:])
        self._s3: Any = None

    @property
    def s3(self) -> Any:
        """The client, made when first needed."""
        self._s3 = self._s3 or aws.client("s3", self.params)
        return self._s3

    def read(self) -> Any:
        """The text; None for no object."""
        body = aws.read_object(self.s3, *self.key[1:])
        return None if body is None else body.decode("utf-8", "surrogateescape")

    def put(self, now: Any) -> None:  # noqa: ARG002
        """Put the object in place, or remove it."""
        with aws.translated("write {}".format(self.name)):
            if self.states.before is None:
                self.s3.delete_object(**self.where)
                return
            kind = "application/json" if self.key[2].endswith(".json") else "application/yaml"
            encryption = aws.encryption(self.params)
            answer = self.s3.put_object(
                **self.where, Body=_bytes(self.states.before), ContentType=kind, **encryption
            )
        aws.require_encrypted(answer, self.name, encryption.get("ServerSideEncryption"))


class ConfigObject(TextObject, _Secret):
    """The copy of config.yaml on S3."""

    def texts(self, now: Any) -> Texts:
        """The values, secrets masked."""
        return self._described(now, self.states.before)


class CopiedObject(TextObject):
    """An object that was copied before the run replaced it."""

    def read(self) -> Dict[str, Any]:
        """The identity of the content, and where this run keeps a copy of it."""
        found = object_copies.identity(aws.head_object(self.s3, *self.key[1:]))
        if self.name in (self.params["written_in_check"] or ()):
            found = self.states.given[-1]["is"]
        about = self.params.get("journal") or {}
        backup = self.params["backup"] or {}
        kept = object_copies.place(backup, about.get("run"), self.key[2]) if found else None
        return {"is": found, "kept": kept}

    def is_before(self, now: Any) -> bool:
        """By what identifies the object."""
        return self._same(now["is"], self.states.before)

    def accepts(self, now: Any) -> bool:
        """By what identifies the object."""
        return any(self._same(now["is"], state) for state in self.states.given)

    def _same(self, now: Optional[str], state: Mapping[str, Any]) -> bool:
        """Whether a state is there, or the copy of it, which may have another ETag."""
        if now == state["is"]:
            return True
        kept = state["kept"] if now else None
        if not kept:
            return False
        return now == object_copies.identity(aws.head_object(self.s3, **kept))

    def texts(self, now: Any) -> Texts:
        """The identities of both."""
        old, new = (
            "{}\n".format(state["is"]) if state["is"] else "" for state in (now, self.states.before)
        )
        return old, new

    def put(self, now: Any) -> None:
        """Keep what is there, then have S3 copy the old object back, or remove the new one."""
        before, bucket, key = self.states.before, *self.key[1:]
        if now["kept"]:
            object_copies.copy(self.s3, {"bucket": bucket, "key": key}, **now["kept"])
        if before["is"] is None:
            with aws.translated("remove {}".format(self.name)):
                self.s3.delete_object(**self.where)
            return
        object_copies.copy(self.s3, before["kept"], bucket, key)


PLACES = {
    "crontab": Crontab,
    "mode": Mode,
    "configuration": ConfigFile,
    "object": TextObject,
    "configuration on S3": ConfigObject,
    "copy": CopiedObject,
}


@dataclass(frozen=True)
class Found:
    """A place and its state now; ``done``: it is as before the run."""

    place: Place
    now: Any
    done: bool


@dataclass(frozen=True)
class State:
    """The places, and whether the web server has yet to be restarted for an earlier change."""

    found: Sequence[Found]
    restart_pending: bool


def observe(params: Params) -> State:
    """The places of this state's kinds as they are; raises what ``record.of`` does."""
    record = records.of(params)
    found = []
    for kind in KINDS[params["state"]]:
        for key, states in sorted(record.of_kind(kind).items()):
            place = PLACES[kind](key, states, params)
            now = place.read()
            found.append(Found(place, now, place.is_before(now)))
    pending = params["restart_file"]
    return State(found, bool(pending) and os.path.exists(pending))


def plan(state: State, params: Params) -> Plan:
    """One change for each place; Refused for those that were changed since."""
    found = state.found
    moved = [
        each.place.name for each in found if not each.done and not each.place.accepts(each.now)
    ]
    if moved and params["state"] not in params["force"]:
        raise Refused(
            "changed after the run: {}; nothing was changed by this step. --force-step {} puts "
            "back what was there before the run".format(", ".join(moved), params["state"])
        )
    changes = [
        Change(each.place.name, "put back", *each.place.texts(each.now))
        if not each.done
        else Change(each.place.name, "put back", "", "")
        for each in found
    ]
    work = [each for each in found if not each.done]
    image = [
        {
            "key": list(each.place.key),
            "before": each.now,
            "after": each.place.states.before,
        }
        for each in work
    ]
    facts = {"web_changed": state.restart_pending or any(map(_web_changes, work))}
    return Plan(changes, facts, work=work, image={"kind": "places", "places": image})


def _web_changes(found: Found) -> bool:
    """Whether the web server, which reads config.yaml's section labeller, must be restarted."""
    if found.place.key[0] != "configuration":
        return False
    now, before = (
        _parsed(state[0], found.place.name) for state in (found.now, found.place.states.before)
    )
    return config_content.web_differs(now, before or {"labeller": {}})


def apply(decided: Plan, params: Params) -> None:
    """Put each place back, in the order of their kinds."""
    if decided.facts["web_changed"]:
        labeller_config.note_restart(params["restart_file"])
    for found in decided.work:
        try:
            found.place.put(found.now)
        except OSError as error:
            raise ModuleFailure(
                "cannot put {} back: {}".format(found.place.name, error.strerror)
            ) from error


def told(record: Record, params: Params) -> Plan:
    """No changes; the facts that the playbook goes by, and what the operator must know.

    The run itself is a change that changes nothing: a real run is held to the one of its plan.
    """
    change = Change("run {}".format(record.run), "undo", "", "", fingerprint=record.run)
    backup = dict(record.backup or {"backup_id": "", "bucket": "", "prefix": ""})
    # The prefix of all backups of the host, without the backup's own folder.
    root = backup["prefix"].rstrip("/").rpartition("/")[0]
    facts = {
        "run": record.run,
        "backup": {**backup, "prefix": root},
        "tables": sorted(record.tables) if record.backup else [],
        "left": {} if "tables" in params["force"] else record.tables,
        "any_state": "tables" in params["force"],
        "settings": bool(record.settings),
        "stops": record.stops,
        "daemons": record.daemons or [],
        "started": [] if record.stops else record.started,
        "in_place": _in_service(record, params),
        "headline": _headline(record, params),
    }
    warnings = [
        "{} by {} (run {}) has changed this host since".format(
            row["playbook"] or "a run", row["operator"], row["run"]
        )
        for row in record.since[:NAMED]
    ]
    if len(record.since) > NAMED:
        warnings.append("{} other runs have, too".format(len(record.since) - NAMED))
    return Plan([change], facts, warnings)


def _headline(record: Record, params: Params) -> str:
    """A line that says what is undone, and what is not.

    A run that finished one that was cut off, as ``resume`` does, found labeller out of service.
    """
    text = (
        "Undo of {} by {}, run {}. Not undone: messages that were sent, and what modules of others "
        "than runbook changed{}"
    )
    about, left = record.about, ["; {}".format(each) for each in record.left]
    home = crontab.plain_home(params["home"])
    before = [states.before for states in record.of_kind("crontab").values()]
    if record.tables and not any(any(crontab.managed(tab.splitlines(), home)) for tab in before):
        left.append(". Labeller is left out of service; start.yml starts it")
    return text.format(about["playbook"] or "a run", about["operator"], record.run, "".join(left))


def _in_service(record: Record, params: Params) -> bool:
    """Whether crontab and daemons are as before the run, so that nothing must be stopped."""
    tabs = record.of_kind("crontab")
    if tabs:
        tab_places = [Crontab(key, states, params) for key, states in tabs.items()]
        return all(place.is_before(place.read()) for place in tab_places)
    if record.daemons is None:
        return True
    running = {each.name for each in daemons.find(params["home"], daemons.NAMES)}
    return running.issuperset(record.daemons) and running.isdisjoint(record.started)


#: The module undo.
run = by_state(
    read=composed(records.of, told, unchanging),
    files=composed(observe, plan, apply),
    crontab=composed(observe, plan, apply),
)
