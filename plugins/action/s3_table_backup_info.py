# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""As s3_table_backup's: reading all objects takes as long as restoring them."""

from __future__ import annotations

from ansible_collections.labeller.runbook.plugins.action.s3_table_backup import ActionModule

__all__ = ["ActionModule"]
