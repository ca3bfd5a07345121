"""The events of a run, small and frozen, and the one place where they are published.

``Publisher.publish`` redacts every event before any subscriber sees it; renderers and the journal
subscribe to it, independently of each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from runbook.errors import EXIT_OF_KIND, ExitCode

if TYPE_CHECKING:
    from runbook.events.redaction import Redactor


class Status(StrEnum):
    """How a step ended on a host."""

    OK = "ok"
    CHANGED = "changed"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    IGNORED = "ignored"


def now() -> str:
    """The time of an event: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Event:
    """Something that happened; ``at`` is when."""

    at: str = field(default_factory=now, kw_only=True)

    @classmethod
    def kind(cls) -> str:
        """The event's name in JSON: ``task_result`` for ``TaskResult``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def as_json(self) -> dict[str, Any]:
        """The event as an object of schemas/event.schema.json."""
        return {"event": self.kind(), **asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    """A check or a real run begins; ``parameters`` are those that differ from their defaults.

    They are those of the hosts of the first play. ``limit``: the option of this name. ``operator``:
    who began it, empty in journals of older versions.
    """

    run_id: str
    playbook: str
    target: str
    check: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit: str = ""
    operator: str = ""


@dataclass(frozen=True)
class ParametersRead(Event):
    """A later play has more hosts: ``parameters`` are now those of all plays so far."""

    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class PlayStarted(Event):
    """A play begins."""

    name: str


@dataclass(frozen=True)
class TaskStarted(Event):
    """A task or a handler begins."""

    name: str
    module: str


@dataclass(frozen=True)
class TaskResult(Event):
    """A task ended on a host.

    ``diff`` is a list of Ansible's diffs (``before``, ``after``, their headers, or ``prepared``);
    ``plan`` a list of the planned changes (plugins/module_utils/change.py). ``error_kind`` is set
    on failures of our modules, and in a check that is none, with the ``message``, where an apply
    would be refused (``locked``). ``output`` is what a failed foreign command printed.
    ``backup_id`` is the backup that the step made, found equal or restored. ``headline`` is what
    the operator must know first of the whole run, in the plan and when asked to confirm it. ``map``
    is what the module geography_info returns, empty of other steps.
    """

    host: str
    task: str
    module: str
    status: Status
    changed: bool = False
    diff: list[dict[str, Any]] = field(default_factory=list)
    plan: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""
    error_kind: str = ""
    output: str = ""
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    backup_id: str = ""
    headline: str = ""
    map: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the step failed, or its host could not be reached."""
        return self.status in (Status.FAILED, Status.UNREACHABLE)

    @property
    def locked(self) -> bool:
        """Whether this check has found the target locked by a person."""
        return self.status in (Status.OK, Status.CHANGED) and self.error_kind == "locked"

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that the step's end means for its host."""
        if self.status == Status.UNREACHABLE:
            return ExitCode.UNREACHABLE
        if self.status == Status.FAILED:
            return EXIT_OF_KIND.get(self.error_kind, ExitCode.FAILED)
        return ExitCode.OK


@dataclass(frozen=True)
class Progress(Event):
    """How far a table is in a phase of a step that is still running on a host.

    None is unknown; unless ``exact``, the totals are estimates. ``message`` says the same for
    people. Source: plugins/plugin_utils/following.py.
    """

    host: str
    task: str
    table: str
    phase: str
    rows: int
    bytes: int
    total_rows: int | None = None
    total_bytes: int | None = None
    exact: bool = False
    done: bool = False
    bytes_per_second: int | None = None
    seconds_left: int | None = None
    message: str = ""


@dataclass(frozen=True)
class Notice(Event):
    """Something that Ansible said outside a step; ``level`` is warning, error or verbose."""

    level: str
    text: str


@dataclass(frozen=True)
class HostCounts:
    """Ansible's recap of a host."""

    ok: int = 0
    changed: int = 0
    unreachable: int = 0
    failed: int = 0
    skipped: int = 0
    rescued: int = 0
    ignored: int = 0

    @property
    def bad(self) -> bool:
        """Whether the host failed or could not be reached."""
        return bool(self.failed or self.unreachable)


def failures(
    results: Iterable[TaskResult], counts: Mapping[str, HostCounts]
) -> dict[str, TaskResult]:
    """By host the step that it ended with, of those that failed; a rescued failure ends none."""
    bad = {host for host, each in counts.items() if each.bad}
    return {result.host: result for result in results if result.failed and result.host in bad}


@dataclass(frozen=True)
class Recap(Event):
    """Counts of a whole run, per host."""

    hosts: Mapping[str, HostCounts]


@dataclass(frozen=True)
class RunFinished(Event):
    """A check run or a real run ended.

    ``unfinished`` is the step that an interruption cut off, ``unchecked`` are the steps that the
    check could only skip, as foreign commands; a real run has those of its plan. ``unplanned`` is
    what a real run did otherwise than planned on hosts where it ended well; ``left``, by host, the
    planned steps that it did not come to, or failed at (``score``). ``not_checked`` are the hosts
    that a check that failed did not come to, as those of later batches.
    """

    check: bool
    exit_code: ExitCode
    changed: bool
    seconds: float
    unfinished: str = ""
    unchecked: list[str] = field(default_factory=list)
    unplanned: list[str] = field(default_factory=list)
    left: Mapping[str, list[str]] = field(default_factory=dict)
    not_checked: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result(Event):
    """The result of the command; the last object of ``--json`` and the journal's result.

    ``plan_sha256``: of the plan file that was saved or applied.
    """

    exit_code: ExitCode
    run_id: str = ""
    playbook: str = ""
    target: str = ""
    check: bool = False
    changed: bool = False
    message: str = ""
    problems: list[dict[str, Any]] = field(default_factory=list)
    hosts: Mapping[str, HostCounts] = field(default_factory=dict)
    plan: list[dict[str, Any]] = field(default_factory=list)
    plan_sha256: str = ""


def from_json(given: Mapping[str, Any]) -> Event:
    """The event that ``as_json`` made this of; what an earlier version left out has its default."""
    kinds = {kind.kind(): kind for kind in Event.__subclasses__()}
    kind = kinds[given["event"]]
    names = {each.name for each in fields(kind)}
    values = {name: value for name, value in given.items() if name in names}
    for name, made in (("exit_code", ExitCode), ("status", Status)):
        if name in values:
            values[name] = made(values[name])
    if "hosts" in values:
        values["hosts"] = {host: HostCounts(**each) for host, each in values["hosts"].items()}
    return kind(**values)


Subscriber = Callable[[Event], None]


class Publisher:
    """Hands each event, redacted, to every subscriber in turn."""

    def __init__(self, redactor: Redactor, subscribers: Iterable[Subscriber]) -> None:
        self._redactor = redactor
        self._subscribers = list(subscribers)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Hand it every event from now on."""
        self._subscribers.append(subscriber)

    def publish(self, event: Event) -> None:
        """Redact and deliver."""
        clean = self._redactor.event(event)
        for subscriber in self._subscribers:
            subscriber(clean)
