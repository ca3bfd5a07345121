"""The real learner's reading of names, by the statements of its source (docs/labeller.md 5.2, 5.3).

On its own: it shares no code with the sandbox's learner or with what verifies a run's input.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Read(NamedTuple):
    """The names of both sets, sorted, as often as the learner has them."""

    train: list[str]
    validate: list[str]


def read(get: Callable[[str], str], learner: Mapping[str, object]) -> Read:
    """The names that are read for a configuration's section ``learner``; ``get`` gives a key's text."""

    def rows(option: str) -> list[list[str]]:
        return list(csv.reader(get(f"{learner['prefix']}/{learner[option]}").splitlines()))[1:]

    union = rows("incoming_names") + rows("incoming_names_static")
    spelt = ("t", "true", "y", "yes", "1")
    kept = [
        (name, usage)
        for name, run, _iteration, _processed, usage, label in union
        if run == str(learner["runid"]) and label.lower() in spelt
    ]
    joined = [
        (name, usage)
        for name, *_ in rows("pool")
        for other, usage in kept
        if name == other
    ]  # fmt: skip
    return Read(
        sorted(name for name, usage in joined if usage == "train"),
        sorted(name for name, usage in joined if usage == "validate"),
    )
