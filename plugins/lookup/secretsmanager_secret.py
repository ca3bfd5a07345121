# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lookup labeller.runbook.secretsmanager_secret."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secretsmanager_secret
short_description: A secret of AWS Secrets Manager
version_added: 0.1.0
author:
  - The runbook developers (@agroimpacts)
description:
  - Gives the text of secrets, read with the credentials of the operator, on the operator's machine.
    A secret is asked for once in a run.
  - The options are named as those of P(amazon.aws.secretsmanager_secret#lookup), which is not
    needed.
options:
  _terms:
    description:
      - Names or ARNs of secrets. With O(nested) it is C(NAME.KEY), the value of a key of a secret
        that is a JSON object.
    required: true
  nested:
    description: Whether the terms name keys of JSON objects.
    type: bool
    default: false
  version_stage:
    description: The stage of the version to read.
    type: str
    default: AWSCURRENT
extends_documentation_fragment:
  - labeller.runbook.aws_lookup
"""

EXAMPLES = r"""
- name: Show how long the password is
  ansible.builtin.debug:
    msg: "{{ lookup('labeller.runbook.secretsmanager_secret', 'labeller3/db_pwd') | length }}"
"""

RETURN = r"""
_raw:
  description: The secrets.
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.labeller.runbook.plugins.plugin_utils import aws_lookup


class LookupModule(aws_lookup.SecretLookup):
    """See DOCUMENTATION."""

    service = "secretsmanager"
    called = "secret of AWS Secrets Manager"

    def read(self, client: Any, name: str) -> str:
        """A secret's text, or the value of one of its keys."""
        secret, *keys = name.split(".") if self.get_option("nested") else [name]
        found = client.get_secret_value(
            SecretId=secret, VersionStage=self.get_option("version_stage")
        )
        text = found.get("SecretString")
        if text is None:
            raise self.failure(name, "it is binary, not text")
        if not keys:
            return str(text)
        try:
            return aws_lookup.part(text, keys)
        except (ValueError, LookupError, TypeError):
            raise self.failure(name, "it is no JSON object with this key") from None
