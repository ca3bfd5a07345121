# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """Check mode and diff are full in every module of the collection."""

    DOCUMENTATION = r"""
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
