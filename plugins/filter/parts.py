# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter labeller.runbook.skipped_parts."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence

DOCUMENTATION = r"""
name: skipped_parts
short_description: Parts of a playbook that tags skip before one that they select
version_added: 0.1.0
author:
  - The runbook developers (@agroimpacts)
description:
  - Each part of a playbook has one tag. Returns those parts that C(--tags) and C(--skip-tags) skip
    although a later part is selected; empty when the selected parts are the first ones, or none.
positional: run_tags, skip_tags
options:
  _input:
    description: Tags of the parts, in their order.
    type: list
    elements: str
    required: true
  run_tags:
    description: The tags that are run, C(ansible_run_tags).
    type: list
    elements: str
    required: true
  skip_tags:
    description: The tags that are skipped, C(ansible_skip_tags).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the parts that the tags of this run skip
  ansible.builtin.debug:
    msg: >-
      {{ ['backup', 'database']
         | labeller.runbook.skipped_parts(ansible_run_tags, ansible_skip_tags) }}
"""

RETURN = r"""
_value:
  description: The parts that are skipped, in their order.
  type: list
  elements: str
"""


def skipped_parts(
    parts: Sequence[str], run_tags: Sequence[str], skip_tags: Sequence[str]
) -> List[str]:
    """The parts that are skipped before the last one that is selected."""
    selected = [number for number, tag in enumerate(parts) if _selected(tag, run_tags, skip_tags)]
    return [
        tag
        for number, tag in enumerate(parts)
        if selected and number < selected[-1] and number not in selected
    ]


def _selected(tag: str, run_tags: Sequence[str], skip_tags: Sequence[str]) -> bool:
    """Whether a task with this one tag runs, as Ansible decides it."""
    return not {tag, "all", "tagged"}.isdisjoint(run_tags) and {tag, "all", "tagged"}.isdisjoint(
        skip_tags
    )


class FilterModule:
    """The class that ansible-core loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by their short names."""
        return {"skipped_parts": skipped_parts}
