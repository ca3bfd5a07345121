#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: journal_info
short_description: Read the target's journal
description:
  - Lists the runs that changed something on the target, the newest first, or what one run changed.
    It changes nothing, and returns none of the secrets that the journal holds for undoing.
options:
  folder:
    description:
      - Folder of the journal; empty is C(.local/state/runbook/journal) in the home of the user that
        the module runs as.
    type: str
    default: ''
  run:
    description:
      - Only this run, by its id or the beginning of it, or V(newest), with the changes of each step.
    type: str
    default: ''
  ids:
    description: Only the runs with these ids, as far as they changed the target; empty is all.
    type: list
    elements: str
    default: []
  since:
    description: >-
      Only runs that began since this date, V(2026-01-14), or time in UTC, V(2026-01-14T09:30), on the
      target's clock.
    type: str
    default: ''
  operator:
    description: Only runs whose operator, such as V(olli@laptop), contains this.
    type: str
    default: ''
  playbook:
    description: Only runs of this playbook, by its file name with or without C(.yml).
    type: str
    default: ''
  limit:
    description: At most so many runs; 0 is all.
    type: int
    default: 0
extends_documentation_fragment:
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Read what changed this target since Monday
  labeller.runbook.journal_info:
    since: "2026-01-12"
  register: found
"""

RETURN = r"""
folder:
  description: The folder that was read.
  returned: success
  type: str
runs:
  description:
    - The runs, the newest first. Each has C(run), C(at), C(until), C(operator), C(playbook), C(hosts),
      C(outcome), C(torn_lines), C(plan) (the SHA-256 of the plan file, if the run applied one) and
      C(steps), each with C(task), C(module), C(host), C(outcome) and
      C(resources).
    - C(outcome) of a run is C(done), C(failed), C(unfinished) (of a step it is not known how it
      ended), or C(stopped) (its steps are done, and it has not given its lease back).
    - With O(run) each step has C(changes) too, with the texts C(before) and C(after).
  returned: success
  type: list
  elements: dict
plan:
  description: Always empty.
  returned: success
  type: list
  elements: dict
diff:
  description: Always empty.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import (
    change,
    journal,
    journal_read,
    module,
)

ARGUMENTS = {
    "folder": {"type": "str", "default": ""},
    "run": {"type": "str", "default": ""},
    "ids": {"type": "list", "elements": "str", "default": []},
    "since": {"type": "str", "default": ""},
    "operator": {"type": "str", "default": ""},
    "playbook": {"type": "str", "default": ""},
    "limit": {"type": "int", "default": 0},
}


def logic(params, _check_mode):
    folder = journal.location(params["folder"])
    if params["run"]:
        runs = [journal_read.report(folder, params["run"])]
    else:
        filters = {name: params[name] for name in ("ids", "since", "operator", "playbook", "limit")}
        runs = journal_read.history(folder, **filters)
    return change.result([], folder=folder, runs=runs)


MODULE = module.Module(ARGUMENTS, logic)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
