#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_clear
short_description: Empties the tables of a finished run
description:
  - Deletes all rows of O(tables) and the unprocessed rows of V(incoming_names), fills V(kml_data)
    from V(kml_data_static) again, resets the counters of V(system_data) and the availability codes
    of V(master_grid) to V(T).
  - Kept are workers, users, configuration, metrics and processed names of earlier runs, the grid
    and the reference data.
  - Refused unless O(backup) proves that every row that it deletes is on S3, by row count and
    content fingerprint computed in the same transaction, and by the objects' sizes.
  - Refused while rows of another table, in any schema, refer to rows that are deleted, whatever
    the foreign key does on delete.
options:
  backup:
    description:
      - Manifest of the backup that proves the rows (result of M(labeller.runbook.s3_table_backup)).
      - In check mode a planned one is accepted.
    type: dict
  unprotected:
    description: Delete without the proof of a backup.
    type: bool
    default: false
  tables:
    description: Tables to empty; the order comes from the foreign keys.
    type: list
    elements: str
    default:
      - user_maps
      - accuracy_data
      - assignment_history
      - assignment_data
      - assignment_review
      - qual_user_maps
      - qual_accuracy_data
      - qual_assignment_data
      - hit_data
      - scenes_data
      - machine_maps
      - kml_data
  optional_tables:
    description: Those of O(tables) that a labeller may lack; any other missing table is an error.
    type: list
    elements: str
    default:
      - assignment_review
      - machine_maps
  reset_availability:
    description: Availability codes that are reset to V(T), free; V(N) stays by default.
    type: list
    elements: str
    choices: [I, Q, F, E, N]
    default: [I, Q, F, E]
  restart_sequences:
    description:
      - Whether to restart the sequences of all emptied tables at 1; without it only those of
        V(kml_data) and V(machine_maps).
    type: bool
    default: false
  metrics:
    description:
      - V(keep) keeps the metrics and the processed names of earlier runs.
      - V(clear) deletes the metrics, and the processed names, which refer to them; the backup must
        prove both.
    type: str
    choices: [keep, clear]
    default: keep
  run_id:
    description:
      - Number of the run that begins. When the processed names of that number are those of an initial
        drawing and O(static_names) holds them, they and their metrics are deleted; the backup must
        prove both.
    type: int
  static_names:
    description: Key of the CSV of static training names, for O(run_id).
    type: str
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Back up what is deleted
  labeller.runbook.s3_table_backup:
    bucket: activemapper
    prefix: "backups/database/{{ inventory_hostname }}"
    tables: "{{ backup_tables }}"
    login_password: "{{ db_pwd }}"
  register: backup

- name: Empty the tables of the old run
  labeller.runbook.pg_clear:
    login_password: "{{ db_pwd }}"
    backup: "{{ backup.manifest }}"
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
from ansible_collections.labeller.runbook.plugins.module_utils.steps.pg_clear import PgClear

ARGUMENTS = registry.arguments(PgClear)
MODULE = registry.module_of(PgClear)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
