#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: database_consistent
short_description: Assert what labeller silently assumes about its database
version_added: 0.1.0
description:
  - Reads only, takes no lock that a writer waits for, and names each row that breaks an invariant.
  - As a step of M(labeller.runbook.pg_transaction) it sees what the steps before it did.
  - V(settings) - every key that labeller cannot do without is in C(configuration), and every value
    there is one that its readers can use.
  - V(system_data) - C(system_data) has its three keys, each with a number; a run's transaction
    recreates them.
  - V(statements) - the tables are defined as labeller's own SQL needs them. Tables, columns,
    defaults and admitted values are there; no column makes a join ambiguous, as C(fwts) in
    C(kml_data) would.
  - V(static_cells) - each name of C(kml_data_static) is in C(master_grid) with its type as
    availability, and in C(kml_data), which has no other Q and I rows.
  - V(queue_names) - names in C(kml_data) are unique and in C(master_grid).
  - V(scenes) - each F site in C(kml_data) has exactly one GS and one OS scene.
  - V(open_names) - unprocessed C(incoming_names) are of one run and iteration, that of
    C(IterationCounter) or the next, known to C(iteration_metrics), each queued as F.
  - V(hits) - at most one live HIT a name; no site is mapped more often than needed.
  - V(metrics) - no iteration number in C(iteration_metrics) is that of two runs.
options:
  refuse:
    description: Invariants that fail the task when they are broken.
    type: list
    elements: str
    choices: [settings, system_data, statements, static_cells, queue_names, scenes, open_names, hits, metrics]
    default: [settings, system_data, statements, static_cells, queue_names, scenes, open_names, hits, metrics]
  warn:
    description: Invariants that are only warned of.
    type: list
    elements: str
    choices: [settings, system_data, statements, static_cells, queue_names, scenes, open_names, hits, metrics]
    default: []
  set_later:
    description: Keys of C(configuration) that V(settings) leaves out, because they will be set.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: The run can go on
  labeller.runbook.database_consistent:
    refuse: [settings, open_names, hits]
    warn: [metrics]
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.database_consistent import (
    DatabaseConsistent,
)

ARGUMENTS = registry.arguments(DatabaseConsistent)
MODULE = registry.module_of(DatabaseConsistent)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
