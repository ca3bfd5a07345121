# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one error tree of the modules.

Logic raises these; ``module.Module`` alone turns them into a failed result. ``kind`` travels in the
result, and the engine maps it to the exit code of the command line.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Mapping, Sequence


class ModuleFailure(Exception):  # noqa: N818 - a failure of the module, as Ansible says it
    """A step cannot be done; the message is for the person at the keyboard."""

    kind = "failed"
    #: More for the module's result, beside the message and the kind.
    details: Mapping[str, Any] = MappingProxyType({})


class InvalidInput(ModuleFailure):
    """A parameter, or the content of an input object, is not what it must be."""

    kind = "invalid_input"


class Unreachable(ModuleFailure):
    """The database or an AWS endpoint does not answer."""

    kind = "unreachable"


class Stale(ModuleFailure):
    """A step is about to do something other than its check run planned."""

    kind = "stale"


class Locked(ModuleFailure):
    """Another session holds the target or a lock that the step needs."""

    kind = "locked"


class Refused(ModuleFailure):
    """A guard stopped the step, for instance a deletion without a proving backup."""

    kind = "refused"


def refuse(where: str, problems: Sequence[str], way_out: str) -> None:
    """Raise Refused with the problems; return when there are none."""
    if problems:
        raise Refused("{}: {}; nothing was changed. {}".format(where, "; ".join(problems), way_out))


def missing(library: str, error: object = "", otherwise: str = "") -> ModuleFailure:
    """The failure where a host lacks a library; ``otherwise`` is another way out."""
    return ModuleFailure(
        "{} is missing on this host{}: `runbook apply bootstrap.yml` makes an environment that has "
        "it; or install it into the interpreter named by ansible_python_interpreter{}".format(
            library, " ({})".format(error) if error else "", otherwise
        )
    )
