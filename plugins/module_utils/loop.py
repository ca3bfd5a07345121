# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decisions of the active-learning loop, without a database (docs/labeller.md 4.4, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Optional, Tuple

if TYPE_CHECKING:
    from decimal import Decimal

#: What comes next: what ``iteration`` returns as ``next``.
NEXT = ("wait", "repair", "learn", "advance", "export", "end")


@dataclass(frozen=True)
class Criteria:
    """When the loop stops (configuration's StoppingFunc_*)."""

    max_iterations: int
    accuracy: Decimal
    gain: Decimal


def stopping(
    accuracies: Mapping[int, Optional[Decimal]], iteration: int, criteria: Criteria
) -> str:
    """Why the loop stops after ``iteration`` brought its metrics, or an empty string.

    ``accuracies`` are those of this run by iteration; ``iteration`` is the newest one. Criterion 1
    is the number of iterations. Criterion 2: the last three accuracies are all above the threshold
    and neither of the two steps between them is as large as the gain (docs/labeller.md 4.4.6).
    """
    if iteration >= criteria.max_iterations:
        return "criterion 1: iteration {} of at most {}".format(iteration, criteria.max_iterations)
    if criteria.accuracy.is_nan() or criteria.gain.is_nan():
        return ""  # so an operator switches criterion 2 off: nothing is above or below nan
    last = [accuracies.get(number) for number in (iteration - 2, iteration - 1, iteration)]
    known = [value for value in last if value is not None and value.is_finite()]
    if iteration < 3 or len(known) < 3 or not all(value > criteria.accuracy for value in known):
        return ""
    steps = [abs(known[1] - known[0]), abs(known[2] - known[1])]
    if all(step < criteria.gain for step in steps):
        return "criterion 2: accuracies {} are above {} and differ by less than {}".format(
            ", ".join(str(value) for value in known), criteria.accuracy, criteria.gain
        )
    return ""


def phase(
    mode: str,
    iteration: int,
    counts: Mapping[int, Tuple[int, int]],
    metrics: Mapping[int, Optional[Decimal]],
) -> str:
    """Where the run is: none, mapping, complete, returned or stopped.

    ``counts`` has (names, processed ones) of each iteration of the run.
    """
    total, processed = counts.get(iteration, (0, 0))
    if processed < total:
        return "mapping"
    if total == 0:
        return "stopped" if iteration > 0 and iteration in metrics else "none"
    following = counts.get(iteration + 1, (0, 0))[0]
    if mode == "regular" and following and iteration + 1 in metrics:
        return "returned"
    return "complete"


def following(phase: str, mode: str, blocked: int) -> str:
    """The next action of iterate.yml, one of NEXT; ``blocked`` sites keep a run open."""
    if phase == "mapping":
        return "repair" if blocked else "wait"
    if phase == "complete":
        return {"regular": "learn", "initial": "export", "single": "end"}[mode]
    return {"none": "wait", "returned": "advance", "stopped": "end"}[phase]
