#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: static_sites
short_description: Queue the static training names as a run's first sites
version_added: 0.1.0
description:
  - The names of a CSV object become iteration 0 of the run in C(incoming_names), all for training,
    sites of type F in C(kml_data), and have availability F in C(master_grid).
  - Does what C(update_db.R) does in the modes initial and single. Names that are there already are
    left as they are; a run that has other names is an error.
  - Can be a step of M(labeller.runbook.pg_transaction).
options:
  run_id:
    description: Number of the run.
    type: int
    required: true
  aoi_index:
    description: The AOI, as C(iteration_metrics) keeps it.
    type: int
    required: true
  static_names:
    description: Key of the CSV with a column C(name).
    type: str
    required: true
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Sites of the initial drawing
  labeller.runbook.static_sites:
    run_id: 0
    aoi_index: 3
    static_names: planet/incoming_names_static_cluster1.csv
    bucket: activemapper
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.static_sites import StaticSites

ARGUMENTS = registry.arguments(StaticSites)
MODULE = registry.module_of(StaticSites)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
