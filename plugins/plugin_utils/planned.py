# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan that this run's check run made for a step: the option ``planned`` of its module.

The engine writes the results of the check run into a file of the run's private folder, named by
RUNBOOK_PLANNED (engine/runbook/execute/translate.py says how a step is named). A step that its
condition left out of the check is planned to change nothing. What a check that saw to the end does
not have, as a ``rescue``, is not in the file, and without an engine there is none: then nothing is
compared.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.labeller.runbook.plugins.module_utils import held

#: The variable with the option ``plan`` of the module lease, when the run applies a plan file.
SAVED = "RUNBOOK_SAVED_PLAN"


def of_task(
    path: str, uuid: str, variables: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> Optional[List[Dict[str, Any]]]:
    """The planned changes of the task at ``path`` (FILE:LINE) on this host; None without a plan.

    A task that runs several times, as in a file that is included twice, takes its plans in their
    order; another attempt of the same task (``uuid``) keeps its own.
    """
    file = environment.get("RUNBOOK_PLANNED")
    if not file:
        return None
    variable = variables.get("ansible_loop_var")
    item = [variables.get(variable)] if variable else []
    step = json.dumps(
        [str(variables.get("inventory_hostname", "")), os.path.realpath(path), *item],
        sort_keys=True,
        default=str,
    )
    results = json.loads(Path(file).read_text(encoding="utf-8")).get(step)
    if not results:
        return results
    name = hashlib.sha256(step.encode()).hexdigest()
    for number, result in enumerate(results):
        if _claimed(Path("{}.{}.{}".format(file, name, number)), uuid):
            return held.of_result(result)
    return None


def _claimed(claim: Path, uuid: str) -> bool:
    """Whether a plan is this task's: its first claim wins."""
    try:
        with claim.open("x", encoding="utf-8") as made:
            made.write(uuid)
    except FileExistsError:
        return claim.read_text(encoding="utf-8") == uuid
    return True
