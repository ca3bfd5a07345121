#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: run_marker
short_description: Which run a database is set up for
description:
  - The newest row of V(runbook.run_marker) is the run in place. A transaction whose run is in place
    already does none of its steps.
options:
  state:
    description:
      - V(read) says which run is in place, and whether the tables agree with it; like the other
        states but V(present) it changes nothing.
      - V(checked) also refuses what a run mode must refuse before it changes anything. The tables
        disagree with the run marker; the run in place is a later one on the same AOI, or has
        unprocessed names, and O(replaced_run) does not name it; O(run_id) was the number of an
        earlier run, of which processed names or metrics are kept. It warns of parameters that
        differ from O(made_with) of the run in place.
      - V(resumable) refuses unless labeller can be put into service as it is. The tables agree with
        the run marker, and the run in place is that of the options, whatever its mode.
      - V(present) marks the run; within M(labeller.runbook.pg_transaction) the only one allowed.
    type: str
    choices: [present, read, checked, resumable]
    default: present
  mode:
    description: The run mode.
    type: str
    choices: [initial, single, regular]
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
      - Whether the run must be the next one after the run in place, O(run_id) one more and on the
        same AOI; any other is refused.
    type: bool
    default: false
  replaced_run:
    description:
      - Number of the run in place that this run may replace although it has unprocessed names, is
        a later one, or does not agree with the tables; V(unknown) for restored tables of an unknown
        run.
    type: str
    default: ""
  made_with:
    description:
      - Parameters that take effect with a new run only; V(present) records them. Never secret ones.
    type: dict
  earlier_metrics:
    description:
      - What the run does with the metrics and processed names of earlier runs, for V(checked). With
        V(clear) its number may be that of an earlier run.
    type: str
    choices: [keep, clear]
    default: keep
  static_names:
    description:
      - Key of the CSV of static training names, for V(checked). With it, regular production may have
        the number of the initial drawing that the file holds.
    type: str
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Read the run marker
  labeller.runbook.run_marker:
    login_password: "{{ db_pwd }}"
    state: read
    mode: regular
    aoi_name: ghana
    aoi_index: 3
    run_id: 1
  register: marker
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
label:
  description: The run in place in words, or empty.
  returned: when O(state) only looks
  type: str
  sample: regular run 1 on ghana, AOI 3
inconsistencies:
  description: What in the tables contradicts the run marker.
  returned: when O(state) only looks
  type: list
  elements: str
headline:
  description: Which run another one would replace, in a line; empty when none is.
  returned: when O(state) only looks
  type: str
current:
  description: The run in place, or null.
  returned: when O(state) only looks
  type: dict
  sample:
    mode: regular
    aoi_name: ghana
    aoi_index: 3
    run_id: 1
    applied_at: "2026-01-14T09:30:12+00:00"
    applied_by: postgis@local
    backup_id: 20260114T093012123Z-3f9a1c-07ab
    uploads_pending: false
    made_with: {initial_f_count: 100}
"""

from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry
from ansible_collections.labeller.runbook.plugins.module_utils.steps.run_marker import RunMarker

ARGUMENTS = registry.arguments(RunMarker)
MODULE = registry.module_of(RunMarker)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
