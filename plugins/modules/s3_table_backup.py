#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_table_backup
short_description: Backups of database tables on S3
description:
  - Copies tables to S3 as compressed CSV, all from one snapshot of the database, with a manifest
    that holds row counts, content fingerprints and checksums and is written last.
  - A backup is not made twice. When the newest one holds the same rows, it is returned.
  - Restores verify every object, load beside the live tables, compare fingerprints, and swap in
    one transaction.
options:
  state:
    description:
      - V(present) makes a backup of O(tables) unless the newest one is equal to them.
      - V(restored) makes O(tables) hold what the backup O(backup_id) holds. Tables that do
        already are left alone. In the same transaction the run marker is set to the run that the
        tables then are, see O(run) and O(same_instance).
      - V(absent) removes backups, the one named by O(backup_id) or those that O(keep) and
        O(keep_days) do not keep; never the newest good one, nor one that the run marker or
        O(protect) names.
    type: str
    choices: [present, restored, absent]
    default: present
  bucket:
    description: S3 bucket of the backups.
    type: str
    required: true
  prefix:
    description: Prefix of this host's backups in the bucket, for instance V(backups/database/HOST).
    type: str
    required: true
  tables:
    description:
      - Tables to back up; a name of schema public, or V(SCHEMA.TABLE).
      - Tables of the backup to restore, by their names there; without it all.
    type: list
    elements: str
  backup_id:
    description:
      - The backup to restore or to remove. V(newest) is the newest complete one; to remove, it
        means no particular one. A date such as V(2026-01-14) is the newest one of that day, to
        restore; so is the beginning of an id the only complete one whose id begins so.
      - Folders of TABLE.sql files of C(pg_dump -a), which the old scripts named by the date, can
        be restored too, by their name, and count for V(newest) and the date.
    type: str
    default: newest
  label:
    description: What the backup holds, for people, kept in its manifest; for instance the run in place.
    type: str
  mapping:
    description: What is restored elsewhere, or into tables whose columns have changed since.
    type: list
    elements: dict
    default: []
    suboptions:
      table:
        description: The table's name in the backup.
        type: str
        required: true
      into:
        description: The live table, when it has another name.
        type: str
      columns:
        description: Names in the backup of columns that have others in the live table, and those.
        type: dict
        default: {}
      drop:
        description: Columns of the backup that are not restored.
        type: list
        elements: str
        default: []
      keep_default:
        description: Columns of the live table that the backup does not have and that get their default.
        type: list
        elements: str
        default: []
  same_instance:
    description:
      - Whether the restored backup was made on this instance. When it is, and C(incoming_names),
        C(iteration_metrics) and C(kml_data) are all restored, the run marker becomes what the
        backup's manifest says it was.
      - Of another's backup, of one that does not say its run, and where only some of these tables
        are restored from a backup of another run, it says that the run is unknown.
    type: bool
    default: true
  run:
    description:
      - The run that the restored tables are, in place of what the backup says; for instance of
        another instance's backup or of files of C(pg_dump). Refused unless the tables agree.
    type: dict
    suboptions:
      mode:
        description: The run mode.
        type: str
        choices: [initial, single, regular]
        required: true
      aoi_name:
        description: General name of the AOI.
        type: str
        required: true
      aoi_index:
        description: Number of the AOI.
        type: int
        required: true
      run_id:
        description: Number of the run.
        type: int
        required: true
  backup:
    description:
      - Manifest of the backup that holds the rows that V(restored) replaces, as V(present) returned it.
        Refused if they are other ones by now. It is what undoing the restore takes.
    type: dict
  left:
    description:
      - By table, the states that a table may be in besides that of the backup, each with C(rows) and
        C(fingerprint); V(restored) refuses any other. Without it any state is accepted.
    type: dict
  allowed_triggers:
    description:
      - Rules on INSERT that are known to be harmless, each as SCHEMA.TABLE.NAME. Any other on a
        table that V(restored) fills is refused, in check mode too, because a check cannot show what
        it does. Triggers are not looked at, they do not fire for restored rows.
    type: list
    elements: str
    default: []
  verify:
    description:
      - V(head) compares size and checksum of every object, as S3 reports them, after the upload.
      - V(deep) also reads all objects back, loads them into temporary tables, counts and
        fingerprints the rows there.
    type: str
    choices: [head, deep]
    default: head
  keep:
    description: How many of the newest backups V(absent) keeps.
    type: int
  keep_days:
    description: Backups younger than this many days are kept by V(absent).
    type: int
  protect:
    description: Ids of backups that V(absent) keeps in any case.
    type: list
    elements: str
    default: []
  compression:
    description: How objects are compressed.
    type: str
    choices: [zstd, gzip]
    default: zstd
  compression_level:
    description: Level of the compression; without it 1, the fastest.
    type: int
  jobs:
    description: How many connections read the database at the same time.
    type: int
    default: 4
  chunk_size:
    description: Tables larger than this, in MB, are read in pieces side by side (PostgreSQL 14 or later).
    type: int
    default: 64
  storage_class:
    description: Storage class of the objects; without it the bucket's default.
    type: str
    choices: [STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR]
  server_side_encryption:
    description:
      - Encryption of the objects at rest; without it V(aws:kms) if O(sse_kms_key_id) is set, else V(AES256).
      - V(none) is for a server other than AWS's that does not encrypt objects.
    type: str
    choices: [AES256, "aws:kms", "aws:kms:dsse", none]
  sse_kms_key_id:
    description: Key of the encryption by KMS, its id, ARN or alias; without it the account's default key.
    type: str
  progress:
    description:
      - Set by the action plugin, not in playbooks. A file that does not exist; while
        the module runs it writes the progress of each table there, and removes it at the end.
    type: path
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.lease
  - labeller.runbook.aws
  - labeller.runbook.plan
requirements:
  - zstandard
"""

EXAMPLES = r"""
- name: Back up the tables
  labeller.runbook.s3_table_backup:
    bucket: activemapper
    prefix: backups/database/labeller3
    tables: [user_maps, hit_data, assignment_data]
    login_password: "{{ db_pwd }}"
  register: backup

- name: Put two tables back as they were
  labeller.runbook.s3_table_backup:
    state: restored
    bucket: activemapper
    prefix: backups/database/labeller3
    tables: [hit_data, assignment_data]
    backup_id: "{{ backup.backup_id }}"
    login_password: "{{ db_pwd }}"

- name: Keep the ten newest backups and those of the last month
  labeller.runbook.s3_table_backup:
    state: absent
    bucket: activemapper
    prefix: backups/database/labeller3
    keep: 10
    keep_days: 31
    login_password: "{{ db_pwd }}"
"""

RETURN = r"""
backup_id:
  description:
    - The backup made, or the newest one when it is equal; V(planned) in check mode.
    - The backup that was restored.
  returned: state is present or restored
  type: str
  sample: 20260114T093012123Z-3f9a1c-07ab
manifest:
  description: Its manifest (schemas/backup_manifest.schema.json).
  returned: state is present
  type: dict
in_place:
  description: Whether the tables, their sequences and the run marker were as the backup says.
  returned: state is restored
  type: bool
tables:
  description: Rows before and after of the restored tables that differ, and how many rows
    appear, vanish and differ.
  returned: state is restored
  type: dict
removed:
  description: Ids of the backups removed.
  returned: state is absent
  type: list
  elements: str
kept:
  description: Why each backup is kept, by id.
  returned: state is absent
  type: dict
plan:
  description: Each resource with what is done to it.
  returned: success
  type: list
  elements: dict
diff:
  description:
    - What is saved, each table with its rows and how it differs from the backup before, which stays
      where it is; of a restore, the rows of each table before and after; of a removal, the backups.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import (
    aws,
    marker,
    module,
    postgres,
    progress,
)
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, prune, restore

ARGUMENTS = {
    **postgres.POSTGRES_ARGUMENTS,
    **aws.AWS_ARGUMENTS,
    "state": {"type": "str", "choices": ["present", "restored", "absent"], "default": "present"},
    "bucket": {"type": "str", "required": True},
    "prefix": {"type": "str", "required": True},
    "tables": {"type": "list", "elements": "str"},
    "backup_id": {"type": "str", "default": "newest"},
    "label": {"type": "str"},
    "mapping": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "table": {"type": "str", "required": True},
            "into": {"type": "str"},
            "columns": {"type": "dict", "default": {}},
            "drop": {"type": "list", "elements": "str", "default": []},
            "keep_default": {"type": "list", "elements": "str", "default": []},
        },
    },
    "lease": {"type": "int"},
    "same_instance": {"type": "bool", "default": True},
    "run": {
        "type": "dict",
        "options": {
            "mode": {"type": "str", "required": True, "choices": list(marker.RUN_MODES)},
            "aoi_name": {"type": "str", "required": True},
            "aoi_index": {"type": "int", "required": True},
            "run_id": {"type": "int", "required": True},
        },
    },
    "backup": {"type": "dict"},
    "left": {"type": "dict"},
    "allowed_triggers": {"type": "list", "elements": "str", "default": []},
    "verify": {"type": "str", "choices": ["head", "deep"], "default": "head"},
    "keep": {"type": "int"},
    "keep_days": {"type": "int"},
    "protect": {"type": "list", "elements": "str", "default": []},
    "compression": {"type": "str", "choices": ["zstd", "gzip"], "default": "zstd"},
    "compression_level": {"type": "int"},
    "jobs": {"type": "int", "default": 4},
    "chunk_size": {"type": "int", "default": 64},
    "storage_class": {
        "type": "str",
        "choices": ["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"],
    },
    "server_side_encryption": {
        "type": "str",
        "choices": ["AES256", "aws:kms", "aws:kms:dsse", "none"],
    },
    "sse_kms_key_id": {"type": "str", "no_log": False},
    "progress": {"type": "path"},
}

LOGIC = {
    "present": make.present,
    "restored": restore.restored,
    "absent": prune.absent,
}


def logic(params, check_mode):
    with progress.written_to(params["progress"]):
        return LOGIC[params["state"]](params, check_mode)


MODULE = module.Module(ARGUMENTS, logic, required_if=[("state", "present", ["tables"])])


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
