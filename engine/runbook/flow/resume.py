"""``resume``: a run that did not come to its end, begun again with what it was given.

The journal of this machine keeps what each real run is given (``input.json``): the names of its
playbook, target and options, its public ``-e``, and what all of them are bound to, as in a plan
file. The target's journal knows which of its steps are done. A run is resumed by an apply that is
given the same; its check run must find the same databases, and nothing to change where a step is
done. Each step of a runbook module does only what is still missing, so the rest is an apply.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from runbook import __version__
from runbook.errors import InvalidInputError, LockedError, RunbookError, StaleError
from runbook.events import journal
from runbook.events.model import now
from runbook.events.render import fleet, text
from runbook.flow import query, saved
from runbook.load import plan_file, schemas, targets
from runbook.load.extra_vars import parse_extra_vars

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from runbook.events.model import TaskResult
    from runbook.events.redaction import Redactor
    from runbook.execute.runner import Outcome
    from runbook.flow.confirm import Passwords
    from runbook.load.run_input import RunInput
    from runbook.load.targets import Target

#: What is kept of a plan file, or of a check run (``saved.bound``).
_BOUND = (
    "playbook", "target", "selection", "hosts", "parameters", "files", "salt", "inputs",
)  # fmt: skip
#: Names that may be secrets which no schema knows.
_SECRET = re.compile(r"pass|pwd|secret|token|(^|_)key($|_)", re.IGNORECASE)


@dataclass(frozen=True)
class Unfinished:
    """A run that did not come to its end, and what it was given.

    ``secrets``: the options ``-e`` that give its secrets once more. ``hosts``: where it is to be
    resumed, where that is not everywhere.
    """

    run_id: str
    given: Mapping[str, Any]
    secrets: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def runs(self) -> list[str]:
        """Its id, and those of the runs that it resumed itself."""
        return [self.run_id, *self.given["resumes"]]

    @property
    def named(self) -> str:
        """The run, its playbook and target, for people."""
        return f"{self.run_id} ({self.given['playbook']} on {self.given['target']})"

    def options(self) -> dict[str, Any]:
        """The options of ``apply`` that do the same, on the hosts where it did not end."""
        found = plan_file.options(self.given)
        limit = ",".join(self.hosts) or found["limit"]
        return {**found, "limit": limit, "extra_vars": (*found["extra_vars"], *self.secrets)}


def given(
    bound: Mapping[str, Any], redactor: Redactor, plan: str = "", resumes: Unfinished | None = None
) -> dict[str, Any]:
    """The content of ``input.json`` (schemas/run_input.schema.json).

    It is all that a real run is bound to, but no secret of its ``-e``. ``plan``: SHA-256 of the
    plan file that it applies.
    """
    named = [_public(option, redactor) for option in bound["extra_vars"]]
    kept = {
        **{key: bound[key] for key in _BOUND},
        "extra_vars": [option for option, _ in named if option != "{}"],
        "secret": sorted({name for _, secret in named for name in secret}),
        "inventory": _inventory(targets.target(bound["target"])),
        "folder": str(Path.cwd()),
        "made": {"at": now(), "runbook": __version__},
        "plan": plan,
        "resumes": resumes.runs if resumes else [],
    }
    plain: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return plain


def _public(option: str, redactor: Redactor) -> tuple[str, list[str]]:
    """An option ``-e`` without what is or may be secret, and the names of that."""
    if option.startswith("@"):
        return option, []
    named = json.loads(option)
    public = {
        name: value
        for name, value in named.items()
        if name not in schemas.secret_names()
        and (name in schemas.parameters() or not _SECRET.search(name))
        and redactor.value(value) == value
    }
    return json.dumps(public), sorted(named.keys() - public.keys())


def _inventory(target: Target) -> str:
    """The inventory of a target, the same by whatever name it was found."""
    return os.path.realpath(target.path) if target.path else target.inventory


def unfinished(target: str, run: str = "", secrets: Sequence[str] = ()) -> Unfinished | str:
    """The run of a target that is to be resumed; or why there is nothing to resume.

    ``run``: its id or the beginning of it; the newest that did not end, if none is given, and was
    not followed by one of its playbook that did. Raises InvalidInputError for no such run, for
    another folder or target, for options ``secrets`` that are not those of the run; LockedError
    for a run that is going on.
    """
    inventory = _inventory(targets.target(target))
    if run:
        found = journal.named(run)
        left: AbstractSet[str] = found.unfinished
    else:
        found, left = _newest(inventory, target)
    if found.given is None:
        return f"{found.run_id} has changed nothing: it did not come beyond its check."
    _require_valid(found)
    some = fleet.ordered(left) if left != {*found.given["hosts"]} else ()
    about = Unfinished(found.run_id, found.given, tuple(secrets), tuple(some))
    if about.given["inventory"] != inventory:
        raise InvalidInputError(f"{about.named} was not a run on {target}")
    if found.running:
        raise LockedError(f"{about.named} is going on; interrupt it, or wait for its end")
    if found.ended_well:
        return f"{about.named} came to its end: there is nothing to resume."
    if about.given["folder"] != str(Path.cwd()):
        raise InvalidInputError(
            f"{about.named} was started in {about.given['folder']}, from where its files are "
            "named: resume it in that folder"
        )
    _require_secrets(about)
    return about


def _newest(inventory: str, target: str) -> tuple[journal.Kept, AbstractSet[str]]:
    """The newest run that did not end, unless later ones of its playbook did, and where.

    One that was refused or failed before it changed anything has left nothing to finish.
    """
    done: defaultdict[str, set[str]] = defaultdict(set)
    for each in journal.runs():
        if each.given and each.given.get("inventory", inventory) == inventory:
            _require_valid(each)
            finished = done[PurePath(each.given["playbook"]).stem]
            hosts = {*each.given["hosts"]} or {""}
            if each.ended_well:
                finished |= hosts
                continue
            left = each.unfinished or hosts
            if left - finished and (each.ended is None or each.ended["changed"]):
                return each, left - finished - {""}
            finished |= hosts - left
    raise InvalidInputError(
        f"no run on {target} in this machine's journal, {journal.path('')}, is unfinished; "
        f"runbook history -i {target} lists those of all operators"
    )


def _require_valid(run: journal.Kept) -> None:
    """Raise InvalidInputError for an input that this version did not write."""
    for wrong in schemas.validator("run_input").iter_errors(run.given) if run.given else ():
        place = "/".join(map(str, wrong.absolute_path)) or "input.json"
        raise InvalidInputError(
            f"{run.run_id} was kept by another version of runbook ({place}: "
            f"{wrong.message[:200]}): apply its playbook again, or remove "
            f"{journal.path(run.run_id)}"
        )


def _require_secrets(run: Unfinished) -> None:
    """Raise InvalidInputError unless exactly the secrets of the run's command line are given."""
    wanted, extra = set(run.given["secret"]), parse_extra_vars(run.secrets)
    if more := sorted(extra.values.keys() - wanted):
        raise InvalidInputError(
            f"-e gives {', '.join(more)}: a run is resumed with its own parameters. Apply its "
            "playbook again to use others"
        )
    if missing := sorted(wanted - extra.values.keys()):
        raise InvalidInputError(
            f"{run.named} was given {', '.join(missing)} on the command line, which is kept "
            "nowhere: give it again, as -e NAME=VALUE or -e @FILE"
        )


def require_same(run: Unfinished, now_given: RunInput) -> None:
    """Raise InvalidInputError naming every file of the input that is not as it was for the run."""
    own = {document.file for document in parse_extra_vars(run.secrets).read}
    problems = [
        problem
        for problem in plan_file.differences(run.given, now_given)
        if problem.split(" is used now")[0] not in own
    ]
    _refuse(InvalidInputError, run, problems)


def require_unmoved(
    run: Unfinished,
    checked: Outcome,
    parameters: Mapping[str, Any],
    options: Mapping[str, Any],
    passwords: Passwords,
) -> list[str]:
    """The steps that are done, of which none would change anything again, as a check run found.

    ``parameters``: those that differ from their defaults now, as JSON. Raises InvalidInputError for
    others than those of the run; StaleError for another database, or a step whose state has moved.
    """
    _refuse(
        InvalidInputError, run, _changed_parameters(run.given["parameters"], parameters, run.hosts)
    )
    found = saved.databases(checked.planned)
    _refuse(
        StaleError,
        run,
        [
            f"{host}: the database is {found.get(host, 'none')}, and was {bound['database']}"
            for host, bound in run.given["hosts"].items()
            if found.get(host) != bound["database"] and host in (run.hosts or run.given["hosts"])
        ],
    )
    done = finished(_journaled(run, options, passwords))
    _refuse(StaleError, run, list(repeated(done, checked.results)))
    return list(dict.fromkeys(task for _, task, _ in done))


def _refuse(kind: type[RunbookError], run: Unfinished, problems: list[str]) -> None:
    if problems:
        raise kind(
            f"{run.named} cannot be resumed, nothing was changed:\n"
            + "".join(f"- {problem}\n" for problem in problems)
            + f"Correct that, or apply {run.given['playbook']} again: it shows what it would do"
        )


def _changed_parameters(
    before: Mapping[str, Any], after: Mapping[str, Any], hosts: Collection[str]
) -> list[str]:
    """The parameters that differ; of ``hosts``, if there are any, a name has ``[HOST]`` or none."""

    def of(values: Mapping[str, Any], name: str, host: str) -> str:
        return json.dumps(values.get(f"{name} [{host}]", values.get(name)))

    names = sorted({*before, *after})
    if hosts:
        names = sorted({name.partition(" [")[0] for name in names})
    return list(
        dict.fromkeys(
            f"{name} is {of(after, name, host)}, and was {of(before, name, host)}"
            for host in hosts or [""]
            for name in names
            if of(before, name, host) != of(after, name, host)
        )
    )


def _journaled(
    run: Unfinished, options: Mapping[str, Any], passwords: Passwords
) -> Iterator[Mapping[str, Any]]:
    """The steps of the run in the target's journal, and of those that it resumed, oldest first."""
    asked = {"history": {"ids": run.runs}}
    answers = query.ask("history", options, asked, passwords=passwords)
    rows = [row for answer in answers.values() for row in answer["runs"]]
    for run_id in reversed(run.runs):
        for row in rows:
            yield from row["steps"] if row["run"] == run_id else ()


def finished(steps: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Host, task and resource of what is done and still must be; not of what comes and goes."""
    ends = {
        (step["host"], step["task"], resource["resource"]): step["outcome"]
        for step in steps
        for resource in step["resources"]
        if not resource.get("volatile")
    }
    return [key for key, outcome in ends.items() if outcome == "done"]


def repeated(
    done: Collection[tuple[str, str, str]], results: Iterable[TaskResult]
) -> Iterator[str]:
    """The steps of a check run that would change once more what is done, a line each."""
    for result in results:
        task = result.task.rpartition(" : ")[2]  # without the name of a role
        for change in text.real(result.plan) if result.changed else ():
            if (result.host, task, change["resource"]) in done:
                yield (
                    f"step {task!r} is done on {result.host} and would change something again: "
                    f"{text.item(change)}"
                )
