#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: undo
short_description: Put back what a run changed outside of the tables
description:
  - Reads from the target's journal what a run changed, and puts files, S3 objects and the crontab back
    as they were before it. C(undo.yml) is the whole undo of a run; M(labeller.runbook.s3_table_backup)
    restores its tables, M(labeller.runbook.grid_availability) and M(labeller.runbook.configuration)
    have a state V(undone).
  - What is neither as the run left it nor as it was before was changed since. The module names it and
    changes nothing, unless O(force) names the part.
options:
  state:
    description:
      - V(read) changes nothing and returns what the run changed.
      - V(files) puts back C(config.yaml) and its copy on S3, the learner's request, the objects that the
        run's transaction replaced, and the modes of scripts.
      - V(crontab) puts back the crontab's text. One without runbook's lines counts as the run left it.
    type: str
    choices: [read, files, crontab]
    required: true
  run:
    description: The run, by its id or the beginning of it, or V(newest), the last one that is no undo.
    type: str
    default: ''
  force:
    description: Parts that are put back although they were changed since the run.
    type: list
    elements: str
    choices: [grid, tables, settings, files, crontab]
    default: []
  home:
    description: Folder of labeller's checkout.
    type: path
    required: true
  user:
    description: User whose crontab it is; the user that the module runs as unless given.
    type: str
  crontab_file:
    description: A file in place of the user's crontab.
    type: path
  backup:
    description:
      - Manifest of a backup; objects that are replaced are copied below its prefix, for an undo of the
        undo.
    type: dict
  restart_file:
    description: File that is written when the web server must be restarted; empty for none.
    type: str
    default: ''
  server_side_encryption:
    description: Encryption at rest of the objects that are written to S3; V(none) is for a server other than AWS's that
      does not encrypt objects.
    type: str
    choices: [AES256, none]
    default: AES256
  stopped_in_check:
    description: Whether an earlier step of a check removes runbook's lines. Set by the action plugin.
    type: bool
    default: false
  written_in_check:
    description: Objects that earlier steps of a check write. Set by the action plugin.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.lease
  - labeller.runbook.aws
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Read what the run changed
  labeller.runbook.undo:
    state: read
    run: newest
    home: /home/mapper/labeller
  register: undo

- name: Put the crontab back
  labeller.runbook.undo:
    state: crontab
    run: "{{ undo.run }}"
    home: /home/mapper/labeller
"""

RETURN = r"""
run:
  description: The whole id of the run.
  returned: state is read
  type: str
backup:
  description: Bucket, prefix and id of the backup that holds the tables as they were; empty for none.
  returned: state is read
  type: dict
tables:
  description: The tables to restore.
  returned: state is read
  type: list
  elements: str
left:
  description: By table the states that the run left it in, each with C(rows) and C(fingerprint).
  returned: state is read
  type: dict
any_state:
  description: Whether O(force) names the tables.
  returned: state is read
  type: bool
settings:
  description: Whether the run set settings without a backup of their table.
  returned: state is read
  type: bool
stops:
  description: Whether labeller must be out of service while the run is undone.
  returned: state is read
  type: bool
started:
  description: Daemons to stop because the run started them, if labeller stays in service.
  returned: state is read
  type: list
  elements: str
daemons:
  description: The daemons that ran before the run, if it stopped or started any.
  returned: state is read
  type: list
  elements: str
in_place:
  description: Whether crontab and daemons are as before the run.
  returned: state is read
  type: bool
headline:
  description: What is undone, and what cannot be.
  returned: state is read
  type: str
web_changed:
  description: Whether the web server finds another configuration.
  returned: state is files or crontab
  type: bool
plan:
  description: Each place with what is done to it; of V(read) the run, which is not changed.
  returned: success
  type: list
  elements: dict
diff:
  description: Each place that changes, before and after, without secrets.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import lease, module
from ansible_collections.labeller.runbook.plugins.module_utils.undo import places

ARGUMENTS = {**lease.OPTIONS, **places.ARGUMENTS}

MODULE = module.Module(ARGUMENTS, lease.guarded(places.run))


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
