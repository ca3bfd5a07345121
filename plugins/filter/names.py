# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter labeller.runbook.names."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.labeller.runbook.plugins.module_utils.names import names

DOCUMENTATION = r"""
name: names
short_description: Names of the S3 objects of one run
version_added: 0.1.0
author:
  - The runbook developers (@agroimpacts)
description:
  - Gives the keys of all objects that a run reads and writes, by the rules of fire_up_labeller.py.
  - The filter's input is the bucket, so that no name can come from another one.
positional: aoi_name, aoi_index, aoi_s3_object, incoming_names_static_path, host, run_id
options:
  _input:
    description: S3 bucket of inputs, outputs, configuration and backups.
    type: str
    required: true
  aoi_name:
    description: General name of the AOI, part of the names of S3 objects.
    type: str
    required: true
  aoi_index:
    description: The AOI, a 1-based row of the GeoJSON O(aoi_s3_object).
    type: int
    required: true
  aoi_s3_object:
    description: AOI GeoJSON, name below C(grid/).
    type: str
    required: true
  incoming_names_static_path:
    description: CSV of static training names, name below C(planet/); empty for none.
    type: str
    required: true
  host:
    description: Inventory name of the target, part of the keys of what is kept for each target.
    type: str
    required: true
  run_id:
    description: Number of the run, part of the key of its own list of training names.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show where the pool of the run lies
  ansible.builtin.debug:
    msg: "s3://{{ bucket }}/{{ names.pool }}"
  vars:
    names: >-
      {{ bucket
         | labeller.runbook.names('ghana', 3, 'aois.geojson', 'static.csv', 'labeller3', 0) }}
"""

RETURN = r"""
_value:
  description:
    - Names by meaning. Keys in the bucket are C(aoi), C(full_catalog), C(image_catalog), C(pool),
      C(qs), C(incoming_names), C(incoming_names_static), C(training_names), C(metrics),
      C(outgoing), C(config), C(learner_request), C(labels) and C(backups), the last two prefixes,
      with and without a slash at the end.
    - C(image_output_pattern) and C(outgoing_url) are whole addresses; C(s3_catalog_name),
      C(consensus_directory) and C(consensus_heatmap_dir) are as labeller's readers expect them.
  type: dict
"""


class FilterModule:
    """The class that ansible-core loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by their short names."""
        return {"names": names}
