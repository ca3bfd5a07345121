"""Saved plans: what a check run found, as a plan file; and a plan file, as what apply goes by."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from runbook import __version__
from runbook.errors import InvalidInputError
from runbook.events.model import Status, TaskResult
from runbook.events.render import fleet
from runbook.home import operator
from runbook.load import plan_file, schemas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from runbook.events.redaction import Redactor
    from runbook.execute.runner import Outcome
    from runbook.execute.watch import Seen
    from runbook.flow.confirm import Passwords
    from runbook.load.plan_file import PlanFile
    from runbook.load.run_input import RunInput
    from runbook.load.source import Source

#: The module whose step binds a plan to a database, and records there that it was applied.
LEASE = "labeller.runbook.lease"
#: The module whose step makes the map of a run.
TRANSACTION = "labeller.runbook.pg_transaction"

#: How long a plan may be applied unless said otherwise.
LIFETIME = timedelta(hours=24)


def require_no_secret(source: Source) -> None:
    """Raise InvalidInputError for secrets on the command line: a plan file could not hold them."""
    secret = sorted(
        name
        for name, document in source.extra.documents.items()
        if name in schemas.secret_names() and not document.digest
    )
    if secret:
        raise InvalidInputError(
            f"-e gives {', '.join(secret)}: a plan file holds no secret. Put it into the "
            "inventory's vault, or into a file that -e @FILE names"
        )


def content(
    outcome: Outcome,
    given: RunInput,
    seen: Seen,
    selection: Mapping[str, Any],
    lifetime: timedelta,
    redactor: Redactor,
) -> dict[str, Any]:
    """The content of a plan file.

    Raises InvalidInputError for a playbook that changes a host without taking its lease.
    """
    found = databases(outcome.planned)
    open_hosts = sorted({result.host for result in outcome.results if result.changed} - {*found})
    if open_hosts:
        raise InvalidInputError(
            f"{given.name} takes no lease on {', '.join(open_hosts)}, where a plan would be "
            "recorded when it is applied: apply it without a plan file; a playbook of your own "
            "can begin with labeller.runbook.lease, state taken"
        )
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "format_version": plan_file.FORMAT,
        "made": {
            "at": now.isoformat(),
            "by": operator(),
            "commit": _commit(given.source.playbook),
            "runbook": __version__,
        },
        "expires_at": (now + lifetime).isoformat(),
        **bound(given, seen, selection, outcome.planned, redactor),
        "headlines": redactor.value(fleet.headlines(outcome.results)),
        "warnings": redactor.value(
            list(dict.fromkeys(each for result in outcome.results for each in result.warnings))
        ),
        "unchecked": list(outcome.unchecked),
        "maps": redactor.value({each.host: each.map for each in outcome.results if each.map}),
        "steps": [*_held(outcome, redactor), *_foreign(outcome.results, redactor)],
    }


#: Options that select what is done, which a plan keeps.
SELECTION = ("limit", "tags", "skip_tags", "start_at_task", "become")


def bound(
    given: RunInput,
    seen: Seen,
    options: Mapping[str, Any],
    planned: Mapping[str, Any],
    redactor: Redactor,
) -> dict[str, Any]:
    """The input of a check run, for another that must be given the same (``differences``)."""
    salt = os.urandom(16)
    return {
        "playbook": str(options["playbook"]),
        "target": str(options["target"]),
        "extra_vars": list(given.source.extra.given),
        "selection": {name: options[name] for name in SELECTION},
        "hosts": {
            host: {"database": database, "bucket": _bucket(given, seen, host)}
            for host, database in databases(planned).items()
        },
        "parameters": parameters(given, seen, redactor),
        "files": dict(given.files),
        "salt": salt.hex(),
        "inputs": {name: plan_file.salted(salt, x) for name, x in given.inputs.items()},
    }


def parameters(given: RunInput, seen: Seen, redactor: Redactor) -> dict[str, Any]:
    """The parameters that differ from their defaults, as JSON has them, without secrets."""
    shown = redactor.value(given.differing(seen))
    plain: dict[str, Any] = json.loads(json.dumps(shown, default=str))
    return plain


def databases(planned: Mapping[str, Any]) -> dict[str, str]:
    """By host, the database whose lease a playbook takes, from a run's ``Outcome.planned``."""
    return {
        step["host"]: f"{change['resource']}, {change['before_fingerprint']}"
        for step in plan_file.steps(planned)
        if step["module"] == LEASE
        for change in step["changes"]
    }


def _bucket(given: RunInput, seen: Seen, host: str) -> str:
    for parameter in given.parameters:
        if parameter.name == "bucket" and parameter.host in ("", host):
            return str(seen.get(host, {}).get("bucket", parameter.value))
    return ""


def _commit(playbook: Path | None) -> str | None:
    """The git commit of the folder that the playbook is in; None outside of a repository."""
    assert playbook is not None
    command = ["git", "-C", str(playbook.parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _held(outcome: Outcome, redactor: Redactor) -> Iterator[dict[str, Any]]:
    for step in plan_file.steps(outcome.planned):
        yield {**step, "changes": redactor.value(step["changes"])}


def _foreign(results: Sequence[TaskResult], redactor: Redactor) -> Iterator[dict[str, Any]]:
    """Changes of modules that no run is held to."""
    for result in results:
        if result.changed and not result.plan:
            diffs = [
                {side: str(diff[side]) for side in ("before", "after") if diff.get(side)}
                for diff in result.diff
            ] or [{}]
            entry = {"resource": result.task, "action": "change", "counts": {},
                     "before_fingerprint": ""}  # fmt: skip
            changes = plan_file.changes([entry] * len(diffs), [])
            for change, diff in zip(changes, diffs, strict=True):
                change.update(redactor.value(diff), after_unknown=not diff)
            yield {"host": result.host, "task": result.task, "module": result.module,
                   "left_out": False, "changes": changes}  # fmt: skip


def results(plan: PlanFile) -> list[TaskResult]:
    """The steps of a plan as a check run reports them; only those that change something."""
    found = []
    for step in plan.content["steps"]:
        changes = [change for change in step["changes"] if change["action"] != "none"]
        if changes and not step.get("unchanging"):
            diff = list(map(plan_file.ansible_diff, changes))
            named = (step["host"], step["task"], step["module"])
            plan_of = changes if "place" in step else []
            drawn = plan.content.get("maps", {}) if step["module"] == TRANSACTION else {}
            found.append(TaskResult(*named, Status.CHANGED, changed=True, diff=diff, plan=plan_of,
                                    map=drawn.get(step["host"], {})))  # fmt: skip
    return found


def require_accepted(plan: PlanFile, options: Mapping[str, Any], passwords: Passwords) -> None:
    """Ask the target whether it would take the plan; raises with exit code 5 when not."""
    from runbook.flow import query

    planned = {
        step["host"]: [{key: change[key] for key in plan_file.ENTRY} for change in step["changes"]]
        for step in plan.content["steps"]
        if step["module"] == LEASE and step["changes"]
    }
    asked = {"saved": {"id": plan.sha256, "planned": planned}}
    query.ask("plan", options, asked, check=True, passwords=passwords)
