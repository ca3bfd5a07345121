# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """Options of pg_transaction and of each step as a module: a transaction of one step."""

    DOCUMENTATION = r"""
options:
  bucket:
    description: S3 bucket of the objects that are read and written; all keys are within it.
    type: str
  allowed_triggers:
    description:
      - Triggers and rules that are known to be harmless, each as SCHEMA.TABLE.NAME. Any other that
        fires on a table which is written is refused, in check mode too, because a check cannot show
        what it does.
    type: list
    elements: str
    default: []
notes:
  - Runs as one database transaction. S3 objects are uploaded before the commit and completed after
    it. In check mode the same statements run on temporary copies of the tables, in a transaction
    that the server holds read only.
  - A step within M(labeller.runbook.pg_transaction) takes its own options only.
"""
