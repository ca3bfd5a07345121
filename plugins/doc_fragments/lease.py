# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """The option of every module that changes a target under its lease."""

    DOCUMENTATION = r"""
options:
  lease:
    description:
      - The lease on the target, as M(labeller.runbook.lease) returned it. Verified before anything
        is changed, kept while the module works, and given back when it fails; without it none is
        needed, and no database is contacted for it.
    type: int
"""
