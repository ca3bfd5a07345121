# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of every module: check mode and diff in full, and the plan that it is held to."""

    DOCUMENTATION = r"""
options:
  planned:
    description:
      - The changes that the check run returned, each an entry of RV(plan), with the texts C(before)
        and C(after) of its diff where it changes something. Set by the engine, not by playbooks.
      - If the module is about to make other changes, it makes none, and the task fails with
        C(error_kind) C(stale), naming planned and found. A database transaction compares before its
        commit. Which daemons run is not compared. Without the option nothing is.
    type: list
    elements: dict
  journal:
    description:
      - Set by the action plugin, not by playbooks. What the target's journal says of this step,
        before it changes something and after. If that cannot be written, the task fails and nothing
        is changed, and a check fails too when it can be seen beforehand.
      - Without the option nothing is written.
    type: dict
    suboptions:
      run:
        description: Id of the run, as in V(20260114T093012-3f9a1c).
        type: str
        required: true
      operator:
        description: Who runs the playbook, and on which machine.
        type: str
        default: ''
      playbook:
        description: File name of the playbook.
        type: str
        default: ''
      plan:
        description: SHA-256 of the plan file that the run applies.
        type: str
        default: ''
      task:
        description: Name of the task.
        type: str
        default: ''
      host:
        description: Inventory name of the host.
        type: str
        default: ''
      module:
        description: Name of the module.
        type: str
        default: ''
      folder:
        description:
          - Folder of the journal on the target, of mode 0700; empty is
            C(.local/state/runbook/journal) in the home of the user that the module runs as,
            whatever the environment says.
        type: str
        default: ''
attributes:
  check_mode:
    description: Can run in check mode and says exactly what it would do, changing nothing.
    support: full
  diff_mode:
    description: Returns what it changed, or in check mode would change.
    support: full
author:
  - The runbook developers (@agroimpacts)
"""
