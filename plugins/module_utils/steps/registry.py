# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one list of the steps that a transaction can take, and their modules' common ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Type

from .. import module, transaction
from ..errors import InvalidInput
from ..step import COMMON_ARGUMENTS
from .configuration import Configuration
from .database_consistent import DatabaseConsistent
from .f_pool import FPool
from .f_sites import FSites
from .geography import Geography
from .geography_info import GeographyInfo
from .grid_availability import GridAvailability
from .pg_clear import PgClear
from .run_marker import RunMarker
from .scene_catalog import SceneCatalog
from .static_sites import StaticSites
from .worker_qualifications import WorkerQualifications

if TYPE_CHECKING:
    from ..step import Step

STEPS: Dict[str, Type[Step]] = {
    step.name: step
    for step in (
        RunMarker,
        PgClear,
        Geography,
        GridAvailability,
        SceneCatalog,
        FPool,
        FSites,
        StaticSites,
        WorkerQualifications,
        Configuration,
        DatabaseConsistent,
        GeographyInfo,
    )
}

#: States of steps' modules that only read.
LOOKING = ("read", "checked", "resumable")

#: ``steps`` of pg_transaction: each element has one step's name and its arguments.
STEPS_ARGUMENT: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {name: {"type": "dict", "options": step.ARGUMENTS} for name, step in STEPS.items()},
    "mutually_exclusive": [list(STEPS)],
    "required_one_of": [list(STEPS)],
}


def chain(elements: List[Mapping[str, Any]]) -> List[Step]:
    """The steps of a validated ``steps`` argument, in order."""
    if not elements:
        raise InvalidInput("steps is empty; expected at least one step")
    return [
        STEPS[name](arguments)
        for element in elements
        for name, arguments in element.items()
        if arguments is not None
    ]


def arguments(step: Type[Step]) -> Dict[str, Any]:
    """The argument spec of a step that is a module of its own."""
    return {**COMMON_ARGUMENTS, **step.ARGUMENTS}


def module_of(step: Type[Step]) -> module.Module:
    """A step's module: a transaction of that one step, or what it reads."""

    def logic(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
        if step.looks or params.get("state") in LOOKING:
            return transaction.read(step(params), params)
        return transaction.run([step(params)], params, check=check_mode)

    return module.Module(arguments(step), logic)
