"""The files of a run's input, found and partly read: as much as starting ansible needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runbook.load import inventory, targets
from runbook.load.extra_vars import ExtraVars, parse_extra_vars
from runbook.load.inventory import Inventory
from runbook.load.targets import Target


@dataclass(frozen=True)
class Source:
    """The playbook and target that the options name, with the inventory and ``-e`` read.

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
        extra = parse_extra_vars(extra_vars)
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
    """Which tasks and hosts of a playbook a run is limited to.

    ``others``: ``-e`` may give parameters that other playbooks use. ``asks``: it only asks its
    target, so that no later step goes by what results hold.
    """

    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    limit: str = ""
    start_at_task: str = ""
    others: bool = False
    asks: bool = False
