#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: geography_info
short_description: Where an area, its pool and the sites of a run lie
version_added: 0.1.0
description:
  - Returns what the map of a report shows, and changes nothing. The outline and the pool come from
    their objects on S3, other cells are looked up in C(master_grid) by name, so that a large grid
    is never read as a whole.
  - As the last step of M(labeller.runbook.pg_transaction) it returns in check mode what the steps
    before it would make. When applied it looks after the commit, so that no lock waits for it; if it
    cannot, that is a warning.
options:
  run_id:
    description: Number of the run whose sites are shown.
    type: int
    required: true
  wanted:
    description: Whether to look at all; the run modes ask for a map when something keeps it.
    type: bool
    default: true
  aoi:
    description: Key of the GeoJSON object with the outlines; without it the map shows the sites alone.
    type: str
  aoi_index:
    description: The AOI, a 1-based row of the GeoJSON.
    type: int
  pool:
    description: Key of the pool's CSV; a check takes what the step M(labeller.runbook.f_pool) found.
    type: str
  training_names:
    description: Key of the run's own CSV of training names, those of them in O(pool) are shown.
    type: str
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Read where the sites of run 1 lie
  labeller.runbook.geography_info:
    bucket: activemapper
    run_id: 1
    aoi: grid/aois.geojson
    aoi_index: 3
    pool: planet/f_pool_ghana_3.csv
    login_password: "{{ db_pwd }}"
  register: found
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
map:
  description:
    - The map, null when there is neither an outline nor a site; missing when it is not wanted. C(west) and C(north) are the degrees
      of its corner, C(columns) and C(rows) its size in cells of C(cell) degrees, with a block around
      the area; columns and rows of what lies on it count from the corner.
    - C(outline) has rings of points in eighths of a cell, C(area_cells) how many cells it holds.
    - C(pool) has runs of blocks of C(block) by C(block) cells, as row, first and last column, and the
      share of the cells that is in the pool in quarters, rounded up; C(pool_cells) are all.
    - C(training), C(quality) and C(sites) have column and row, and, of quality cells, the type Q or I;
      of sites, name, usage, iteration and whether it is processed, the newest iterations first. At
      most 3,000 sites and 2,000 other cells; C(training_cells), C(quality_cells) and C(counts) count all.
    - C(notes) say what could not be read.
  returned: success
  type: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry
from ansible_collections.labeller.runbook.plugins.module_utils.steps.geography_info import (
    GeographyInfo,
)

ARGUMENTS = registry.arguments(GeographyInfo)
MODULE = registry.module_of(GeographyInfo)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
