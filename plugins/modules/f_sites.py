#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: f_sites
short_description: Draws the initial F sites of a run
description:
  - Draws cells of availability V(F) with scenes of both seasons, static training names aside, in
    the order of a seeded hash of the name, so that every server and every check draws the same.
  - They become iteration 0 of the run in V(iteration_metrics) and V(incoming_names), and sites of
    type V(F) in V(kml_data).
  - A pool with fewer cells than O(count) is an error. A run_id that was used before is
    refused.
options:
  run_id:
    description: Number of the run.
    type: int
    required: true
  aoi_index:
    description: Number of the AOI, written to V(iteration_metrics).
    type: int
    required: true
  count:
    description: How many sites are drawn, at least 1.
    type: int
    required: true
  seed:
    description: Seed of the draw.
    type: int
    default: 0
  proportion_holdout:
    description: Share of the sites that is not for training; 1 and more is all of them.
    type: float
    default: 100.0
  proportion_holdout1:
    description: Share of those that is V(holdout) instead of V(validate).
    type: float
    default: 0.0
  static_names:
    description:
      - Key of the CSV of static training names, which are not drawn.
      - After P(labeller.runbook.f_pool#module) in one transaction its pool is used, and this is not
        needed.
    type: str
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Draw the initial sites
  labeller.runbook.f_sites:
    login_password: "{{ db_pwd }}"
    bucket: activemapper
    static_names: planet/incoming_names_static_cluster1.csv
    run_id: 1
    aoi_index: 3
    count: 100
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.f_sites import FSites

ARGUMENTS = registry.arguments(FSites)
MODULE = registry.module_of(FSites)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
