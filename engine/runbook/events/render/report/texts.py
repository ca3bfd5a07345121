"""Texts of a report: in one line, visible, cut."""

from __future__ import annotations

import unicodedata

#: How much a report shows: characters of a line, lines of a list and of a step's diff.
CHARACTERS, LINES = 400, 300


def visible(given: str, characters: int = CHARACTERS) -> str:
    """Text in one line, control and direction characters spelled out, cut at ``characters``."""
    if len(given) > characters:
        given = given[: characters - 1] + "…"
    return "".join(_spelled(each) for each in given)


def _spelled(character: str) -> str:
    if character in "\t ":
        return " "
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"\\u{ord(character):04x}"
    return character
