#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: scene_catalog
short_description: Scenes of the cells of a run
description:
  - Inserts into V(scenes_data) the rows of the full catalogue whose cell is in the area, in
    V(kml_data_static) or among the static training names, and writes all of V(scenes_data) to
    O(image_catalog).
  - Rows that are the same in all columns count once; different ones for one provider, cell and
    season are an error, as is a row that contradicts V(scenes_data).
options:
  catalog:
    description:
      - Key of the full catalogue, a CSV with at least the columns V(cell_id), V(scene_id),
        V(season), V(global_col), V(global_row), V(url), V(tms_url) and V(date_time), in any order.
      - Column V(provider) is optional; without a value it is V(planet).
    type: str
    required: true
  image_catalog:
    description: Key of the run's image catalogue, written; without it none is.
    type: str
  aoi:
    description:
      - Key of the GeoJSON file of areas, longitude and latitude; without it only the scenes of
        V(kml_data_static) and O(static_names) are taken.
    type: str
  aoi_index:
    description: The area, as the 1-based row of O(aoi).
    type: int
    default: 1
  static_names:
    description:
      - Key of the CSV of static training names (column V(name), others are ignored).
      - A file that is given must hold names; without the option there are none.
    type: str
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Fill the scenes of the run
  labeller.runbook.scene_catalog:
    login_password: "{{ db_pwd }}"
    bucket: activemapper
    catalog: planet/planet_catalog_ghana_full.csv
    image_catalog: planet/planet_catalog_ghana_3.csv
    aoi: grid/image_target_aois.geojson
    aoi_index: 3
    static_names: planet/incoming_names_static_cluster1.csv
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.scene_catalog import (
    SceneCatalog,
)

ARGUMENTS = registry.arguments(SceneCatalog)
MODULE = registry.module_of(SceneCatalog)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
