#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: f_pool
short_description: The pool of cells that F sites are drawn from
description:
  - The pool is the area's cells that have scenes of both seasons and are neither in
    V(kml_data_static) nor static training names. A cell is in the area when its centre is.
  - Availability in V(master_grid) becomes V(F) exactly for the pool and the static training names.
  - O(pool) gets the pool and the static training names that have scenes of both seasons; O(qs) gets
    the area's training and quality cells.
  - O(training_names) gets those static training names that can train, with the number of this run.
    The learner leaves out all rows of other runs.
options:
  aoi:
    description: Key of the GeoJSON file of areas, longitude and latitude.
    type: str
    required: true
  aoi_index:
    description: The area, as the 1-based row of O(aoi).
    type: int
    required: true
  static_names:
    description:
      - Key of the CSV of static training names, column V(name). Rows with a V(usage) other than
        V(train), or without a true V(label), do not train; a file that lacks one of these columns
        says nothing of it.
      - A file that is given must hold names; without the option there are none.
    type: str
  pool:
    description: Key of the pool's CSV, written.
    type: str
    required: true
  qs:
    description: Key of the CSV of training and quality cells, written.
    type: str
    required: true
  training_names:
    description: Key of the run's own CSV of training names, written.
    type: str
  run_id:
    description: Number of the run, for O(training_names).
    type: int
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Make the pool of AOI 3
  labeller.runbook.f_pool:
    login_password: "{{ db_pwd }}"
    bucket: activemapper
    aoi: grid/image_target_aois.geojson
    aoi_index: 3
    static_names: planet/incoming_names_static_cluster1.csv
    pool: planet/f_pool_ghana_3.csv
    qs: planet/q_sites_ghana_3.csv
    training_names: planet/training_names_ghana_3_run1.csv
    run_id: 1
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.f_pool import FPool

ARGUMENTS = registry.arguments(FPool)
MODULE = registry.module_of(FPool)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
