#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: geography
short_description: Give a labeller another country, grid, static sites and reference fields
version_added: 0.1.0
description:
  - Replaces all rows of C(master_grid), C(kml_data_static) and C(qaqcfields) by those of four CSV
    objects, in one transaction; a bad object changes nothing.
  - The old rows, and all C(incoming_names), are deleted only if the backup proves them.
  - Does nothing when the tables hold the objects' rows already, whatever the availability of the
    cells has become since.
  - Takes the place of C(reset_mapping_geography.sh); the other tables are emptied by
    M(labeller.runbook.pg_clear) before it.
options:
  backup:
    description: Manifest of the backup that proves the rows (result of M(labeller.runbook.s3_table_backup)).
    type: dict
  state:
    description:
      - V(present) loads the objects.
      - V(read) only says in RV(in_place) whether the tables hold them.
    type: str
    choices: [present, read]
    default: present
  grid:
    description: Key of the grid's CSV with the columns C(id), C(x), C(y), C(name), C(fwts), C(avail), C(date).
    type: str
    required: true
  reference_grid:
    description: Key of the CSV of training and quality cells, with the same columns.
    type: str
    required: true
  static_sites:
    description: Key of the CSV for C(kml_data_static), with the columns C(kml_type), C(name), C(hint).
    type: str
    required: true
  reference_fields:
    description: Key of the CSV for C(qaqcfields), with the columns C(name), C(category), C(geom_clean).
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
- name: Is the geography in place
  labeller.runbook.geography:
    state: read
    grid: grid/master_grid.csv
    reference_grid: training_reference/reference_grid.csv
    static_sites: training_reference/kml_data_static.csv
    reference_fields: training_reference/qaqcfields.csv
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.geography import Geography

ARGUMENTS = registry.arguments(Geography)
MODULE = registry.module_of(Geography)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
