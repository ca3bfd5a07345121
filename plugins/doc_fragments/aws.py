# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  access_key:
    description: AWS access key id; without it the host's profile or instance role.
    type: str
  secret_key:
    description: AWS secret access key that belongs to O(access_key).
    type: str
  region:
    description: AWS region.
    type: str
    default: us-east-1
  endpoint_url:
    description: Address of another server of the same API, for instance the sandbox's.
    type: str
requirements:
  - boto3
"""
