"""Each file of tests/cases/validate is input and the exact problems that it must give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.load import inventory, targets
from runbook.load.diagnostics import Problem
from runbook.load.extra_vars import parse_extra_vars
from runbook.load.run_input import examined
from runbook.load.source import Selection, Source

CASES = sorted((Path(__file__).parent.parent / "cases" / "validate").glob("*.yml"))


def problems_of(case: dict[str, Any], folder: Path, asks: bool = False) -> list[Problem]:
    for name, text in case["files"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    playbook = targets.playbook(case["playbook"]) if "playbook" in case else None
    folder = playbook.parent if playbook else None
    source = Source(
        playbook,
        inventory.read(targets.target(case["target"]), folder) if "target" in case else None,
        parse_extra_vars(case.get("extra", ())),
    )
    tags = (case.get("tags", ()), case.get("skip_tags", ()))
    selection = Selection(*tags, case.get("limit", ""), asks=asks)
    return list(examined(source, selection).problems)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = path.read_text()
    case = yaml.safe_load(text)
    found = "".join(f"{problem}\n" for problem in problems_of(case, tmp_path))
    if os.environ.get("RUNBOOK_WRITE_CASES"):  # after reading each line of the change
        head = text[: text.index("\nexpected:") + 1]
        body = "".join(f"  {line}\n" for line in found.splitlines())
        path.write_text(head + ("expected: |\n" + body if body else 'expected: ""\n'))
    assert found == case["expected"]


def test_a_query_goes_on_with_secrets_that_would_spoil_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = yaml.safe_load(CASES[0].with_stem("spoiling_secrets").read_text())
    assert problems_of(case, tmp_path, asks=True) == []
