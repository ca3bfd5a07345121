#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_transaction
short_description: Runs a chain of database steps as one transaction
description:
  - The whole chain commits, or nothing does. S3 objects that steps make are uploaded before the
    commit and completed after it; what a crash left in between is completed by the next transaction.
  - In check mode each step sees the effect of the steps before it, on temporary copies of the
    tables, in a transaction that the server holds read only.
  - Refused, in check mode as when applied, are missing privileges, tables that are views or
    partitioned, row level security that applies to the role, disabled foreign keys, triggers and
    rules on tables that are written (but see O(allowed_triggers)), and rows of other tables that
    refer to deleted ones.
  - Two transactions on the same database exclude each other.
options:
  backup:
    description: Manifest of the backup that proves what pg_clear deletes; the marker keeps its id.
    type: dict
  steps:
    description: The steps in their order; each element has one step's name with its options.
    type: list
    elements: dict
    required: true
    suboptions:
      configuration:
        description: Step M(labeller.runbook.configuration).
        type: dict
        suboptions:
          state:
            description:
              - V(present) sets the keys.
              - V(valid) only verifies that they can be set and that O(steps[].configuration.profile)
                has what it needs, and changes nothing. It refuses keys that parameters of the run
                modes set, such as C(InitialFnum).
              - V(undone) gives the keys that the run O(steps[].configuration.run) set the values
                that they had before it, as the target's journal says; of secret keys it holds none.
                Refused if they were changed since.
            type: str
            choices:
              - present
              - valid
              - undone
            default: present
          run:
            description: The run to undo, by its id or the beginning of it.
            type: str
            default: ''
          force:
            description: V(settings) has V(undone) accept any values.
            type: list
            elements: str
            choices:
              - grid
              - tables
              - settings
              - files
              - crontab
            default: []
          settings:
            description: Keys and values; a value as YAML has it or as text.
            type: dict
            default: {}
          secrets:
            description: Keys and values that are never shown, the Sentinel Hub instances C(instanceF)
              and so on.
            type: dict
            default: {}
          allow_unknown:
            description: Whether keys may be set that this version does not know.
            type: bool
            default: false
          profile:
            description:
              - Crontab profile that the settings must suit. V(standalone_f) needs C(Hit_StandAlone),
                a profile with the notifier O(steps[].configuration.slack) or C(Hit_NotificationEmailAddress).
            type: str
            choices:
              - full
              - maintenance
              - no_n
              - no_n_notifier
              - standalone_f
          notify:
            description: Whether the notifier runs, in place of what O(steps[].configuration.profile)
              says.
            type: bool
          slack:
            description: Whether notifications go to a Slack webhook.
            type: bool
            default: false
      database_consistent:
        description: Step M(labeller.runbook.database_consistent).
        type: dict
        suboptions:
          refuse:
            description: Invariants that fail the task when they are broken.
            type: list
            elements: str
            choices:
              - settings
              - system_data
              - statements
              - static_cells
              - queue_names
              - scenes
              - open_names
              - hits
              - metrics
            default:
              - settings
              - system_data
              - statements
              - static_cells
              - queue_names
              - scenes
              - open_names
              - hits
              - metrics
          warn:
            description: Invariants that are only warned of.
            type: list
            elements: str
            choices:
              - settings
              - system_data
              - statements
              - static_cells
              - queue_names
              - scenes
              - open_names
              - hits
              - metrics
            default: []
          set_later:
            description: Keys of C(configuration) that V(settings) leaves out, because they will
              be set.
            type: list
            elements: str
            default: []
      f_pool:
        description: Step M(labeller.runbook.f_pool).
        type: dict
        suboptions:
          aoi:
            description: Key of the GeoJSON file of areas, longitude and latitude.
            type: str
            required: true
          aoi_index:
            description: The area, as the 1-based row of O(steps[].f_pool.aoi).
            type: int
            required: true
          static_names:
            description:
              - Key of the CSV of static training names, column V(name). Rows with a V(usage) other
                than V(train), or without a true V(label), do not train; a file that lacks one of
                these columns says nothing of it.
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
            description: Number of the run, for O(steps[].f_pool.training_names).
            type: int
      f_sites:
        description: Step M(labeller.runbook.f_sites).
        type: dict
        suboptions:
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
              - After P(labeller.runbook.f_pool#module) in one transaction its pool is used, and
                this is not needed.
            type: str
      geography:
        description: Step M(labeller.runbook.geography).
        type: dict
        suboptions:
          backup:
            description: Manifest of the backup that proves the rows (result of M(labeller.runbook.s3_table_backup)).
            type: dict
          state:
            description:
              - V(present) loads the objects.
              - V(read) only says in RV(in_place) whether the tables hold them.
            type: str
            choices:
              - present
              - read
            default: present
          grid:
            description: Key of the grid's CSV with the columns C(id), C(x), C(y), C(name), C(fwts),
              C(avail), C(date).
            type: str
            required: true
          reference_grid:
            description: Key of the CSV of training and quality cells, with the same columns.
            type: str
            required: true
          static_sites:
            description: Key of the CSV for C(kml_data_static), with the columns C(kml_type), C(name),
              C(hint).
            type: str
            required: true
          reference_fields:
            description: Key of the CSV for C(qaqcfields), with the columns C(name), C(category),
              C(geom_clean).
            type: str
            required: true
      geography_info:
        description: Step M(labeller.runbook.geography_info).
        type: dict
        suboptions:
          run_id:
            description: Number of the run whose sites are shown.
            type: int
            required: true
          wanted:
            description: Whether to look at all; the run modes ask for a map when something keeps
              it.
            type: bool
            default: true
          aoi:
            description: Key of the GeoJSON object with the outlines; without it the map shows the
              sites alone.
            type: str
          aoi_index:
            description: The AOI, a 1-based row of the GeoJSON.
            type: int
          pool:
            description: Key of the pool's CSV; a check takes what the step M(labeller.runbook.f_pool)
              found.
            type: str
          training_names:
            description: Key of the run's own CSV of training names, those of them in O(steps[].geography_info.pool)
              are shown.
            type: str
      grid_availability:
        description: Step M(labeller.runbook.grid_availability).
        type: dict
        suboptions:
          state:
            description:
              - V(present) sets these codes.
              - V(undone) gives the cells that the run O(steps[].grid_availability.run) changed
                the codes that they had before it, as the target's journal says, and first completes
                uploads that a killed run left. Refused if one of them got another code since.
            type: str
            choices:
              - present
              - undone
            default: present
          run:
            description: The run to undo, by its id or the beginning of it.
            type: str
            default: ''
          force:
            description: V(grid) has V(undone) accept any code.
            type: list
            elements: str
            choices:
              - grid
              - tables
              - settings
              - files
              - crontab
            default: []
      pg_clear:
        description: Step M(labeller.runbook.pg_clear).
        type: dict
        suboptions:
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
            description: Those of O(steps[].pg_clear.tables) that a labeller may lack; any other
              missing table is an error.
            type: list
            elements: str
            default:
              - assignment_review
              - machine_maps
          reset_availability:
            description: Availability codes that are reset to V(T), free; V(N) stays by default.
            type: list
            elements: str
            choices:
              - I
              - Q
              - F
              - E
              - N
            default:
              - I
              - Q
              - F
              - E
          restart_sequences:
            description:
              - Whether to restart the sequences of all emptied tables at 1; without it only those
                of V(kml_data) and V(machine_maps).
            type: bool
            default: false
          metrics:
            description:
              - V(keep) keeps the metrics and the processed names of earlier runs.
              - V(clear) deletes the metrics, and the processed names, which refer to them; the
                backup must prove both.
            type: str
            choices:
              - keep
              - clear
            default: keep
          run_id:
            description:
              - Number of the run that begins. When the processed names of that number are those
                of an initial drawing and O(steps[].pg_clear.static_names) holds them, they and
                their metrics are deleted; the backup must prove both.
            type: int
          static_names:
            description: Key of the CSV of static training names, for O(steps[].pg_clear.run_id).
            type: str
      run_marker:
        description: Step M(labeller.runbook.run_marker).
        type: dict
        suboptions:
          state:
            description:
              - V(read) says which run is in place, and whether the tables agree with it; like the
                other states but V(present) it changes nothing.
              - V(checked) also refuses what a run mode must refuse before it changes anything.
                The tables disagree with the run marker; the run in place is a later one on the
                same AOI, or has unprocessed names, and O(steps[].run_marker.replaced_run) does
                not name it; O(steps[].run_marker.run_id) was the number of an earlier run, of which
                processed names or metrics are kept. It warns of parameters that differ from O(steps[].run_marker.made_with)
                of the run in place.
              - V(resumable) refuses unless labeller can be put into service as it is. The tables
                agree with the run marker, and the run in place is that of the options, whatever
                its mode.
              - V(present) marks the run; within M(labeller.runbook.pg_transaction) the only one
                allowed.
            type: str
            choices:
              - present
              - read
              - checked
              - resumable
            default: present
          mode:
            description: The run mode.
            type: str
            choices:
              - initial
              - single
              - regular
            required: true
          aoi_name:
            description: General name of the AOI.
            type: str
            required: true
          aoi_index:
            description: Number of the AOI.
            type: int
            required: true
          run_id:
            description: Number of the run.
            type: int
            required: true
          follows:
            description:
              - Whether the run must be the next one after the run in place, O(steps[].run_marker.run_id)
                one more and on the same AOI; any other is refused.
            type: bool
            default: false
          replaced_run:
            description:
              - Number of the run in place that this run may replace although it has unprocessed
                names, is a later one, or does not agree with the tables; V(unknown) for restored
                tables of an unknown run.
            type: str
            default: ''
          made_with:
            description:
              - Parameters that take effect with a new run only; V(present) records them. Never
                secret ones.
            type: dict
          earlier_metrics:
            description:
              - What the run does with the metrics and processed names of earlier runs, for V(checked).
                With V(clear) its number may be that of an earlier run.
            type: str
            choices:
              - keep
              - clear
            default: keep
          static_names:
            description:
              - Key of the CSV of static training names, for V(checked). With it, regular production
                may have the number of the initial drawing that the file holds.
            type: str
      scene_catalog:
        description: Step M(labeller.runbook.scene_catalog).
        type: dict
        suboptions:
          catalog:
            description:
              - Key of the full catalogue, a CSV with at least the columns V(cell_id), V(scene_id),
                V(season), V(global_col), V(global_row), V(url), V(tms_url) and V(date_time), in
                any order.
              - Column V(provider) is optional; without a value it is V(planet).
            type: str
            required: true
          image_catalog:
            description: Key of the run's image catalogue, written; without it none is.
            type: str
          aoi:
            description:
              - Key of the GeoJSON file of areas, longitude and latitude; without it only the scenes
                of V(kml_data_static) and O(steps[].scene_catalog.static_names) are taken.
            type: str
          aoi_index:
            description: The area, as the 1-based row of O(steps[].scene_catalog.aoi).
            type: int
            default: 1
          static_names:
            description:
              - Key of the CSV of static training names (column V(name), others are ignored).
              - A file that is given must hold names; without the option there are none.
            type: str
      static_sites:
        description: Step M(labeller.runbook.static_sites).
        type: dict
        suboptions:
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
      worker_qualifications:
        description: Step M(labeller.runbook.worker_qualifications).
        type: dict
        suboptions:
          state:
            description: V(reset) does it, V(kept) nothing.
            type: str
            choices:
              - kept
              - reset
            default: kept
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

- name: Reset the database for the run
  labeller.runbook.pg_transaction:
    login_password: "{{ db_pwd }}"
    bucket: activemapper
    backup: "{{ backup.manifest }}"
    steps:
      - run_marker:
          mode: regular
          aoi_name: ghana
          aoi_index: 3
          run_id: 1
      - pg_clear: {}
      - grid_availability: {}
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

from ansible_collections.labeller.runbook.plugins.module_utils import module, transaction
from ansible_collections.labeller.runbook.plugins.module_utils.step import COMMON_ARGUMENTS
from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry

ARGUMENTS = {
    **COMMON_ARGUMENTS,
    "backup": {"type": "dict"},
    "steps": registry.STEPS_ARGUMENT,
}


def logic(params, check_mode):
    return transaction.run(registry.chain(params["steps"]), params, check=check_mode)


MODULE = module.Module(ARGUMENTS, logic)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
