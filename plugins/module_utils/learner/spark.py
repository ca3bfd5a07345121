# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Spark sizing of the learner cluster (docs/labeller.md 3.2), in integers."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInput

# spark.yarn.executor.memoryOverhead of the cluster's configurations, GB.
MEMORY_OVERHEAD = 1


@dataclass(frozen=True)
class Sizing:
    """Arguments of spark-submit. Memory in GB."""

    executors: int
    executor_cores: int
    executor_memory: int
    partitions: int


def sizing(
    worker_vcpu: int, worker_mem_yarn: int, executor_cores: int, worker_count: int
) -> Sizing:
    """Sizing for ``worker_count`` core nodes of ``worker_vcpu`` vcores and ``worker_mem_yarn`` GB.

    One vcore of a node is left to its daemons, one executor's place to the driver. Raises
    InvalidInput when not one executor fits.
    """
    for name, value in (
        ("worker_vcpu", worker_vcpu),
        ("worker_mem_yarn", worker_mem_yarn),
        ("executor_cores", executor_cores),
        ("worker_count", worker_count),
    ):
        if value < 1:
            raise InvalidInput("{} is {}; it must be at least 1".format(name, value))
    if executor_cores > worker_vcpu - 1:
        raise InvalidInput(
            "executor_cores is {}, but a worker has {} vcores (worker_vcpu) and one of them is "
            "kept for its own daemons; executor_cores can be at most {}".format(
                executor_cores, worker_vcpu, worker_vcpu - 1
            )
        )
    executors_of_worker = (worker_vcpu - 1) // executor_cores
    memory = worker_mem_yarn // executors_of_worker - MEMORY_OVERHEAD
    if memory < 1:
        raise InvalidInput(
            "worker_mem_yarn is {} GB for {} executors a worker ((worker_vcpu {} - 1) / "
            "executor_cores {}): an executor needs 1 GB and {} GB overhead; give at least {} GB or "
            "more executor_cores".format(
                worker_mem_yarn,
                executors_of_worker,
                worker_vcpu,
                executor_cores,
                MEMORY_OVERHEAD,
                executors_of_worker * (1 + MEMORY_OVERHEAD),
            )
        )
    executors = executors_of_worker * worker_count - 1
    if executors < 1:
        raise InvalidInput(
            "worker_count {} gives room for one executor only, and the driver takes it; give at "
            "least 2 workers or fewer executor_cores".format(worker_count)
        )
    return Sizing(executors, executor_cores, memory, executors * executor_cores * 2)


def contradiction(
    worker_type: str, vcpu: int, memory: float, worker_vcpu: int, worker_mem_yarn: int
) -> str:
    """Why the declared size cannot be that of ``worker_type``, or an empty string.

    ``vcpu`` and ``memory`` (GiB) are the type's real size. EMR gives YARN at most two vcores for a
    vCPU and keeps a quarter of the memory, 8 GiB at most, for the node.
    """
    vcores, yarn = 2 * vcpu, memory - min(memory / 4, 8)
    problems = []
    if worker_vcpu > vcores:
        problems.append("worker_vcpu is {}".format(worker_vcpu))
    if worker_mem_yarn > yarn:
        problems.append("worker_mem_yarn is {} GB".format(worker_mem_yarn))
    elif worker_mem_yarn * 2 < yarn:
        problems.append("worker_mem_yarn is only {} GB".format(worker_mem_yarn))
    if not problems:
        return ""
    text = "{} has {} vCPU and {:g} GiB, of which YARN gets up to {} vcores and {:g} GB, but {}"
    return text.format(worker_type, vcpu, memory, vcores, yarn, " and ".join(problems))
