"""Spark sizing: the measured values of docs/labeller.md 3.2, and what cannot be."""

from __future__ import annotations

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput
from ansible_collections.labeller.runbook.plugins.module_utils.learner.spark import (
    contradiction,
    sizing,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("vcpu", "memory", "cores", "workers", "executor_memory", "executors", "partitions"),
    [
        (16, 24, 5, 130, 7, 389, 3890),
        (16, 24, 5, 200, 7, 599, 5990),
        (16, 24, 5, 50, 7, 149, 1490),
        (16, 24, 5, 80, 7, 239, 2390),
        (8, 12, 5, 130, 11, 129, 1290),
    ],
)
def test_measured_table(
    vcpu: int,
    memory: int,
    cores: int,
    workers: int,
    executor_memory: int,
    executors: int,
    partitions: int,
) -> None:
    size = sizing(vcpu, memory, cores, workers)
    assert (size.executor_memory, size.executors, size.partitions) == (
        executor_memory,
        executors,
        partitions,
    )
    assert size.executor_cores == cores


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((16, 24, 16, 10), "executor_cores can be at most 15"),
        ((4, 24, 5, 10), "executor_cores can be at most 3"),
        ((16, 5, 5, 10), "at least 6 GB"),
        ((8, 12, 5, 1), "at least 2 workers"),
        ((16, 24, 0, 10), "executor_cores is 0"),
        ((16, 24, 5, -1), "worker_count is -1"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[int, int, int, int], part: str) -> None:
    with pytest.raises(InvalidInput, match=part):
        sizing(*arguments)


@given(st.integers(1, 200), st.integers(1, 800), st.integers(1, 64), st.integers(1, 1000))
def test_what_is_given_fits_the_workers(vcpu: int, memory: int, cores: int, workers: int) -> None:
    try:
        size = sizing(vcpu, memory, cores, workers)
    except InvalidInput:
        return
    of_worker = (size.executors + 1) // workers
    assert all(type(value) is int and value >= 1 for value in vars(size).values())
    assert of_worker * cores <= vcpu - 1
    assert of_worker * (size.executor_memory + 1) <= memory


def test_m4_xlarge_with_the_size_of_the_next_type_is_named() -> None:
    text = contradiction("m4.xlarge", 4, 16, 16, 24)
    assert "m4.xlarge has 4 vCPU and 16 GiB" in text
    assert "worker_vcpu is 16" in text
    assert "worker_mem_yarn is 24 GB" in text


def test_right_sizes_are_not_warned_about() -> None:
    assert contradiction("m4.2xlarge", 8, 32, 16, 24) == ""
    assert contradiction("m4.xlarge", 4, 16, 8, 12) == ""


def test_memory_left_idle_is_named() -> None:
    assert "only 24 GB" in contradiction("m4.4xlarge", 16, 64, 16, 24)
