#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: crontab_profile
short_description: Put labeller's daemons into the crontab, or take them out
version_added: 0.1.0
description:
  - Keeps the crontab lines by which C(daemonNanny.sh) starts labeller's daemons and keeps them
    running, between two marker lines.
  - Every other line of the crontab stays as it is, byte for byte, except for the exact lines that
    C(crontab_runner.py) writes for the same checkout, which are replaced. A line that the user
    added and that calls C(daemonNanny.sh) of the checkout is kept and named in a warning.
  - Takes the place of C(crontab -r), C(crontab_runner.py) and the files C(crontabSetup_*.mapper).
options:
  state:
    description:
      - V(present) puts up the lines of O(profile) and makes its scripts executable, as
        C(daemonNanny.sh) demands.
      - V(absent) removes the lines of every profile.
    type: str
    choices: [present, absent]
    default: present
  profile:
    description:
      - Which daemons run. C(cleanup_absent_worker) is in all of them and alone in V(maintenance).
      - V(standalone_f) adds C(create_hit_daemon); V(no_n) that and C(generate_consensus_daemon).
      - V(no_n_notifier) is V(no_n) with C(worker_notification_daemon).
      - V(full) is V(no_n) with C(select_n_sites).
    type: str
    choices: [full, no_n, no_n_notifier, standalone_f, maintenance]
    default: no_n_notifier
  cleanup:
    description:
      - Whether C(cleanup_absent_worker) runs, whatever O(profile) says; without it as the profile
        says. This and the next four are the switches of C(crontab_runner.py), which has the
        defaults of the profile V(maintenance).
    type: bool
  hits:
    description: Whether C(create_hit_daemon) runs, likewise.
    type: bool
  consensus:
    description: Whether C(generate_consensus_daemon) runs, likewise.
    type: bool
  notify:
    description: Whether C(worker_notification_daemon) runs, likewise.
    type: bool
  nsites:
    description: Whether C(select_n_sites) runs, likewise.
    type: bool
  home:
    description: Folder of the labeller checkout, an absolute path without spaces.
    type: path
    required: true
  user:
    description: Whose crontab, for root only; without it the user who runs the module.
    type: str
  crontab_file:
    description: A file to edit in place of the crontab of crontab(1); empty for crontab(1).
    type: path
  stopped_in_check:
    description:
      - Whether an earlier step of the same check run removes the lines. They are still there, and
        the crontab counts as without them. Set by the action plugin, not by playbooks.
    type: bool
    default: false
  learner:
    description:
      - Add a line that runs C(iterate.yml) every five minutes, the active-learning loop. Calls that
        would overlap are left out (flock); output goes to C(log/iterate.log).
      - Before that, also in a check, the crontab's user tries on the host, with the few variables
        that cron sets, whether the call's input is valid and whether it reaches the instance, its
        database and AWS (C(runbook apply --validate), C(runbook status)). Otherwise the module
        refuses.
    type: bool
    default: false
  learner_command:
    description:
      - Another command for that line; its program is only looked for. Without it, C(runbook) of
        C($HOME/runbook/bin), with the next three options.
    type: str
    default: ''
  learner_inventory:
    description: Inventory on the host, an absolute path; needed with O(learner) without O(learner_command).
    type: path
    default: ''
  learner_vault_password_file:
    description: File on the host with the password of the inventory's vault, an absolute path.
    type: path
    default: ''
  learner_run:
    description:
      - Parameters of the run that the call takes, in place of those in the inventory on the host, which
        may still describe another run.
    type: dict
    default: {}
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Remove the crontab
  labeller.runbook.crontab_profile:
    state: absent
    home: "{{ labeller_home }}"

- name: F and Q sites, consensus and the Slack notifier
  labeller.runbook.crontab_profile:
    profile: no_n_notifier
    home: "{{ labeller_home }}"

- name: As crontab_runner.py --hits T --notify T --nsites T
  labeller.runbook.crontab_profile:
    profile: maintenance
    hits: true
    notify: true
    nsites: true
    home: "{{ labeller_home }}"
"""

RETURN = r"""
plan:
  description: What was or would be done, for each file and the crontab.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import crontab, lease, module

MODULE = module.Module({**crontab.ARGUMENTS, **lease.OPTIONS}, lease.guarded(crontab.run))


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
