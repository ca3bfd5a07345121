"""``load``: everything that a run is given, every file read once, every problem reported at once.

First ``Source.of`` finds what the options name and reads the inventory and ``-e``, which takes
milliseconds and says how ansible is to be started; then ``load`` reads the playbook and checks all
of it, while ansible is being imported in its own process. Nothing after it opens an input file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.load import inventory, parameters, targets
from runbook.load.diagnostics import Problem, fail_on

if TYPE_CHECKING:
    from runbook.load.inventory import Inventory
    from runbook.load.parameters import ExtraVars, Parameter
    from runbook.load.playbook import Step
    from runbook.load.targets import Target
    from runbook.load.vault import Passwords


@dataclass(frozen=True)
class Source:
    """What the options name, found, with the inventory and ``-e`` read.

    ``inventory`` is None where no target is named (``show``), ``playbook`` where none is
    (``validate`` of an inventory).
    """

    playbook: Path | None
    inventory: Inventory | None
    extra: ExtraVars

    @classmethod
    def of(
        cls, playbook: Path, target: Target | None = None, extra_vars: Iterable[str] = ()
    ) -> Source:
        """Read the inventory of ``target`` and the options ``extra_vars``."""
        extra = parameters.parse_extra_vars(extra_vars)
        found = inventory.read(target, playbook.parent) if target else None
        return cls(playbook, found, extra)

    @classmethod
    def named(cls, playbook: str, target: str | None, extra_vars: Iterable[str] = ()) -> Source:
        """The same of names; InvalidInputError for a playbook or target that does not exist."""
        where = targets.target(target) if target else None
        return cls.of(targets.playbook(playbook), where, extra_vars)

    @property
    def target(self) -> Target:
        """The target; there must be one."""
        assert self.inventory is not None
        return self.inventory.target


@dataclass(frozen=True)
class Selection:
    """Which tasks and hosts of a playbook a run is limited to."""

    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    limit: str = ""
    start_at_task: str = ""


@dataclass(frozen=True)
class RunInput:
    """The input of a run: its parameters as the run would take them, its tasks in their order."""

    source: Source
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        """The file name of the playbook."""
        return self.source.playbook.name if self.source.playbook else ""

    def differing(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, secrets masked."""
        return {
            f"{found.name} [{found.host}]" if found.host else found.name: found.value
            for found in self.parameters
            if found.differs
        }

    @property
    def warnings(self) -> list[Problem]:
        """The problems that do not stop a run."""
        return [problem for problem in self.problems if problem.warning]


def load(
    source: Source, selection: Selection | None = None, passwords: Passwords | None = None
) -> RunInput:
    """The checked input of a run; InvalidError with every problem if it may not be run.

    Vaults are looked at only with ``passwords``.
    """
    found = examined(source, selection, passwords)
    fail_on(found.problems)
    return found


def examined(
    source: Source, selection: Selection | None = None, passwords: Passwords | None = None
) -> RunInput:
    """The same, with its problems, also where they would stop a run."""
    from runbook.load import checks  # not before ansible has begun to be imported

    walked, problems = checks.check(source, selection or Selection(), passwords)
    return RunInput(
        source,
        tuple(parameters.resolve(source, walked.needed, walked.hosts)),
        tuple(walked.walk.steps),
        tuple(problems),
    )
