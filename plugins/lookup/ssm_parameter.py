# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lookup labeller.runbook.ssm_parameter."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssm_parameter
short_description: A parameter of AWS Systems Manager
version_added: 0.1.0
author:
  - The runbook developers (@agroimpacts)
description:
  - Gives the values of parameters of the Parameter Store, C(SecureString) ones decrypted, read with
    the credentials of the operator, on the operator's machine. A parameter is asked for once in a
    run.
  - The options are named as those of P(amazon.aws.ssm_parameter#lookup), which is not needed.
options:
  _terms:
    description: Names of parameters; C(NAME:VERSION) for a version of one.
    required: true
  decrypt:
    description: Whether to decrypt parameters of the type C(SecureString).
    type: bool
    default: true
extends_documentation_fragment:
  - labeller.runbook.aws_lookup
"""

EXAMPLES = r"""
- name: Show how long the password is
  ansible.builtin.debug:
    msg: "{{ lookup('labeller.runbook.ssm_parameter', '/labeller3/db_pwd') | length }}"
"""

RETURN = r"""
_raw:
  description: The values.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.labeller.runbook.plugins.plugin_utils import aws_lookup


class LookupModule(aws_lookup.SecretLookup):
    """See DOCUMENTATION."""

    service = "ssm"
    called = "SSM parameter"

    def read(self, client: Any, name: str) -> str:
        """A parameter's value."""
        found = client.get_parameter(Name=name, WithDecryption=self.get_option("decrypt"))
        return str(found["Parameter"]["Value"])
