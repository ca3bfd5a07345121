#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: worker_qualifications
short_description: Reset the quality record of qualified workers
version_added: 0.1.0
description:
  - Every worker who is qualified now stays so with empty scores and returns, and gets the training
    bonus unless it was paid. Other workers do not become qualified, as C(reset_worker_qualifications.sh)
    had it.
  - Maps and tries of the qualification test are emptied by M(labeller.runbook.pg_clear), which
    leaves score arrays that belong to no map.
  - Can be a step of M(labeller.runbook.pg_transaction).
options:
  state:
    description: V(reset) does it, V(kept) nothing.
    type: str
    choices: [kept, reset]
    default: kept
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: New records for the workers
  labeller.runbook.worker_qualifications:
    state: reset
    login_db: Africa
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.worker_qualifications import (
    WorkerQualifications,
)

ARGUMENTS = registry.arguments(WorkerQualifications)
MODULE = registry.module_of(WorkerQualifications)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
