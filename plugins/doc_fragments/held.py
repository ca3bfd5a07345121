# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What every module has that holds itself to a plan."""

    DOCUMENTATION = r"""
options:
  planned:
    description:
      - The changes that the check run returned, each an entry of RV(plan), with the texts C(before)
        and C(after) of its diff where it changes something. Set by the engine, not by playbooks.
      - If the changes that were made in the database differ from them, or those that a restore is
        about to make, nothing is committed and the task fails with C(error_kind) C(stale), naming
        planned and found. Without the option nothing is compared.
    type: list
    elements: dict
"""
