#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: target_environment
short_description: Make the environment that modules run in on a target
version_added: 0.1.0
description:
  - Makes a virtual environment with boto3, psycopg2, PyYAML, zstandard and what they need, each at the
    version that is pinned for its Python, and puts it at the path that O(interpreter) names.
  - Works on a host that has neither Python nor internet. A shell looks which Pythons the host has, on the
    path, in C(/usr/local/bin), C(/opt/rh/*), C(/opt/python/*) and pyenv's folder; the newest of
    3.8 to 3.13 is taken, and kept as long as it works. The controller downloads the wheels with
    pip, for that Python and manylinux2014 (glibc 2.17), and sends them. The system's own Python is not
    changed.
  - A new environment is made beside the one that is used, in the hidden folder of the same name, and is
    put in place by replacing a symbolic link. If anything fails before, the host is as it was.
  - Packages that were installed into the environment by hand are a difference, and are not in the new one.
options:
  state:
    description:
      - V(present) makes the environment and puts the files.
      - V(absent) removes the environment, and those of the files that are as they were put; refused
        while the crontab calls the environment's C(runbook).
    type: str
    choices: [present, absent]
    default: present
  interpreter:
    description:
      - Path of the environment's interpreter, C(PATH/bin/python) with an absolute PATH, as
        C(ansible_python_interpreter) is in the inventory.
    type: str
    required: true
  python:
    description: Path of the Python on the host to take; empty for the newest one that will do.
    type: str
    default: ''
  build:
    description:
      - A standalone build of Python to take instead of one of the host's, a file on the controller, a
        C(.tar.gz) of the folder C(python) as of python-build-standalone (C(install_only)).
    type: str
    default: ''
  engine:
    description:
      - Whether runbook itself is installed too, in the controller's version, with all that it needs. It
        needs Python 3.11 or later, and the path C($HOME/runbook).
    type: bool
    default: false
  inventory:
    description: Where O(inventory_source) is put on the host, an absolute path.
    type: str
    default: ''
  inventory_source:
    description:
      - An inventory on the controller, a file or a folder with one host, that is put on the host with mode
        0600. With a folder, a file that makes the host's connection local is added.
    type: str
    default: ''
  vault_password_file:
    description: Where O(vault_password_source) is put on the host, an absolute path.
    type: str
    default: ''
  vault_password_source:
    description: A file on the controller with the password of the inventory's vault; put with mode 0600.
    type: str
    default: ''
  packages:
    description: What an environment holds, by version of Python. Set by the action plugin.
    type: dict
    default: {}
  engine_sha256:
    description: SHA-256 of the content of runbook's wheel. Set by the action plugin.
    type: str
    default: ''
  oldest:
    description: The oldest Python that the controller's ansible-core works with. Set by the action plugin.
    type: str
    default: '3.8'
  built:
    description: What is known of O(build). Set by the action plugin.
    type: dict
    suboptions:
      name:
        description: Its file name.
        type: str
        required: true
      version:
        description: Its version.
        type: str
        required: true
      machine:
        description: Its machine.
        type: str
        required: true
      sha256:
        description: Its SHA-256.
        type: str
        required: true
  files:
    description: The files to put. Set by the action plugin.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path on the host.
        type: str
        required: true
      mode:
        description: Mode, in octal digits.
        type: str
        required: true
      sha256:
        description: SHA-256 of the content.
        type: str
        required: true
      content:
        description: Content, in base64.
        type: str
        default: ''
  made:
    description: The new environment to put in place. Set by the action plugin.
    type: str
    default: ''
extends_documentation_fragment:
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Make the environment for modules
  labeller.runbook.target_environment:
    interpreter: /home/mapper/runbook/bin/python

- name: With runbook for the loop's call from cron, on a host that has only Python 2.7
  labeller.runbook.target_environment:
    interpreter: /home/mapper/runbook/bin/python
    build: cpython-3.11.13+20250612-x86_64-unknown-linux-gnu-install_only.tar.gz
    engine: true
"""

RETURN = r"""
interpreter:
  description: Path of the environment's interpreter; empty with O(state=absent).
  returned: success
  type: str
plan:
  description: Environment and files, with their versions before and after in the diff.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import module, target_environment

MODULE = module.Module(target_environment.ARGUMENTS, target_environment.run)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
