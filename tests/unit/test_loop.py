"""Decisions of the loop: stopping criteria and where a run is."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import loop
from hypothesis import given
from hypothesis import strategies as st

CRITERIA = loop.Criteria(30, Decimal("0.85"), Decimal("0.01"))


def series(*values: str | None) -> dict[int, Decimal | None]:
    """Accuracies of iterations 0, 1, ...; iteration 0 has none."""
    return dict(enumerate([None, *(None if v is None else Decimal(v) for v in values)]))


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        (("0.90", "0.905"), False),
        (("0.90", "0.905", "0.909"), True),
        (("0.90", "0.905", "0.915"), False),
        (("0.90", "0.91", "0.915"), False),
        (("0.85", "0.851", "0.852"), False),
        (("0.9", "0.905", "0.84", "0.85", "0.851"), False),
        (("0.5", "0.9", "0.905", "0.909"), True),
        (("0.909", "0.905", "0.90"), True),
        (("0.9", None, "0.905"), False),
        (("0.9", "NaN", "0.905"), False),
        ((), False),
    ],
)
def test_criterion_2(values: tuple[str | None, ...], stops: bool) -> None:
    assert loop.stopping(series(*values), len(values), CRITERIA).startswith("criterion 2") is stops


def test_a_step_of_exactly_the_gain_goes_on() -> None:
    """As floats, 0.29 - 0.28 is below 0.01."""
    low = loop.Criteria(30, Decimal("0.2"), Decimal("0.01"))
    assert loop.stopping(series("0.28", "0.29", "0.28"), 3, low) == ""


@given(st.integers(1, 40), st.integers(1, 40))
def test_criterion_1_is_the_number_of_iterations(maximum: int, iteration: int) -> None:
    criteria = loop.Criteria(maximum, Decimal(2), Decimal(0))
    assert bool(loop.stopping({}, iteration, criteria)) is (iteration >= maximum)


@pytest.mark.parametrize(
    ("mode", "iteration", "counts", "metrics", "phase"),
    [
        ("regular", 0, {}, {}, "none"),
        ("regular", 0, {}, {0: None}, "none"),
        ("regular", 0, {0: (5, 4)}, {0: None}, "mapping"),
        ("regular", 0, {0: (5, 5)}, {0: None}, "complete"),
        ("regular", 0, {0: (5, 5)}, {0: None, 1: Decimal(1)}, "complete"),
        ("regular", 0, {0: (5, 5), 1: (3, 0)}, {0: None, 1: Decimal(1)}, "returned"),
        ("regular", 1, {0: (5, 5), 1: (3, 2)}, {0: None, 1: Decimal(1)}, "mapping"),
        ("regular", 1, {0: (5, 5)}, {0: None, 1: Decimal(1)}, "stopped"),
        ("initial", 0, {0: (5, 5)}, {0: None}, "complete"),
        ("single", 0, {0: (5, 5), 1: (1, 0)}, {0: None, 1: None}, "complete"),
    ],
)
def test_phases(
    mode: str,
    iteration: int,
    counts: dict[int, tuple[int, int]],
    metrics: dict[int, Decimal | None],
    phase: str,
) -> None:
    assert loop.phase(mode, iteration, counts, metrics) == phase


@pytest.mark.parametrize(
    ("phase", "mode", "blocked", "following"),
    [
        ("none", "regular", 0, "wait"),
        ("mapping", "initial", 0, "wait"),
        ("mapping", "regular", 2, "repair"),
        ("complete", "regular", 0, "learn"),
        ("complete", "initial", 0, "export"),
        ("complete", "single", 0, "end"),
        ("returned", "regular", 0, "advance"),
        ("stopped", "regular", 0, "end"),
    ],
)
def test_what_comes_next(phase: str, mode: str, blocked: int, following: str) -> None:
    assert loop.following(phase, mode, blocked) == following


def test_a_next_step_is_one_of_those_that_iterate_yml_knows() -> None:
    """Each has a task or the end of the play, and none stands there that cannot come."""
    playbook = (Path(__file__).parents[2] / "playbooks" / "iterate.yml").read_text()
    conditions = re.findall(r"turn\.next (?:==|in) (.+)", playbook)
    assert set(re.findall(r"'(\w+)'", " ".join(conditions))) == set(loop.NEXT)
