"""One form for every problem found in the input, and the guess at what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from runbook.errors import InvalidInputError

#: A place in a document: keys of mappings and indexes of lists, from the root.
Path = tuple[str | int, ...]


def path_text(path: Path) -> str:
    """``[0].tasks[2].name``; ``document`` for the root."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "document"


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong at a place; ``line`` and ``col`` count from 1, 0 where there are none.

    A ``warning`` does not stop a run.
    """

    file: str
    line: int
    col: int
    path: str
    message: str
    suggestion: str = ""
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.col}:" if self.line else self.file
        path = f" {self.path}:" if self.path else ":" if not self.line else ""
        warning = "warning: " if self.warning else ""
        return f"{place}{path} {warning}{self.message}{_hint(self.suggestion)}"


def suggest(name: str, known: Iterable[str]) -> str:
    """The known name that ``name`` probably was meant to be, or an empty string."""
    choices = {choice.lower(): choice for choice in sorted(known)}
    close = get_close_matches(name.lower(), choices, n=1, cutoff=0.6)
    return choices[close[0]] if close else ""


def hint(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` after a ``name`` that is not known; empty without a guess."""
    return _hint(suggest(name, known))


def _hint(guess: str) -> str:
    return f" (did you mean {guess}?)" if guess else ""


def ordered(problems: Iterable[Problem]) -> list[Problem]:
    """By file and place, each problem once."""
    return sorted(set(problems))


class InvalidError(InvalidInputError):
    """All problems of the input, each a line."""

    problems: Sequence[Problem] = ()


def fail_on(problems: Sequence[Problem]) -> None:
    """Raise the ``problems`` that are no warnings, if there are any, as one ``InvalidError``."""
    wrong = ordered(problem for problem in problems if not problem.warning)
    if wrong:
        error = InvalidError("\n".join(map(str, wrong)))
        error.problems = wrong
        raise error
