#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: iteration
short_description: Where the active-learning loop is, and its next step in the database
version_added: 0.1.0
description:
  - Tells from the tables where the run in place is, exports the labelled names for the learner, and
    takes in what the learner brought. Each change is one transaction; a state that is reached already
    changes nothing.
  - Takes the place of the decisions of C(generate_consensus_daemon.py), of C(register_f_sites.py)
    and of C(run_DB_insert.py) where that failed. The daemon goes on to make labels.
options:
  state:
    description:
      - V(read) returns where the loop is and what comes next, and changes nothing.
      - V(repaired) queues sites of the iteration that are missing in kml_data, and counts sites that
        were mapped more often than needed as complete; either would keep the iteration open for ever.
      - V(exported) writes the table incoming_names as a CSV object to O(incoming_names); in initial
        drawing the run's own rows only. In regular production it first verifies all that the learner
        reads, and refuses when the learner would fail or learn from the wrong names (empty sets,
        names outside the pool or named twice, missing label images or scenes, other iterations).
      - V(advanced) holds the learner's metrics against the stopping criteria of the table
        configuration, within this run only. Then either the learner's names become sites and the
        counter goes up, or the loop ends and names that are not mapped are deleted.
    type: str
    choices: [read, repaired, exported, advanced]
    required: true
  aoi_name:
    description: General name of the AOI.
    type: str
    required: true
  aoi_index:
    description: The AOI, a 1-based row of the GeoJSON.
    type: int
    required: true
  run_id:
    description: Number of the run, which must be the one in place.
    type: int
    required: true
  iteration:
    description: The iteration that the caller means, as V(state=read) returned it.
    type: int
  details:
    description: Whether O(state=read) also returns RV(hours) and RV(criteria).
    type: bool
    default: false
  instance:
    description:
      - The EC2 instance that alone may go on with V(state=read); another one, as one that was made of its
        image, is refused. Not compared if empty, or where the host is no EC2 instance.
    type: str
    default: ''
  incoming_names:
    description: Key of the exported CSV.
    type: str
  training_names:
    description: Key of the run's own CSV of training names, to verify.
    type: str
  pool:
    description: Key of the pool's CSV, to verify.
    type: str
  image_catalog:
    description: Key of the run's catalogue of scenes, to verify.
    type: str
  labels:
    description: Prefix of the label images, to verify.
    type: str
  metrics:
    description: Key of the CSV with the learner's metrics, read when the table does not have them.
    type: str
  outgoing:
    description: Key of the CSV with the learner's names, read when the table does not have them.
    type: str
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Read where the loop is
  labeller.runbook.iteration:
    login_password: "{{ db_pwd }}"
    state: read
    aoi_name: ghana
    aoi_index: 3
    run_id: 1
  register: turn
"""

RETURN = r"""
phase:
  description:
    - V(none) when no run is in place or the run has no sites; V(mapping) while sites are open;
      V(complete) when all are processed; V(returned) when the learner's metrics and names are there
      as well; V(stopped) when the loop has ended.
  returned: when O(state=read)
  type: str
next:
  description:
    - V(wait) while mappers work, or without a run; V(repair) when O(state=repaired) has something to do;
      V(learn) to export the names, start the learner and follow it; V(advance) to take in what it
      brought; V(export) to export the names of an initial drawing, and end; V(end) to take labeller
      out of service.
  returned: when O(state=read)
  type: str
mode:
  description: Mode of the run in place, empty without one.
  returned: when O(state=read)
  type: str
iteration:
  description: The loop's iteration.
  returned: when O(state=read) and a run is in place
  type: int
applied_at:
  description: When the run was applied.
  returned: when O(state=read) and a run is in place
  type: str
total:
  description: Sites of the iteration.
  returned: when O(state=read) and a run is in place
  type: int
processed:
  description: Sites of the iteration that are processed.
  returned: when O(state=read) and a run is in place
  type: int
blocked:
  description: Sites that O(state=repaired) would repair.
  returned: when O(state=read) and a run is in place
  type: int
failed_labels:
  description: Sites of the run that are processed without a label.
  returned: when O(state=read) and a run is in place
  type: int
metrics:
  description: Accuracy, TSS and AUC by iteration.
  returned: when O(state=read) and a run is in place
  type: list
  elements: dict
criteria:
  description:
    - The stopping criteria of the table configuration, C(max_iterations), C(accuracy) and C(gain); a
      number is null when it is C(nan), which switches its criterion off. Null when they cannot be used.
  returned: when O(state=read), with O(details), and a run is in place
  type: dict
hours:
  description:
    - How many C(sites) of the run had their last mapping in which C(hour) (UTC) and are processed, for
      the newest 72 hours that have any.
  returned: when O(state=read), with O(details), and a run is in place
  type: list
  elements: dict
waits_for:
  description: What has to happen next, in words.
  returned: when O(state=read)
  type: str
finished:
  description: Whether the loop ends.
  returned: when O(state=advanced) changed something
  type: bool
reason:
  description: The criterion that ends the loop, empty when it goes on.
  returned: when O(state=advanced) changed something
  type: str
in_place:
  description: Whether the state was reached before.
  returned: when O(state) is not V(read)
  type: bool
plan:
  description: Each table and object with what is done to it, and how much.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import module
from ansible_collections.labeller.runbook.plugins.module_utils.steps import iteration as steps
from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry

ARGUMENTS = registry.arguments(steps.Iteration)

_NEEDS = [
    ("state", "repaired", ["iteration"]),
    ("state", "exported", ["iteration", "incoming_names"]),
    ("state", "advanced", ["iteration", "metrics", "outgoing"]),
]
MODULE = module.Module(ARGUMENTS, steps.logic, required_if=_NEEDS)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
