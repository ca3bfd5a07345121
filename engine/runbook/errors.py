"""Exit codes, and the engine's errors that carry them. One place for both."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExitCode(IntEnum):
    """The exit codes of ``runbook`` (docs/operations.md)."""

    OK = 0
    FAILED = 1
    CHANGES = 2
    INVALID = 3
    UNREACHABLE = 4
    STALE = 5
    LOCKED = 6
    REFUSED = 7
    USAGE = 64
    INTERRUPTED = 130


#: The ``error_kind`` of a module's failure (plugins/module_utils/errors.py) and its exit code.
EXIT_OF_KIND = {
    "failed": ExitCode.FAILED,
    "invalid_input": ExitCode.INVALID,
    "unreachable": ExitCode.UNREACHABLE,
    "stale": ExitCode.STALE,
    "locked": ExitCode.LOCKED,
    "refused": ExitCode.REFUSED,
}


#: Where hosts end differently, the first of these is the exit code: first what may have left a host
#: half done, last what passes by itself.
WORST = (
    ExitCode.INTERRUPTED,
    ExitCode.FAILED,
    ExitCode.UNREACHABLE,
    ExitCode.STALE,
    ExitCode.REFUSED,
    ExitCode.INVALID,
    ExitCode.CHANGES,
    ExitCode.LOCKED,
    ExitCode.OK,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code of several hosts or targets; OK of none."""
    return min(codes, key=WORST.index, default=ExitCode.OK)


class RunbookError(Exception):
    """Something the person at the keyboard must know; ends the command with ``exit_code``."""

    exit_code = ExitCode.FAILED


class InvalidInputError(RunbookError):
    """Input is not what it must be; the message may span lines, one problem each."""

    exit_code = ExitCode.INVALID


class UnreachableError(RunbookError):
    """The target does not answer."""

    exit_code = ExitCode.UNREACHABLE


class StaleError(RunbookError):
    """A saved plan is not valid any more."""

    exit_code = ExitCode.STALE


class LockedError(RunbookError):
    """Another run holds what is needed."""

    exit_code = ExitCode.LOCKED


class RefusedError(RunbookError):
    """A guard, or a confirmation that was not given."""

    exit_code = ExitCode.REFUSED
