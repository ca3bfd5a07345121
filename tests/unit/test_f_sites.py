"""The split of drawn sites into usages (docs/labeller.md 2.5)."""

from __future__ import annotations

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.steps.f_sites import split
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("count", "proportion_holdout", "proportion_holdout1", "expected"),
    [
        (100, 100, 0, (0, 100, 0)),  # regular production
        (100, 0.7, 0.07, (4, 66, 30)),  # the defaults of the table configuration
        (500, 0.25, 0.25, (31, 94, 375)),  # the sandbox's and production's values
        (100, 0, 0.5, (0, 0, 100)),
        (5, 0.7, 0.5, (1, 2, 2)),
        (3, 0.9, 0.75, (2, 0, 1)),  # int(n * PH * PH1), not int(int(n * PH) * PH1)
        (10, 100, 0.5, (5, 5, 0)),
        (10, 1, 2, (10, 0, 0)),
        (1, 0.5, 1, (0, 0, 1)),
    ],
)
def test_split(
    count: int, proportion_holdout: float, proportion_holdout1: float, expected: tuple[int, ...]
) -> None:
    assert split(count, proportion_holdout, proportion_holdout1) == expected


@given(st.integers(1, 10_000), st.floats(0, 1000), st.floats(0, 10))
def test_every_site_has_one_usage(count: int, holdout: float, holdout1: float) -> None:
    parts = split(count, holdout, holdout1)
    assert sum(parts) == count
    assert min(parts) >= 0


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
def test_as_the_old_script_counted(count: int, holdout: float, holdout1: float) -> None:
    parts = split(count, holdout, holdout1)
    assert parts.holdout + parts.validate == min(count, int(count * holdout))
    assert parts.holdout == min(parts.holdout + parts.validate, int(count * holdout * holdout1))
