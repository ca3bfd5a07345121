#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: grid_availability
short_description: Availability codes of training and quality cells
description:
  - Cells of V(kml_data_static) of type V(I) and V(Q) get their type as availability code in
    V(master_grid); other cells with these codes become free, V(T).
  - A static name that is not in the grid is an error.
options:
  state:
    description:
      - V(present) sets these codes.
      - V(undone) gives the cells that the run O(run) changed the codes that they had before it, as the
        target's journal says, and first completes uploads that a killed run left. Refused if one
        of them got another code since.
    type: str
    choices: [present, undone]
    default: present
  run:
    description: The run to undo, by its id or the beginning of it.
    type: str
    default: ''
  force:
    description: V(grid) has V(undone) accept any code.
    type: list
    elements: str
    choices: [grid, tables, settings, files, crontab]
    default: []
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Mark training and quality cells
  labeller.runbook.grid_availability:
    login_password: "{{ db_pwd }}"
"""

RETURN = r"""
in_place:
  description: Whether the state was in place already, so that no step has run.
  returned: success
  type: bool
plan:
  description: Each table and object with what is done to it, and how much.
  returned: success
  type: list
  elements: dict
diff:
  description: Each table and object that changes, before and after.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry
from ansible_collections.labeller.runbook.plugins.module_utils.steps.grid_availability import (
    GridAvailability,
)

ARGUMENTS = registry.arguments(GridAvailability)
MODULE = registry.module_of(GridAvailability)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
