# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What earlier steps of a check run would have stopped: the option ``stopped_in_check``.

A check changes nothing, so a step that starts what an earlier one stops would find it running. The
step that stops it leaves a note, and the later one gets it. Notes are files in the temporary folder
that ansible-core makes for each of its processes, and removes when that ends.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping

from ansible import constants
from ansible_collections.labeller.runbook.plugins.module_utils import daemons

#: The option's name, and by module the state that stops something.
OPTION = "stopped_in_check"
STOPPING = {"crontab_profile": "absent", "daemons": "stopped"}
#: The options that say what is stopped: a step with other values is about something else.
_WHAT = ("home", "user", "crontab_file")


def of_task(host: str, module: str, arguments: Mapping[str, Any]) -> Any:
    """What the steps before this one would have stopped: daemons by name, or whether the lines."""
    stopped = _read(_note(host, module, arguments))
    return stopped if module == "daemons" else bool(stopped)


def note(host: str, module: str, arguments: Mapping[str, Any]) -> None:
    """Note what this step of a check run would stop, or start again."""
    file = _note(host, module, arguments)
    given = arguments.get("names") or daemons.NAMES
    names = set(given.split(",") if isinstance(given, str) else given)
    stops = arguments.get("state") == STOPPING[module]
    after = names.union(_read(file)) if stops else set(_read(file)) - names
    file.write_text(json.dumps(sorted(after)), encoding="utf-8")


def _read(file: Path) -> List[str]:
    try:
        names: List[str] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # no step has stopped anything
        return []
    return names


def _note(host: str, module: str, arguments: Mapping[str, Any]) -> Path:
    step: Dict[str, Any] = {name: arguments.get(name) for name in _WHAT}
    key = json.dumps([host, module, step], sort_keys=True, default=str)
    name = "runbook-stopped-{}.json".format(hashlib.sha256(key.encode()).hexdigest())
    return Path(constants.DEFAULT_LOCAL_TMP, name)
