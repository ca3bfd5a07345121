# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lines, daemons and objects that a check's earlier steps would have changed, for later steps.

A check changes nothing, so a step that starts what an earlier one stops would find it running, and
one that needs an object that an earlier one uploads would not find it. A step leaves a note, and
the later ones get it as the options ``stopped_in_check`` and ``written_in_check``. Notes are files
in the temporary folder that ansible-core makes for each of its processes, and removes when that
ends.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping

from ansible import constants
from ansible_collections.labeller.runbook.plugins.module_utils import daemons

#: The option of a module that stops something, and by module the state that does.
STOPPED = "stopped_in_check"
STOPPING = {"crontab_profile": "absent", "daemons": "stopped"}
#: The option with the objects that earlier steps write, and the modules that have it.
WRITTEN = "written_in_check"
READING = frozenset({"emr_learner", "undo"})
#: The options that say what is stopped: a step with other values is about something else.
_WHAT = ("home", "user", "crontab_file")


def options(host: str, module: str, arguments: Mapping[str, Any]) -> Dict[str, Any]:
    """The options that this step of a check run gets from the steps before it."""
    if module in STOPPING:
        stopped = _read(_stopped(host, module, arguments))
        return {STOPPED: stopped if module == "daemons" else bool(stopped)}
    found: Dict[str, Any] = {}
    if module in READING:
        found[WRITTEN] = _read(_note(host, WRITTEN))
    if module == "undo":  # it puts back the crontab whose lines such a step removes
        found[STOPPED] = bool(_read(_stopped(host, "crontab_profile", arguments)))
    return found


def note(host: str, module: str, arguments: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Note what this step of a check run would stop, or start again, and the objects it writes."""
    if module in STOPPING:
        _note_stopped(host, module, arguments)
    written = [each["resource"] for each in result.get("plan", ()) if each["action"] != "none"]
    objects = {resource for resource in written if resource.startswith("s3://")}
    if objects:
        file = _note(host, WRITTEN)
        file.write_text(json.dumps(sorted(objects.union(_read(file)))), encoding="utf-8")


def _note_stopped(host: str, module: str, arguments: Mapping[str, Any]) -> None:
    file = _stopped(host, module, arguments)
    given = arguments.get("names") or daemons.NAMES
    names = set(given.split(",") if isinstance(given, str) else given)
    stops = arguments.get("state") == STOPPING[module]
    after = names.union(_read(file)) if stops else set(_read(file)) - names
    file.write_text(json.dumps(sorted(after)), encoding="utf-8")


def _read(file: Path) -> List[str]:
    try:
        names: List[str] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # no step has left a note
        return []
    return names


def _stopped(host: str, module: str, arguments: Mapping[str, Any]) -> Path:
    return _note(host, STOPPED, module, *(arguments.get(name) for name in _WHAT))


def _note(host: str, *about: Any) -> Path:
    key = json.dumps([host, *about], default=str)
    name = "runbook-checked-{}.json".format(hashlib.sha256(key.encode()).hexdigest())
    return Path(constants.DEFAULT_LOCAL_TMP, name)
