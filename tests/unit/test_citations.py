"""Citations of docs/labeller.md name sections that exist; no other document of facts is cited."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FACTS = PROJECT / "docs/labeller.md"

#: "docs/labeller.md 2.3.5, 2.4.6 and 7", in comments also across lines.
NUMBER = r"\d+(?:\.\d+)*"
BREAK = r"[\s#*:-]+"
CITATION = re.compile(
    rf"labeller\.md\)?{BREAK}({NUMBER}(?:(?:,{BREAK}|{BREAK}(?:and|to){BREAK}){NUMBER})*)"
)
#: A numbered place in a document that the repository does not have.
ABSENT = re.compile(
    r"\breferences? \d|\bdesign(?:\.md)?,? (?:section )?\d|\bdesign\.md\b|labeller-statements\.md"
    r"|statements' reference|behavioural reference",
    re.IGNORECASE,
)


def tracked() -> list[Path]:
    """The text files of the checkout; those of the docs test itself and the licence excepted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    excepted = {Path(__file__), PROJECT / "LICENSE", PROJECT / "CHANGELOG.md"}
    return [
        path
        for name in listed.split("\0")
        if name and (path := PROJECT / name) not in excepted and path.is_file()
    ]


def sections(text: str) -> set[str]:
    """The numbers of a document's sections, and of the items of the numbered lists in them."""
    found: set[str] = set()
    section = ""
    for line in text.splitlines():
        if heading := re.match(r"#+ (\d+(?:\.\d+)*)\b", line):
            section = heading[1]
            found.add(section)
        elif section and (item := re.match(r"(\d+)\. ", line)):
            found.add(f"{section}.{item[1]}")
    return found


def cited(text: str) -> set[str]:
    """The section numbers that a text cites of docs/labeller.md."""
    return {number for match in CITATION.finditer(text) for number in re.findall(NUMBER, match[1])}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    if not (PROJECT / ".git").exists():
        pytest.skip("not in a git checkout")
    return {
        str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8", errors="replace")
        for path in tracked()
    }


def test_cited_sections_exist(texts: dict[str, str]) -> None:
    known = sections(FACTS.read_text())
    numbers = {name: cited(text) for name, text in texts.items()}
    unknown = {name: found - known for name, found in numbers.items() if found - known}
    assert not unknown, f"docs/labeller.md has no such section or item: {unknown}"


def test_each_section_is_cited(texts: dict[str, str]) -> None:
    used = {n for name, text in texts.items() if name != "docs/labeller.md" for n in cited(text)}
    used |= {number.rpartition(".")[0] for number in used}
    unused = {number for number in sections(FACTS.read_text()) if number.count(".") == 1} - used
    assert not unused, "docs/labeller.md has only facts that code or tests rely on"


def test_sections_of_playbooks_md_exist(texts: dict[str, str]) -> None:
    numbers = re.findall(r"\((2\.\d+)\)|(?:see|everything of) (2\.\d+)", texts["docs/playbooks.md"])
    assert {one or other for one, other in numbers} <= sections(FACTS.read_text())
    assert len(numbers) > 8


def test_no_absent_document_is_cited(texts: dict[str, str]) -> None:
    found = {
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in texts.items()
        for match in ABSENT.finditer(text)
    }
    assert not found, "cite docs/labeller.md, docs/architecture.md or docs/safety.md"


def test_citations_are_read_across_lines() -> None:
    assert cited("(docs/labeller.md 2.3.5, 2.4.6\n    # and 7)") == {"2.3.5", "2.4.6", "7"}
    assert cited("docs/labeller.md 2.2 to 2.6: x, 9") == {"2.2", "2.6"}
    assert sections("## 4. A\n### 4.4 B\n3. c\n") == {"4", "4.4", "4.4.3"}
