# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What every step has that is a module of its own: a transaction of one step."""

    DOCUMENTATION = r"""
options:
  bucket:
    description: S3 bucket of the objects that the step reads and writes; all keys are within it.
    type: str
  allowed_triggers:
    description:
      - Triggers and rules that are known to be harmless, each as SCHEMA.TABLE.NAME. Any other that
        fires on a table which is written is refused, in check mode too, because a check cannot show
        what it does.
    type: list
    elements: str
    default: []
  planned:
    description:
      - The changes that the check run returned, each an entry of RV(plan), with the texts C(before)
        and C(after) of its diff where it changes something. Set by the engine, not by playbooks.
      - If what the transaction did differs from them, nothing is committed and the task fails with
        C(error_kind) C(stale), naming planned and found. Without the option nothing is compared.
    type: list
    elements: dict
notes:
  - Runs as one database transaction. S3 objects are uploaded before the commit and completed after
    it. In check mode the same statements run on temporary copies of the tables, in a transaction
    that the server holds read only.
  - Within M(labeller.runbook.pg_transaction) the step takes its own options only.
"""
