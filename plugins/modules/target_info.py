#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: target_info
short_description: Who holds a target, how its newest run ended, and what serves the mappers
description:
  - Reads the lease, the target's journal, labeller's daemons and the crontab in one step, for
    C(runbook status). It changes nothing.
options:
  home:
    description: Labeller's checkout.
    type: path
    required: true
  crontab_file:
    description: A file in the place of the user's crontab.
    type: path
  journal_folder:
    description: The target's journal, as of M(labeller.runbook.journal_info).
    type: str
    default: ""
  ended:
    description: A process that is known to have ended; the action plugin sets it.
    type: str
    default: ""
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Read who holds the target and what serves the mappers
  labeller.runbook.target_info:
    login_password: "{{ db_pwd }}"
    home: "{{ labeller_home }}"
  register: target
"""

RETURN = r"""
lease:
  description: Who holds the target, as M(labeller.runbook.lock) returns it; null when it is free.
  returned: success
  type: dict
newest_run:
  description: The newest run of the journal, as M(labeller.runbook.journal_info) returns it; null
    when there is none, or the journal cannot be read.
  returned: success
  type: dict
service:
  description: C(daemons), the names of those that run, and C(crontab), whether it starts any; null
    when that cannot be read.
  returned: success
  type: dict
plan:
  description: Always empty.
  returned: success
  type: list
  elements: dict
diff:
  description: Always empty.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import module, target_info

MODULE = module.Module(target_info.ARGUMENTS, target_info.run)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
