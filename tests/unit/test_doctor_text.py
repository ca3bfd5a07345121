"""Findings of ``runbook doctor``, from the answers of a host."""

from __future__ import annotations

from typing import Any

import click
import pytest

from runbook.commands.doctor import findings, lines

BACKUP = {"backup_id": "b1", "created": "", "rows": 3, "intact": True, "problems": []}
WELL = {"check": "s3", "status": "ok", "found": "s3://b", "fix": ""}


def answer(**given: Any) -> dict[str, Any]:
    return {"findings": [WELL], "database": {}, "backup": {"backups": [BACKUP]}, **given}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"backup": ("ok", "b1, 3 rows: every object"), "data": ("ok", "as labeller's code")}),
        (
            {"backup": {"backups": [{**BACKUP, "problems": ["b1/kml_data: gone"]}]}},
            {"backup": ("warning", "b1, 3 rows: DAMAGED\nb1/kml_data: gone")},
        ),
        (
            {"backup": {"msg": "no backup below s3://b/p", "error_kind": "invalid_input"}},
            {"backup": ("warning", "no backup below s3://b/p")},
        ),
        (
            {"database": {"msg": "kml_data x is there 2 times", "error_kind": "refused"}},
            {"data": ("warning", "kml_data x is there 2 times")},
        ),
    ],
)
def test_data_and_backup_are_judged(
    given: dict[str, Any], expected: dict[str, tuple[str, str]]
) -> None:
    found = {each["check"]: each for each in findings(answer(**given))}
    for check, (status, said) in expected.items():
        assert found[check]["status"] == status
        assert found[check]["found"].startswith(said)


@pytest.mark.parametrize(("check", "left"), [("database", "data"), ("s3", "backup")])
def test_what_was_not_reached_is_not_judged(check: str, left: str) -> None:
    failed = {**WELL, "check": check, "status": "failed"}
    assert left not in {each["check"] for each in findings(answer(findings=[failed]))}


def test_each_line_fits_and_the_remedy_follows() -> None:
    found = [{**WELL, "status": "failed", "found": "word " * 40, "fix": "do this"}]
    told = list(lines("h", found, 60))
    assert all(len(line) < 80 for line in told)
    assert told[-2].strip() == "fix: do this"


def test_the_worst_is_last() -> None:
    """Of each status in the order in which it was looked at."""
    ended = {name: {**WELL, "status": status, "check": name}
             for name, status in {"a": "failed", "b": "ok", "c": "warning", "d": "failed"}.items()}  # fmt: skip
    told = list(lines("h", [*ended.values()], 80))
    names = [click.unstyle(line).split()[1] for line in told[1:-1]]
    assert names == ["b", "c", "a", "d"]
    assert (told[0], told[-1]) == ("h:", "h: 1 ok, 1 warning, 2 failed")
