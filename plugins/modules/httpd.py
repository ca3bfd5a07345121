#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: httpd
short_description: Restart the web server without a password
version_added: 0.1.0
description:
  - Restarts a service by C(sudo -n service NAME restart), or C(systemctl restart NAME) where there is
    no C(service). A rule of sudo that allows this command, and nothing else, is enough. C(become)
    needs one that allows every command.
  - If sudo wants a password for it, nothing is done, and RV(needs_password) is true.
options:
  name:
    description: The service.
    type: str
    required: true
extends_documentation_fragment:
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Restart httpd
  labeller.runbook.httpd:
    name: httpd
  register: restart

- name: Restart httpd with the password of sudo
  ansible.builtin.service:
    name: httpd
    state: restarted
  become: true
  when: restart.needs_password
"""

RETURN = r"""
needs_password:
  description: Whether sudo wants a password for the restart, which was not made then.
  returned: success
  type: bool
plan:
  description: The restart.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import httpd, module

MODULE = module.Module(httpd.ARGUMENTS, httpd.run)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
