#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: daemons
short_description: Stop or start labeller's daemons
version_added: 0.1.0
description:
  - Finds the daemons of one labeller checkout by the script that each process runs, also when it
    was started by a relative path, and only those of the user who runs the module unless that is
    root.
  - Stopping waits until no daemon and no C(daemonNanny.sh) of one is left. Remove the crontab
    first, or cron starts them again.
  - Takes the place of C(daemonKiller.sh) and of C(nohup python worker_notification_daemon.py).
options:
  state:
    description:
      - V(stopped) ends the processes with SIGTERM, then SIGKILL, and removes their pid files.
      - V(started) starts what does not run, detached, its output appended to C(log/NAME.oe.log), its
        pid in C(log/NAME.pid).
    type: str
    choices: [started, stopped]
    required: true
  home:
    description: Folder of the labeller checkout.
    type: path
    required: true
  names:
    description: Which daemons; without it all, which only V(state=stopped) takes.
    type: list
    elements: str
    choices:
      - assignment_notification_daemon
      - cleanup_absent_worker
      - create_hit_daemon
      - generate_consensus_daemon
      - select_n_sites
      - worker_notification_daemon
  timeout:
    description: Seconds that a daemon has after SIGTERM before SIGKILL.
    type: int
    default: 10
  settle:
    description: Seconds that a daemon must run after its start to count as started.
    type: float
    default: 1.0
  stopped_in_check:
    description:
      - Daemons that an earlier step of the same check run stops. They still run, and count as
        stopped. Set by the action plugin, not by playbooks.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.lease
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Stop the daemons
  labeller.runbook.daemons:
    state: stopped
    home: "{{ labeller_home }}"

- name: Start the worker notification
  labeller.runbook.daemons:
    state: started
    home: "{{ labeller_home }}"
    names: [worker_notification_daemon]
"""

RETURN = r"""
stopped:
  description: Names of the daemons that were or would be stopped.
  returned: when O(state=stopped)
  type: list
  elements: str
started:
  description: Names of the daemons that were or would be started.
  returned: when O(state=started)
  type: list
  elements: str
plan:
  description: What was or would be done.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import daemons, lease, module

MODULE = module.Module(
    {**daemons.ARGUMENTS, **lease.OPTIONS},
    lease.guarded(daemons.run),
    required_if=[("state", "started", ["names"])],
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
