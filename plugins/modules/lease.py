#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: lease
short_description: One operator's run changes a target at a time
description:
  - The lease is a row in the target's database. A run takes it before its first change and gives
    it back at its end; the modules with an option C(lease) verify it, keep it while they work, and
    give it back when they fail.
  - A holder that was not seen for 60 seconds is taken to be dead; at once one whose process ended on
    the target's own machine, or, while no step of it is at work, on the machine that runs Ansible.
  - A person's lock (M(labeller.runbook.lock)) refuses every run until it is given back, or its time
    is over.
  - In check mode nothing is taken; a holder is a warning.
options:
  state:
    description:
      - V(taken) takes the lease, or fails naming who holds it.
      - V(renewed) fails unless O(number) is still the lease, and extends it.
      - V(released) gives O(number) back; one that another run has taken since is left alone.
    type: str
    choices: [taken, renewed, released]
    required: true
  number:
    description: The lease, as V(state=taken) returned it.
    type: int
  holder:
    description:
      - Who takes it, for people. The action plugin sets it, to the variable C(lease_holder) if there
        is one, else to the operator.
    type: str
    default: ""
  process:
    description: The process of the run that takes it; the action plugin sets it.
    type: str
    default: ""
  target:
    description: The target's name in messages; the action plugin sets it.
    type: str
    default: TARGET
  when_held:
    description:
      - What O(state=taken) does when another run or a person holds the target. V(fail) fails;
        V(report) returns RV(held) with a warning, so that a play can end there.
    type: str
    choices: [fail, report]
    default: fail
  expected:
    description:
      - The run marker that the run has looked at, C(current) of M(labeller.runbook.run_marker), or
        an empty mapping when there was none. The lease is not taken when another run is in place by
        now.
    type: dict
  skipped_parts:
    description:
      - Parts of the playbook that the tags skip before one that they select, as returned by the
        filter P(labeller.runbook.skipped_parts#filter). Unless empty, the lease is refused, in check
        mode too.
    type: list
    elements: str
    default: []
  plan:
    description:
      - The saved plan that the run applies. It is recorded in the transaction that takes the lease;
        another run that has applied it is C(stale). Set by the engine, not by playbooks.
    type: dict
    suboptions:
      id:
        description: SHA-256 of the plan file.
        type: str
        required: true
      run:
        description: The run that applies it, which may take the lease again.
        type: str
        required: true
  ended:
    description: A process that is known to have ended; the action plugin sets it.
    type: str
    default: ""
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Take the lease
  labeller.runbook.lease:
    login_password: "{{ db_pwd }}"
    state: taken
  register: lease

- name: Release the lease
  labeller.runbook.lease:
    login_password: "{{ db_pwd }}"
    state: released
    number: "{{ lease.number }}"
"""

RETURN = r"""
number:
  description: The lease; 0 in check mode, and when it was not taken.
  returned: success
  type: int
held:
  description: Whether another holds the target, with O(when_held=report).
  returned: success
  type: bool
headline:
  description: Who holds the target, when RV(held); in check mode which run does.
  returned: when the target is held
  type: str
error_kind:
  description: C(locked) when a person has locked the target, so that RV(msg) refuses an apply.
  returned: in check mode
  type: str
msg:
  description: Who has locked the target, until when and why, and what to do.
  returned: in check mode when a person has locked the target
  type: str
plan:
  description:
    - With O(state=taken) the database, which must be the one that the check run found, by its
      C(before_fingerprint); nothing of it is changed.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import lease, module

MODULE = module.Module(
    lease.ARGUMENTS,
    lease.run,
    required_if=[("state", "renewed", ["number"]), ("state", "released", ["number"])],
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
