#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: labeller_config
short_description: Write config.yaml of labeller and learner, and its copy on S3
version_added: 0.1.0
description:
  - Writes C(common/config.yaml) below O(home) with every key that labeller and learner read, in one
    step and with mode 0640, and the same content as an encrypted object C(config_NAME_INDEX.yaml) in
    the bucket, where the learner cluster reads it.
  - Keys that no parameter decides keep the value they have on the host, else the one of
    C(common/config_template.yaml), else they are blank. A file that already says the same is not
    written again; comments are lost when it is.
  - The address of the database comes from EC2, by the Name tag among running instances.
  - Takes the place of the configuration part of C(fire_up_labeller.py).
options:
  state:
    description:
      - V(present) writes file and copy.
      - V(verified) refuses unless both have what learner and consensus daemon go by as the parameters
        say (run, AOI, objects, O(parameters.initial)); it changes nothing.
    type: str
    choices: [present, verified]
    default: present
  home:
    description: Folder of the labeller checkout.
    type: path
    required: true
  restart_file:
    description:
      - File that is made before a change that the web application reads at its start. While it
        exists RV(web_changed) is true; whoever restarts the web server removes it.
      - Empty keeps no such record.
    type: str
    default: ''
  server_side_encryption:
    description: Encryption at rest of the copy on S3; V(none) is for a server other than AWS's that
      does not encrypt objects.
    type: str
    choices: [AES256, none]
    default: AES256
  parameters:
    description: The run's parameters, by the names that they have in playbooks.
    type: dict
    required: true
    suboptions:
      initial:
        description:
          - What the consensus daemon does when all sites are labelled. V(1) uploads the static list,
            V(2) files an issue, V(3) starts the learner through Terraform.
          - V(0) leaves the key out, for a loop that C(iterate.yml) takes on. The daemon then stops with
            C(KeyError) in its log after the last label, and the Nanny starts it again.
        type: int
        choices: [0, 1, 2, 3]
        required: true
      ec2_instance:
        description: EC2 Name tag of the labeller instance.
        type: str
        required: true
      run_id:
        description: Number of the run.
        type: int
        default: 0
      aoi_index:
        description: The AOI, a 1-based row of the GeoJSON.
        type: int
        default: 1
      aoi_name:
        description: General name of the AOI.
        type: str
        default: aoi
      aoi_s3_object:
        description: AOI GeoJSON, name below C(grid/) in the bucket.
        type: str
        default: image_target_aois.geojson
      master_grid_s3_object:
        description: Key of the master grid raster.
        type: str
        default: grid/master_grid.tif
      incoming_names_static_path:
        description:
          - CSV of static training names, name below C(planet/) in the bucket.
          - Empty for none; the learner, which always reads one, is then given the name of labeller's
            own blank list, the default.
        type: str
        default: incoming_names_static_cluster_blank.csv
      image_catalog_predict:
        description: Catalogue to predict on; empty means the run's own image catalogue.
        type: str
        default: ''
      number_outgoing_names:
        description: Sites that the learner asks for in each iteration.
        type: int
        default: 10
      bucket:
        description: S3 bucket of inputs, outputs and configuration.
        type: str
        default: activemapper
      github_repo:
        description: GitHub repository that receives issues, OWNER/NAME.
        type: str
        default: agroimpacts/issues
      github_token:
        description: GitHub token of the account that files issues.
        type: str
        required: true
      secret_key:
        description: Flask secret key of labeller.
        type: str
        required: true
      db_name:
        description: Name of the labeller database.
        type: str
        default: Africa
      db_user:
        description: Database role that owns labeller's tables.
        type: str
        default: postgis
      db_pwd:
        description: Password of O(parameters.db_user).
        type: str
        required: true
      api_key:
        description: API key for downloading Planet imagery; empty for none.
        type: str
        default: ''
      slack_url:
        description: Slack webhook for worker notifications; empty for none.
        type: str
        default: ''
      aws_access:
        description: AWS access key id that labeller and learner use.
        type: str
        required: true
      aws_secret:
        description: AWS secret access key that belongs to O(parameters.aws_access).
        type: str
        required: true
      aws_region:
        description: AWS region that labeller and learner use.
        type: str
        default: us-east-1
requirements:
  - PyYAML
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.lease
  - labeller.runbook.aws
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Write and upload the configuration
  labeller.runbook.labeller_config:
    home: "{{ labeller_home }}"
    parameters:
      initial: 3
      ec2_instance: "{{ ec2_instance }}"
      run_id: 0
      aoi_index: 3
      aoi_name: ghana
      number_outgoing_names: 100
      github_token: "{{ github_token }}"
      secret_key: "{{ secret_key }}"
      db_pwd: "{{ db_pwd }}"
      aws_access: "{{ aws_access }}"
      aws_secret: "{{ aws_secret }}"
  register: configuration
  notify: Restart httpd
"""

RETURN = r"""
config_key:
  description: Key of the copy in the bucket.
  returned: success
  type: str
  sample: config_ghana_3.yaml
db_host:
  description: Private address of the instance.
  returned: success
  type: str
instance_id:
  description: EC2 id of the instance.
  returned: success
  type: str
subnet_id:
  description: Subnet of the instance, where the learner cluster is to run.
  returned: success
  type: str
web_changed:
  description: Whether a key changed that the web application reads at its start, so that it must be restarted.
  returned: success
  type: bool
plan:
  description: What was or would be written.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import labeller_config, lease, module

MODULE = module.Module(
    {**labeller_config.ARGUMENTS, **lease.OPTIONS}, lease.guarded(labeller_config.run)
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
