#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: configuration
short_description: Set labeller's own settings, the table configuration
version_added: 0.1.0
description:
  - Sets the given keys of the table C(configuration) and leaves the others as they are; a missing
    row is made.
  - Values are validated against the key's type and range (C(schemas/configuration.schema.json)), so that
    no daemon crashes on them. Equal values are equal however they are written, V(0.50) and V(0.5).
  - Can be a step of M(labeller.runbook.pg_transaction).
options:
  state:
    description:
      - V(present) sets the keys.
      - V(valid) only verifies that they can be set and that O(profile) has what it needs, and
        changes nothing. It refuses keys that parameters of the run modes set, such as
        C(InitialFnum).
      - V(undone) gives the keys that the run O(run) set the values that they had before it, as the
        target's journal says; of secret keys it holds none. Refused if they were changed since.
    type: str
    choices: [present, valid, undone]
    default: present
  run:
    description: The run to undo, by its id or the beginning of it.
    type: str
    default: ''
  force:
    description: V(settings) has V(undone) accept any values.
    type: list
    elements: str
    choices: [grid, tables, settings, files, crontab]
    default: []
  settings:
    description: Keys and values; a value as YAML has it or as text.
    type: dict
    default: {}
  secrets:
    description: Keys and values that are never shown, the Sentinel Hub instances C(instanceF) and so on.
    type: dict
    default: {}
  allow_unknown:
    description: Whether keys may be set that this version does not know.
    type: bool
    default: false
  profile:
    description:
      - Crontab profile that the settings must suit. V(standalone_f) needs C(Hit_StandAlone), a
        profile with the notifier O(slack) or C(Hit_NotificationEmailAddress).
    type: str
    choices: [full, maintenance, no_n, no_n_notifier, standalone_f]
  notify:
    description: Whether the notifier runs, in place of what O(profile) says.
    type: bool
  slack:
    description: Whether notifications go to a Slack webhook.
    type: bool
    default: false
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.aws
  - labeller.runbook.transaction
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Four mappers for each F site, without the learner
  labeller.runbook.configuration:
    settings:
      Hit_MaxAssignmentsF: 4
      Hit_StandAlone: true
    login_db: Africa
    login_password: "{{ db_pwd }}"
"""

RETURN = r"""
in_place:
  description: Whether the state was in place already, so that no step has run.
  returned: success
  type: bool
plan:
  description: Each table and object with what is done to it, and how much.
  returned: success
  type: list
  elements: dict
diff:
  description: Each table and object that changes, before and after.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry
from ansible_collections.labeller.runbook.plugins.module_utils.steps.configuration import (
    Configuration,
)

ARGUMENTS = registry.arguments(Configuration)
MODULE = registry.module_of(Configuration)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
