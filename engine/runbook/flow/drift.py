"""``drift``: a check run, read as the answer to: is the target still as the playbook says?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from runbook.errors import ExitCode, worst
from runbook.events import journal
from runbook.events.model import (
    Event,
    HostCounts,
    Recap,
    Result,
    RunFinished,
    Status,
    TaskResult,
)
from runbook.events.render import fleet, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OURS = "labeller.runbook."
#: The modules whose warnings say that something is not as it should be.
_WARNING = frozenset({f"{_OURS}database_consistent", f"{_OURS}run_marker"})
#: Lines of one difference that are shown unless all are asked for.
SHOWN = 12


@dataclass
class Drift:
    """Gathers the events of a check run. ``since``: the last run that left no difference."""

    since: Mapping[str, Any] | None = None
    results: list[TaskResult] = field(default_factory=list)
    counts: Mapping[str, HostCounts] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    end: Result | None = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case TaskResult():
                self.results.append(event)
            case Recap():
                self.counts = event.hosts
            case RunFinished():
                self.unchecked, self.not_checked = event.unchecked, event.not_checked
            case Result():
                self.end = event
            case _:
                pass

    @property
    def hosts(self) -> list[str]:
        """The hosts that were looked at, or were to be."""
        return fleet.ordered([*(result.host for result in self.results), *self.not_checked])

    def _of(self, host: str) -> list[TaskResult]:
        return [result for result in self.results if result.host == host]

    def holder(self, host: str) -> str:
        """The run that is changing a host, so that nothing can be said of it."""
        leases = [result for result in self._of(host) if result.module == f"{_OURS}lease"]
        return next((result.headline for result in leases if result.headline), "")

    def failure(self, host: str) -> TaskResult | None:
        """The step that failed on a host, so that it was not compared; not one that refuses it."""
        bad = [r for r in self._of(host) if r.exit_code not in (ExitCode.OK, ExitCode.REFUSED)]
        return bad[-1] if bad and self.counts.get(host, HostCounts()).bad else None

    def code(self, host: str) -> ExitCode:
        """0 or 2; what kept the check from its end there; 6 while a run changes the host."""
        if host in self.not_checked:
            return ExitCode.FAILED
        if failure := self.failure(host):
            return failure.exit_code
        if self.holder(host):
            return ExitCode.LOCKED
        moved = self._refused(host) or any(map(_moved, self._of(host)))
        return ExitCode.CHANGES if moved else ExitCode.OK

    def _refused(self, host: str) -> bool:
        """Whether a step would refuse the host as it is; steps after it were not compared."""
        return any(result.error_kind == "refused" for result in self._of(host))

    @property
    def exit_code(self) -> ExitCode:
        """The worst of the hosts'; that of the check where it came to none."""
        assert self.end is not None
        return worst(map(self.code, self.hosts)) if self._ended else ExitCode(self.end.exit_code)

    @property
    def _ended(self) -> bool:
        """Whether the check came to its end, but for hosts that say why it did not there."""
        assert self.end is not None
        if self.end.exit_code in (ExitCode.OK, ExitCode.CHANGES):
            return True
        failed = any(self.failure(host) or self._refused(host) for host in self.hosts)
        return failed and self.end.exit_code != ExitCode.INTERRUPTED

    @property
    def compared(self) -> list[str]:
        """The hosts of which something can be said."""
        unknown = {host for host in self.hosts if self.failure(host) or self.holder(host)}
        told = [host for host in self.hosts if host not in {*unknown, *self.not_checked}]
        return told if self._ended else []

    def as_json(self) -> dict[str, Any]:
        """The answer (schemas/drift.schema.json)."""
        assert self.end is not None
        return {
            "playbook": self.end.playbook,
            "target": self.end.target,
            "drifted": any(self.code(host) == ExitCode.CHANGES for host in self.hosts),
            "since": self.since,
            "unchecked": self.unchecked,
            "hosts": {host: self._of_host(host) for host in self.compared},
            "failed": {host: self._why(host) for host in self.hosts if host not in self.compared},
        }

    def _why(self, host: str) -> str:
        """Why nothing can be said of a host."""
        if host in self.not_checked:
            return "not checked: the check ended before it came to this host"
        failure = self.failure(host)
        return f"{failure.task}: {failure.message}" if failure else self.holder(host)

    def _of_host(self, host: str) -> dict[str, Any]:
        found = self._of(host)
        marked = [each.message for each in found if each.module == f"{_OURS}run_marker"]
        return {
            "run": next((said.removeprefix("in place: ") for said in marked), ""),
            "changes": [change for result in found for change in _changes(result)],
            "inconsistencies": [
                warning for each in found if each.module in _WARNING for warning in each.warnings
            ],
            "refused": "; ".join(each.message for each in found if each.error_kind == "refused"),
        }

    def keep(self) -> None:
        """Keep what differs, by host, for ``recorded``. Raises OSError."""
        found = self.as_json()
        differences = {host: _differences(each) for host, each in found["hosts"].items()}
        playbook = PurePath(found["playbook"]).name
        journal.keep_drift(found["target"], {"playbook": playbook, "hosts": differences})

    def lines(self, *, whole: bool = False) -> Iterator[str]:
        """The answer for people; ``whole``: every line of every difference."""
        said = self.as_json()
        where = f"{said['playbook']} on {said['target']}"
        yield f"{where}: {self._verdict(drifted=said['drifted'])}{self._last()}"
        for host, found in said["hosts"].items():
            if found["run"]:
                yield f"  in place [{host}]: {found['run']}"
            for change in found["changes"]:
                yield f"  {change['task']} [{host}]: {_named(change)}"
                yield from (f"    {line}" for line in _shown(change["diff"], whole=whole))
            yield from (f"  inconsistent [{host}]: {each}" for each in found["inconsistencies"])
            if found["refused"]:
                yield f"  an apply would be refused [{host}]: {found['refused']}"
                yield "  What comes after that step was not compared."
        yield from (f"  cannot tell [{host}]: {why}" for host, why in said["failed"].items())
        if said["unchecked"]:
            yield f"  A check cannot compare: {', '.join(said['unchecked'])}"
        if any(found["changes"] for found in said["hosts"].values()):
            look = f"runbook apply {said['playbook']} -i {said['target']} --check"
            yield f"{look} shows what an apply would do."

    def _verdict(self, *, drifted: bool) -> str:
        word = "drifted" if drifted else "no drift"
        if len(self.hosts) == 1:
            return word
        moved = [host for host in self.compared if self.code(host) == ExitCode.CHANGES]
        return f"{word} on {fleet.named(moved or self.compared, self.hosts)}"

    def _last(self) -> str:
        if self.since is None:
            return "; no run that left it as the playbook says is in this journal"
        return f" since run {self.since['run_id']}, which ended {text.moment(self.since['at'])}"


def recorded(target: str, host: str) -> dict[str, Any] | None:
    """The differences of a host that this machine knows of: ``at``, ``playbook``, ``differences``.

    From the last look for drift, or the last run of its playbook, after which nothing does. None
    when there was no look here.
    """
    kept = journal.last_drift(target)
    if not kept or host not in kept["hosts"]:
        return None
    found = {"at": kept["at"], "playbook": kept["playbook"], "differences": kept["hosts"][host]}
    since = journal.last_as_declared(kept["playbook"], target, [host])
    return (
        found
        if not since or since["at"] < kept["at"]
        else {**found, "at": since["at"], "differences": []}
    )


def _differences(found: Mapping[str, Any]) -> list[str]:
    """The steps that would change something, and what is wrong besides."""
    refused = [f"an apply would be refused: {found['refused']}"] if found["refused"] else []
    steps = dict.fromkeys(change["task"] for change in found["changes"])
    return [*refused, *steps, *found["inconsistencies"]]


def _moved(result: TaskResult) -> bool:
    return result.changed or bool(result.warnings and result.module in _WARNING)


def _changes(result: TaskResult) -> Iterator[dict[str, Any]]:
    """The changes that a step would make, each with the lines of its difference."""
    if not result.changed or result.status == Status.IGNORED:
        return
    diffs = {str(diff.get("before_header") or ""): diff for diff in result.diff}
    entries = text.real(result.plan) or [{"resource": name} for name in diffs or [""]]
    for entry in entries:
        resource = str(entry.get("resource", ""))
        yield {
            "task": result.task,
            "resource": resource,
            "action": str(entry.get("action", "change")),
            "counts": dict(entry.get("counts") or {}),
            "diff": text.changed_lines(diffs[resource]) if resource in diffs else [],
        }


def _named(change: Mapping[str, Any]) -> str:
    return text.item(change) if change["resource"] else "would change"


def _shown(lines: list[str], *, whole: bool) -> list[str]:
    changed = [line for line in lines if whole or line[:1] in "+-"]
    left = len(changed) - SHOWN
    return changed if whole or left <= 0 else [*changed[:SHOWN], f"{left:,} more lines (--diff)"]
