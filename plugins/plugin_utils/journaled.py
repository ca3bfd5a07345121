# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's side of the target's journal: the option ``journal`` of the modules.

The engine names run and operator in the environment. Under ansible-playbook alone the first step
makes the run's id, and the later ones find it in the temporary folder that ansible-core makes for
each of its processes.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Dict, Mapping

from ansible import constants, context
from ansible_collections.labeller.runbook.plugins.plugin_utils.planned import SAVED

#: Set by the engine.
RUN = "RUNBOOK_RUN"
OPERATOR = "RUNBOOK_OPERATOR"


def of_run(environment: Mapping[str, str] = os.environ) -> Dict[str, str]:
    """Run, operator, playbook and plan file of this process."""
    return {
        "plan": json.loads(environment.get(SAVED, "{}")).get("id", ""),
        "run": environment.get(RUN) or _own(Path(constants.DEFAULT_LOCAL_TMP)),
        "operator": operator(environment),
        "playbook": _playbook(),
    }


def _own(folder: Path) -> str:
    """The id of a run without an engine: the first step's, which all later ones take."""
    file = folder / "runbook-run"
    if not file.exists():
        mine = folder / "runbook-run-{}".format(os.getpid())
        now = datetime.now(timezone.utc)
        mine.write_text("{:%Y%m%dT%H%M%S}-{}".format(now, secrets.token_hex(3)), encoding="ascii")
        with suppress(FileExistsError):  # another host's step was faster
            file.hardlink_to(mine)
    return file.read_text(encoding="ascii")


def operator(environment: Mapping[str, str] = os.environ) -> str:
    """Who runs this process, for people."""
    if environment.get(OPERATOR):
        return environment[OPERATOR]
    user = environment.get("USER") or environment.get("LOGNAME") or os.getuid()
    return "{}@{}".format(user, socket.gethostname())


def _playbook() -> str:
    """The file names of the playbooks on the command line; empty for none, as of ``ansible``."""
    given = context.CLIARGS.get("args") or ()
    names = [os.path.basename(str(each)) for each in given]
    return ", ".join(name for name in names if name.endswith((".yml", ".yaml")))
