"""Words that readers found unclear do not come back (CONTRIBUTING.md, Style)."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

#: A pattern, and what to write.
UNCLEAR = {
    r"\bmend(?:s|ed|ing)?\b": "repair, fix",
    r"\btaken_down\b": "the name of the state that it means",
    r"\bAll is well\b": "No problems found.",
    r"\bNothing but\b": "only",
    r"\btells more\b": "for details",
    r"\bwithout a word\b": "without an error message",
    r"\bheld against\b": "validated, compared, cross-checked",
    r"\bout of step\b": "out of date",
    r"\bstands? right\b": "right-aligned",
    r"\b(?:somebody|anybody)\b": "the operator, another session",
    r"\bnobody (?:else )?(?:is|has|can|may|knows|reads|gives|sees|hears|asked|becomes)\b": "the actor",
    r"\btold apart\b|\btells? (?:two )?\w+ apart\b": "distinguished",
    r"\bmade anew\b|\bmakes? \w+ anew\b": "recreated",
    r"\bbears (?:a |an |files|the )": "tolerates, has",
    r"\bsealed\b": "encrypted",
}
PATTERN = re.compile("|".join(f"({pattern})" for pattern in UNCLEAR), re.IGNORECASE)


def unclear(text: str) -> list[tuple[int, str, str]]:
    """Line, words and remedy of each unclear expression in a text."""
    return [
        (
            text.count("\n", 0, match.start()) + 1,
            match[0],
            list(UNCLEAR.values())[match.lastindex - 1],
        )
        for match in PATTERN.finditer(text)
        if match.lastindex
    ]


def test_no_unclear_words() -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("not in a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True, text=True
    ).stdout
    excepted = {Path(__file__), PROJECT / "LICENSE", PROJECT / "CHANGELOG.md"}
    found = [
        f"{name}:{line}: {words!r}; write {remedy}"
        for name in listed.split("\0")
        if name and (path := PROJECT / name) not in excepted and path.is_file()
        for line, words, remedy in unclear(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found, "\n".join(found)


def test_docstrings_say_what_a_thing_gives() -> None:
    """They begin with a noun phrase or an imperative (CONTRIBUTING.md, Style)."""
    found = [
        f"{path.relative_to(PROJECT)}: {text.splitlines()[0]}"
        for folder in ("engine", "plugins", "benchmarks", "tests")
        for path in sorted((PROJECT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if (text := ast.get_docstring(node) or "").startswith("What ")
    ]
    assert not found, "\n".join(found)


def test_words_are_found_alone_and_in_any_case() -> None:
    assert unclear("fine\nMended, recommended") == [(2, "Mended", "repair, fix")]
