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
