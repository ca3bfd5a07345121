"""``load``: everything that a run is given, every file read once, every problem reported at once.

First ``Source.of`` finds what the options name and reads the inventory and ``-e``, which takes
milliseconds and says how ansible is to be started; then ``load`` reads the playbook and checks all
of it, while ansible is being imported in its own process. Nothing after it opens an input file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook.load import targets
from runbook.load.diagnostics import Problem, fail_on
from runbook.load.source import Selection, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runbook.load.parameters import Parameter
    from runbook.load.vault import Passwords
    from runbook.load.walk.tasks import Step


@dataclass(frozen=True)
class RunInput:
    """The input of a run: its parameters as the run would take them, its tasks in their order.

    ``hosts``: those that its plays name, as far as a static inventory and plain patterns tell;
    ``files``: SHA-256 of the playbook and of what it includes, by the name in a plan file;
    ``inputs``: of the inventory and of what ``-e`` names, which may hold secrets.
    """

    source: Source
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    problems: tuple[Problem, ...]
    files: Mapping[str, str]
    inputs: Mapping[str, str]
    hosts: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The file name of the playbook."""
        return self.source.playbook.name if self.source.playbook else ""

    def differing(self, seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The parameters that differ from their defaults, by name, secrets masked.

        ``seen``: by host, the values as Ansible evaluated them.
        """
        from runbook.load import parameters

        return parameters.differing(self.parameters, seen)

    @property
    def places(self) -> dict[str, dict[str, Any]]:
        """The parameters that are set, by name: ``at``, FILE:LINE:COL, and ``required``."""
        return {
            each.name: {"at": each.place, "required": each.required}
            for each in self.parameters
            if each.place
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
    from runbook.load import checks, parameters  # not before ansible has begun to be imported

    walked, problems = checks.check(source, selection or Selection(), passwords)
    return RunInput(
        source,
        tuple(parameters.resolve(source, walked.needed, walked.hosts)),
        tuple(walked.walk.steps),
        tuple(problems),
        {
            targets.portable(path): found.digest
            for path, found in walked.walk.files.documents.items()
        },
        dict(_inputs(source)),
        frozenset() if any("{{" in each.value for each in walked.walk.hosts) else walked.hosts,
    )


def _inputs(source: Source) -> Iterator[tuple[str, str]]:
    if source.inventory:
        yield from source.inventory.foreign.items()
    for document in [*(source.inventory.documents if source.inventory else ()), *source.extra.read]:
        if document.digest:
            yield document.file, document.digest
