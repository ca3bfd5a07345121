# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The outcome of a learner's cluster, from EMR's answers: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

#: States of clusters at EMR.
ACTIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING")
ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")

#: EMR's reason when EC2 took nodes away.
LOST_NODES = "INSTANCE_FAILURE"


@dataclass(frozen=True)
class Outcome:
    """How a cluster stands: ``state`` is ``running``, ``succeeded`` or ``failed``.

    ``code`` is EMR's reason (STEP_FAILURE, INSTANCE_FAILURE, USER_REQUEST, ...), ``text`` the
    reason in words, ``step`` the id of the step that failed.
    """

    state: str
    code: str = ""
    text: str = ""
    step: str = ""


#: Of an iteration that has no cluster yet.
NO_CLUSTER = Outcome("none")


def assess(
    cluster: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], nodes_lost: int = 0
) -> Outcome:
    """The state of cluster and steps, in their order, together. Pure.

    The cluster's state alone says too little: with a failed step it may end as TERMINATED
    (docs/labeller.md 5.1.4). ``nodes_lost``: core nodes that EC2 took away; a step that fails then
    has lost its executors.
    """
    for step in steps:
        if step["Status"]["State"] == "FAILED":
            text = _step_text(step)
            if nodes_lost:
                text += "; {} nodes of the cluster were lost".format(nodes_lost)
            code = LOST_NODES if nodes_lost else "STEP_FAILURE"
            return Outcome("failed", code, text, step["Id"])
    if steps and all(step["Status"]["State"] == "COMPLETED" for step in steps):
        return Outcome("succeeded")
    if cluster["Status"]["State"] in ENDED:
        change = cluster["Status"].get("StateChangeReason") or {}
        code = change.get("Code") or "UNKNOWN"
        message = ": " + change["Message"] if change.get("Message") else ""
        text = "the cluster ended as {} before its steps were done ({}{})"
        return Outcome("failed", code, text.format(cluster["Status"]["State"], code, message))
    for step in steps:
        if step["Status"]["State"] in ("CANCELLED", "INTERRUPTED", "CANCEL_PENDING"):
            return Outcome("failed", "STEP_CANCELLED", _step_text(step), step["Id"])
    return Outcome("running")


def _step_text(step: Mapping[str, Any]) -> str:
    details = step["Status"].get("FailureDetails") or {}
    change = step["Status"].get("StateChangeReason") or {}
    reason = details.get("Message") or details.get("Reason") or change.get("Message") or ""
    state = step["Status"]["State"].lower().replace("_", " ")
    return "step {} {}{}".format(step["Name"], state, ": " + reason if reason else "")
