# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """How the lookups of secrets in AWS reach it."""

    DOCUMENTATION = r"""
options:
  region:
    description: The region; that of the profile or of E(AWS_DEFAULT_REGION) unless given.
    type: str
  profile:
    description: The profile of the AWS configuration files.
    type: str
  access_key:
    description:
      - The access key; what boto3 finds (environment, profile, instance role) unless given.
    type: str
  secret_key:
    description: The secret key of O(access_key).
    type: str
  session_token:
    description: The session token of temporary credentials.
    type: str
  endpoint_url:
    description: The address of the service, in place of that of AWS.
    type: str
requirements:
  - boto3
"""
