#!/usr/bin/python
# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: emr_learner
short_description: Define, start, follow and end the EMR cluster that runs learner
version_added: 0.1.0
description:
  - Computes the whole RunJobFlow request of the learner cluster from the run's parameters, holds it
    against EC2, EMR and S3 by read-only calls, and keeps it as an object in the bucket.
  - Starts the cluster from that object, once for each iteration, whoever calls and however often.
    Clusters are found by their tags.
  - Takes the place of C(terraform/emr.tf), C(terraform/variables.tf), of the part of
    C(fire_up_labeller.py) that edits them, and of C(run_cvml.py).
options:
  state:
    description:
      - V(present) computes, checks and keeps the request; no cluster is started.
      - V(submitted) starts the cluster of O(iteration), unless it is there.
      - V(finished) follows that cluster for O(wait) seconds and fails when it failed; repeat it
        until RV(done) or RV(unchecked).
      - V(absent) terminates every cluster of the run.
      - V(verified) holds the folder C(terraform) below O(home), from which the consensus daemon
        starts the learner when no loop does, against the run, and fails with all that differs.
        Nothing is written, and Terraform is not run.
    type: str
    choices: [present, submitted, finished, absent, verified]
    default: present
  home:
    description: Labeller's folder; needed with V(state=verified).
    type: str
  in_place:
    description:
      - Whether the run is in place already. A cluster of it in C(terraform.tfstate) may then be at
        work; any other that is not over is refused with V(state=verified).
    type: bool
    default: false
  target:
    description: Inventory name of the labeller instance; part of the key of the request and a tag of the cluster.
    type: str
    required: true
  written_in_check:
    description:
      - Objects that earlier steps of the same check run write, each as s3://BUCKET/KEY. They are not
        there yet, and count as there. Set by the action plugin, not by playbooks.
    type: list
    elements: str
    default: []
  iteration:
    description: The iteration that the learner is to bring, one more than the one that is mapped.
    type: int
  applied:
    description: When the run was applied, from its run marker; distinguishes runs of the same number.
    type: str
  attempts:
    description: How many clusters are started for an iteration when they fail for O(retry_on).
    type: int
    default: 3
  retry_on:
    description:
      - EMR's reasons for a cluster's end after which the next call starts another one. A step that
        failed after nodes were lost counts as V(INSTANCE_FAILURE), any other as C(STEP_FAILURE).
    type: list
    elements: str
    default: [INSTANCE_FAILURE, INSTANCE_FLEET_TIMEOUT, INTERNAL_ERROR]
  retry:
    description: Start another cluster after a failure of any reason.
    type: bool
    default: false
  cluster_id:
    description:
      - The cluster to follow with V(state=finished), as V(state=submitted) returned it. Empty when a
        check has not started it, so that there is nothing to follow. Without the option the cluster
        of the newest attempt at the iteration.
    type: str
  wait:
    description: Seconds that V(state=finished) follows the cluster; in check mode it looks once.
    type: float
    default: 60
  poll:
    description: Seconds between two looks at the cluster.
    type: float
    default: 15
  timeout:
    description: Seconds that the cluster may run in all.
    type: int
    default: 21600
  parameters:
    description: The run's parameters, by the names that they have in playbooks.
    type: dict
    required: true
    suboptions:
      ec2_instance:
        description: EC2 Name tag of the labeller instance; the cluster runs in its subnet.
        type: str
        required: true
      security_group_id:
        description: Security group of the cluster's nodes.
        type: str
        required: true
      bucket:
        description: S3 bucket of inputs, outputs and configuration.
        type: str
        default: activemapper
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
      github_branch:
        description: Branch of learner that the cluster clones.
        type: str
        default: master
      num_possibilities:
        description: Probability maps saved in each iteration, at least 1.
        type: int
        default: 20
      worker_type:
        description: EC2 type of the core nodes.
        type: str
        default: m4.xlarge
      worker_count:
        description: Number of core nodes.
        type: int
        default: 200
      bid_price:
        description: Spot bid for a core node, US dollars an hour.
        type: float
        default: 0.086
      worker_vcpu:
        description: vcores of a core node that YARN may use.
        type: int
        default: 16
      worker_mem_yarn:
        description: Memory of a core node that YARN may use, GB.
        type: int
        default: 24
      executor_cores:
        description: Cores of one Spark executor.
        type: int
        default: 5
  cluster:
    description: What the cluster is made of; the defaults are those that learner runs on today.
    type: dict
    default: {}
    suboptions:
      name:
        description: Name of the cluster, for people; it is found by its tags.
        type: str
        default: GeoPySpark Cluster
      release_label:
        description: EMR release.
        type: str
        default: emr-5.12.1
      applications:
        description: Applications of the release.
        type: list
        elements: str
        default: [Hadoop, Spark, Ganglia]
      master_type:
        description: EC2 type of the master node, which is bought on demand.
        type: str
        default: m3.2xlarge
      market:
        description: How core nodes are bought.
        type: str
        choices: [spot, on_demand]
        default: spot
      instance_fleets:
        description: Instance fleets in the terms of RunJobFlow, in place of one master and the core nodes.
        type: list
        elements: dict
        default: []
      service_role:
        description: Role of EMR itself.
        type: str
        default: EMR_DefaultRole
      instance_profile:
        description: Instance profile of the nodes.
        type: str
        default: EMR_EC2_DefaultRole
      key_name:
        description: EC2 key pair for logging in to nodes; empty for none.
        type: str
        default: azavea-mapping-africa
      log_uri:
        description: Where EMR puts logs; without it C(logs) in the bucket.
        type: str
      bootstrap:
        description: Scripts that prepare each node; without it the one that builds GeoPySpark.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the action.
            type: str
            required: true
          path:
            description: Address of the script, s3://BUCKET/KEY.
            type: str
            required: true
          args:
            description: Arguments of the script.
            type: list
            elements: str
            default: []
      configurations:
        description: Configurations in the terms of RunJobFlow; without it those of today.
        type: list
        elements: dict
      steps:
        description:
          - Steps in their order, each ending the cluster when it fails; without it clone learner,
            run it with spark-submit, and insert its results into the database.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the step.
            type: str
            required: true
          args:
            description: The command and its arguments.
            type: list
            elements: str
            required: true
      repository:
        description: Git repository of learner.
        type: str
        default: https://github.com/agroimpacts/learner.git
      packages:
        description: Maven packages that spark-submit fetches.
        type: list
        elements: str
        default:
          - io.astraea:pyrasterframes:0.7.3-GT2
          - org.apache.hadoop:hadoop-aws:2.7.3
          - org.apache.logging.log4j:log4j-core:2.11.1
      jars:
        description: Jars on the nodes that spark-submit adds.
        type: list
        elements: str
        default: [/opt/jars/geotrellis-backend-assembly-0.4.2.jar]
      random_seed:
        description: Seed of the model.
        type: int
        default: 42
      tags:
        description: More tags of the cluster, beside those it is found by.
        type: dict
        default: {}
extends_documentation_fragment:
  - labeller.runbook.postgres
  - labeller.runbook.lease
  - labeller.runbook.aws
  - labeller.runbook.plan
"""

EXAMPLES = r"""
- name: Define the learner cluster
  labeller.runbook.emr_learner:
    target: "{{ inventory_hostname }}"
    parameters:
      ec2_instance: "{{ ec2_instance }}"
      security_group_id: "{{ security_group_id }}"
      aoi_index: 3
      aoi_name: ghana
      worker_type: m4.2xlarge
      worker_count: 130
      num_possibilities: 30
    cluster: "{{ learner_cluster }}"
  register: learner
"""

RETURN = r"""
request:
  description: The whole RunJobFlow request.
  returned: success
  type: dict
request_key:
  description: Key of the object that holds the request.
  returned: success
  type: str
  sample: learner/labeller3/cluster_request.json
done:
  description: Whether all steps are completed.
  returned: when O(state=finished)
  type: bool
unchecked:
  description:
    - Whether this was a check, and the cluster is running or not started yet, so that what follows is
      not known.
  returned: when O(state=finished)
  type: bool
cluster_id:
  description: The cluster to follow; empty while there is none, as when a check would start it.
  returned: when O(state) is V(submitted) or V(finished)
  type: str
attempt:
  description: Number of the attempt at the iteration.
  returned: when O(state=submitted)
  type: int
state:
  description: EMR's state of the cluster.
  returned: when O(state=finished)
  type: str
steps:
  description: Name and state of each step.
  returned: when O(state=finished)
  type: list
  elements: dict
elapsed:
  description: Seconds since the cluster was asked for.
  returned: when O(state=finished)
  type: int
cost:
  description: Most that the core nodes can have cost so far, US dollars.
  returned: when O(state=finished)
  type: float
summary:
  description: State, time, cost and steps in one line.
  returned: when O(state=finished)
  type: str
clusters:
  description: The clusters that are terminated.
  returned: when O(state=absent)
  type: list
  elements: str
hourly_ceiling:
  description: Most that the core nodes can cost, US dollars an hour; null when no bid bounds it.
  returned: success
  type: float
  sample: 11.18
plan:
  description: What was or would be written.
  returned: success
  type: list
  elements: dict
"""

from ansible_collections.labeller.runbook.plugins.module_utils import lease, module
from ansible_collections.labeller.runbook.plugins.module_utils.learner import clusters, emr

_NEEDS = ["iteration", "applied"]
MODULE = module.Module(
    {**emr.ARGUMENTS, **lease.OPTIONS},
    lease.guarded(clusters.run),
    required_if=[
        ("state", "submitted", _NEEDS),
        ("state", "finished", _NEEDS),
        ("state", "verified", ["home"]),
    ],
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
