#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_info
short_description: Whether a target can be operated
version_added: 0.1.0
description:
  - Looks at all that run modes need on a target, and says how to put right what is not as it must be;
    a check that fails is no failure of the step.
  - Changes only one object on S3, below O(prefix), which is written, overwritten in vain, read
    and removed again.
options:
  home:
    description: Folder of the labeller checkout.
    type: path
    required: true
  crontab_file:
    description: A file in place of the user's crontab.
    type: path
  journal_folder:
    description: Folder of the journal; empty is the one in the user's home.
    type: str
    default: ''
  httpd_service:
    description: Name of the web server's service; empty for none.
    type: str
    default: ''
  learner_loop:
    description: Whether C(iterate.yml) starts the learner; otherwise the folder of Terraform is looked at.
    type: bool
    default: true
  learner_command:
    description: The crontab's command for C(iterate.yml); empty is runbook of C($HOME/runbook).
    type: str
    default: ''
  learner_inventory:
    description: Inventory of that call, a path on the target.
    type: str
    default: ''
  learner_vault_password_file:
    description: File on the target with the password of its vault.
    type: str
    default: ''
  bucket:
    description: The bucket.
    type: str
    required: true
  prefix:
    description: Key prefix below which the object is written.
    type: str
    required: true
  server_side_encryption:
    description: Encryption at rest of the object, as of a run's; V(none) is for a server other than AWS's that
      does not encrypt objects.
    type: str
    choices: [AES256, none]
    default: AES256
  sse_kms_key_id:
    description: KMS key of the backups, its id, ARN or alias; the object is then encrypted with it.
    type: str
  ec2_instance:
    description: The tag Name of the instance.
    type: str
    required: true
  tables:
    description: The tables that a run needs.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: See whether the target can be operated
  labeller.runbook.doctor_info:
    home: /home/mapper/labeller
    bucket: activemapper
    prefix: backups/database/labeller3
    ec2_instance: labeller3
    tables: [kml_data, hit_data]
    login_password: "{{ db_pwd }}"
  register: found
"""

RETURN = r"""
findings:
  description:
    - What was found, in the order in which it was looked at. Each has C(check), C(status) (V(ok),
      V(warning) or V(failed)), C(found), and C(fix), a command or a sentence, empty with ok.
  returned: success
  type: list
  elements: dict
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

from ansible_collections.labeller.runbook.plugins.module_utils import change, doctor, module


def logic(params, _check_mode):
    return change.result([], findings=[each._asdict() for each in doctor.examine(params)])


ARGUMENTS = doctor.ARGUMENTS
MODULE = module.Module(ARGUMENTS, logic)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
