#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: lock
short_description: A person holds a target, with a reason and until a time
description:
  - A lock is the lease of M(labeller.runbook.lease) in a person's hands. While it is held, every run
    that changes the target is refused, also one of the person who holds it. C(runbook lock) and
    C(runbook unlock) use this module.
  - It ends when it is given back, or at its time on the clock of the target's database.
options:
  state:
    description:
      - V(present) locks the target, or gives the holder's own lock another reason and time. It fails
        while a run or another person holds the target.
      - V(absent) gives O(holder)'s lock back; a target that is free is left alone.
      - V(read) returns who holds the target, and changes nothing.
    type: str
    choices: [present, absent, read]
    required: true
  holder:
    description: Who locks the target, as user@host.
    type: str
    default: ""
  reason:
    description: Why, for those who are refused.
    type: str
    default: ""
  seconds:
    description: How long the lock lasts at most; 8 hours unless said.
    type: int
    default: 28800
  target:
    description: The target's name in messages.
    type: str
    default: TARGET
  force:
    description:
      - With O(state=absent), take the target from whoever holds it, a run too. A module that is
        changing the database loses its session, and its transaction is rolled back. What a module
        changes outside the database can still happen.
    type: bool
    default: false
  number:
    description: With O(force), the lease that is taken away, and no other.
    type: int
  ended:
    description: A process that is known to have ended; the action plugin sets it.
    type: str
    default: ""
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Lock the target
  labeller.runbook.lock:
    login_password: "{{ db_pwd }}"
    state: present
    holder: olli@laptop
    reason: moving the grid
    seconds: 3600

- name: Unlock the target
  labeller.runbook.lock:
    login_password: "{{ db_pwd }}"
    state: absent
    holder: olli@laptop
"""

RETURN = r"""
plan:
  description: The change of hands; O(state=read) has none.
  returned: success
  type: list
  elements: dict
lease:
  description: Who holds the target afterwards; none when it is free.
  returned: success
  type: dict
  contains:
    number:
      description: The lease; each holder has the next one.
      type: int
    holder:
      description: A person as user@host, or a run.
      type: str
    since:
      description: Since when, as RFC 3339.
      type: str
    state:
      description:
        - V(locked) by a person, V(working) while a step of a run changes the target, V(seen) between
          two steps.
      type: str
    reason:
      description: The person's reason; none of a run.
      type: str
    until:
      description: When the person's lock ends by itself; none of a run.
      type: str
"""

from ansible_collections.labeller.runbook.plugins.module_utils import lock, module

MODULE = module.Module(lock.ARGUMENTS, lock.run)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
