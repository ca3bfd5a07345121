"""Events for the report of a run that is over: those that were kept, or equal ones.

Of a run in this machine's journal: its own events. Of any other run: what the target's journal says
of it. Of a plan file: the results of its check run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode
from runbook.events.model import (
    Event,
    Notice,
    Result,
    RunFinished,
    RunStarted,
    Status,
    TaskResult,
)
from runbook.events.render import text
from runbook.flow import saved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runbook.events.journal import Kept
    from runbook.load.plan_file import PlanFile

#: Why a run has no end: it goes on, or it was killed.
_GOES_ON = "The run is going on: this is what it has done until now."
_KILLED = "The run was killed: how its last step ended is in the target's journal."
_OUTCOMES = {
    "done": "",
    "failed": "A step failed.",
    "unfinished": "It is not known how a step ended; the next run of the same playbook finds out.",
    "stopped": "The run was cut off after its last step: it has not given its lease back.",
}
_PARTIAL = (
    "this is from the target's journal, which has the steps that changed something; the others, "
    "the parameters and the map are in the journal of the machine that the run was started on"
)


def of_kept(run: Kept) -> list[Event]:
    """The events of a run in this machine's journal; of one without an end they get one."""
    found = list(run.events())
    if run.ended:
        return found
    begun = [each for each in found if isinstance(each, RunStarted)]
    check = begun[-1].check if begun else True
    changed = any(isinstance(each, TaskResult) and each.changed for each in found)
    if begun and not isinstance(found[-1], RunFinished):
        seconds = text.seconds(begun[-1].at, found[-1].at)
        found.append(RunFinished(check, ExitCode.FAILED, changed, seconds))
    given = run.given or {}
    names = (begun[-1].playbook, begun[-1].target) if begun else ("", "")
    message = _GOES_ON if run.running else _KILLED
    plan = str(given.get("plan", ""))
    found.append(
        Result(ExitCode.FAILED, run.run_id, *names, check, message=message, plan_sha256=plan)
    )
    return found


def of_plan(plan: PlanFile) -> list[Event]:
    """The check run of a plan file; how long its steps took is not kept."""
    content = plan.content
    results = saved.results(plan)
    changed = any(result.changed for result in results)
    at, named = content["made"]["at"], (content["playbook"], content["target"])
    return [
        RunStarted(
            "", *named, check=True, parameters=content["parameters"],
            operator=content["made"]["by"], at=at,
        ),
        *(Notice("warning", each) for each in content["warnings"]),
        *_headed(results, content["headlines"]),
        RunFinished(True, ExitCode.OK, changed, 0.0, unchecked=content["unchecked"]),
        Result(
            ExitCode.OK, "", *named, check=True, changed=changed, plan_sha256=plan.sha256
        ),
    ]  # fmt: skip


def _headed(results: Sequence[TaskResult], headlines: Sequence[str]) -> Iterator[TaskResult]:
    """The results, each host's first with its lines to read first, which a plan keeps apart."""
    of_host: dict[str, list[str]] = {}
    for line in headlines:
        said, _, host = line.rpartition(" [")
        of_host.setdefault(host.removesuffix("]"), []).append(said)
    for each in results:
        yield replace(each, headline="; ".join(of_host.pop(each.host, [])))


def of_history(target: str, runs: Mapping[str, Mapping[str, Any]]) -> list[Event]:
    """A run as the journals of its hosts have it."""
    first = min(runs.values(), key=lambda run: str(run["at"]))
    until = max(str(run["until"]) for run in runs.values())
    results = [
        _result(host, step) for host, run in runs.items() for step in run["steps"]
    ]  # fmt: skip
    count = sum(result.changed for result in results)
    problems = dict.fromkeys(filter(None, (_OUTCOMES[run["outcome"]] for run in runs.values())))
    code = ExitCode.FAILED if problems else ExitCode.OK
    named = (first["playbook"] or "no playbook", target)
    said = "\n".join(problems) or f"Done: {text.number(count, 'step')} changed something."
    seconds = text.seconds(first["at"], until)
    return [
        RunStarted(
            first["run"], *named, check=False, operator=first.get("operator", ""), at=first["at"]
        ),
        *results,
        Notice("warning", _PARTIAL),
        RunFinished(False, code, bool(count), seconds),
        Result(
            code, first["run"], *named, changed=bool(count), message=said,
            plan_sha256=first.get("plan", ""),
        ),
    ]  # fmt: skip


def _result(host: str, step: Mapping[str, Any]) -> TaskResult:
    """A step of the target's journal; one that failed has changed nothing."""
    changes = text.real(step["changes"])
    done = step["outcome"] == "done"
    status = (Status.CHANGED if changes else Status.OK) if done else Status.FAILED
    return TaskResult(
        host, step["task"], step["module"], status, changed=status == Status.CHANGED,
        diff=[{**each, **_headers(each)} for each in changes],
        plan=[dict(each) for each in changes],
        message="" if done else step.get("message") or text.UNKNOWN_END,
        error_kind=step.get("kind", ""),
        seconds=text.seconds(step["at"], step["until"]) if "until" in step else 0.0,
        backup_id=step.get("backup_id", ""),
    )  # fmt: skip


def _headers(change: Mapping[str, Any]) -> dict[str, str]:
    return {f"{side}_header": str(change["resource"]) for side in ("before", "after")}
