#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_table_backup_info
short_description: List and verify backups of database tables on S3
description:
  - Lists the backups that M(labeller.runbook.s3_table_backup) and the old scripts made below a
    prefix, the newest first, and verifies them. It changes nothing.
options:
  bucket:
    description: S3 bucket of the backups.
    type: str
    required: true
  prefix:
    description: Prefix of a host's backups in the bucket, for instance V(backups/database/HOST).
    type: str
    required: true
  backup_id:
    description: >-
      Only this backup, by its id or the beginning of it, with its manifest; V(newest) is the newest
      complete one.
    type: str
  verify:
    description:
      - V(none) reads manifests only. V(head) compares size and checksum of every object as S3
        reports them. V(deep) also reads all objects, loads them into temporary tables of the
        database, counts and fingerprints the rows there.
      - Of TABLE.sql files of the old scripts, V(head) reads whether C(pg_dump) wrote them to their
        end; V(deep) reads them through and counts their rows.
    type: str
    choices: [none, head, deep]
    default: none
  progress:
    description:
      - Set by the action plugin, not in playbooks. A file that does not exist; while
        the module runs it writes the progress of each table there, and removes it at the end.
    type: path
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.plan
requirements:
  - zstandard
"""

EXAMPLES = r"""
- name: Verify the newest backup
  labeller.runbook.s3_table_backup_info:
    bucket: activemapper
    prefix: backups/database/labeller3
    backup_id: newest
    verify: head
  register: found
"""

RETURN = r"""
backups:
  description:
    - The backups, the newest first. Each has C(backup_id), C(finished), C(intact), C(created),
      C(database), C(tables) (their number), C(rows), C(bytes) on S3, and C(problems), what is wrong
      with it.
    - One without manifest is not C(finished); the next backup removes it.
    - Those of the old scripts have a date as C(backup_id); their C(rows) are null unless O(verify=deep).
    - With O(verify=none), C(intact) is null.
  returned: success
  type: list
  elements: dict
old_location:
  description: Where the old scripts put backups of this host, when there is none below O(prefix).
  returned: without O(backup_id)
  type: str
manifest:
  description:
    - The manifest of the backup (schemas/backup_manifest.schema.json); of the old scripts' files,
      their keys and sizes in the same form.
  returned: with O(backup_id)
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

from ansible_collections.labeller.runbook.plugins.module_utils import (
    aws,
    module,
    postgres,
    progress,
)
from ansible_collections.labeller.runbook.plugins.module_utils.backup import verify

ARGUMENTS = {
    **postgres.POSTGRES_ARGUMENTS,
    **aws.AWS_ARGUMENTS,
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "required": True},
    "backup_id": {"type": "str"},
    "verify": {"type": "str", "choices": ["none", "head", "deep"], "default": "none"},
    "progress": {"type": "path"},
}


def logic(params, check_mode):
    with progress.written_to(params["progress"]):
        return verify.info(params, check_mode)


MODULE = module.Module(ARGUMENTS, logic)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
