"""Where the state is kept, and what is said when it cannot be."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from runbook.errors import RunbookError
from runbook.home import expanded, home, operator, own_folder

NOBODY = "~no-such-user/state"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RUNBOOK_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "/home/me/.local/state/runbook"),
        ({"XDG_STATE_HOME": "/state"}, "/state/runbook"),
        ({"XDG_STATE_HOME": ""}, "/home/me/.local/state/runbook"),
        ({"XDG_STATE_HOME": "/state", "RUNBOOK_HOME": "~/here"}, "/home/me/here"),
        ({"RUNBOOK_HOME": "here"}, f"{Path.cwd()}/here"),
    ],
)
def test_places(environment: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert str(home()) == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RUNBOOK_OPERATOR": "olli@laptop", "USER": "root"}, "olli@laptop"),
        ({"USER": "anna", "LOGNAME": "root"}, f"anna@{os.uname().nodename}"),
        ({"LOGNAME": "mapper"}, f"mapper@{os.uname().nodename}"),
        ({}, f"{pwd.getpwuid(os.getuid()).pw_name}@{os.uname().nodename}"),
    ],
)
def test_operators(
    environment: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("RUNBOOK_OPERATOR", "USER", "LOGNAME"):
        environment.delenv(name, raising=False)
    for name, value in variables.items():
        environment.setenv(name, value)
    assert operator() == expected


def test_the_operator_of_a_container_whose_user_has_no_name(
    environment: pytest.MonkeyPatch,
) -> None:
    for name in ("RUNBOOK_OPERATOR", "USER", "LOGNAME"):
        environment.delenv(name, raising=False)
    unnamed = max(entry.pw_uid for entry in pwd.getpwall()) + 1
    environment.setattr(os, "getuid", lambda: unnamed)
    assert operator() == f"{unnamed}@{os.uname().nodename}"


def test_an_unknown_user(environment: pytest.MonkeyPatch) -> None:
    assert str(expanded(NOBODY)) == NOBODY
    environment.setenv("RUNBOOK_HOME", NOBODY)
    with pytest.raises(RunbookError, match=f"there is no folder {NOBODY}; set RUNBOOK_HOME"):
        home()


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "state" / "runs")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert own_folder(folder) == folder


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(RunbookError, match=r"state/runs \(Not a directory\); set RUNBOOK_HOME"):
        own_folder(tmp_path / "state" / "runs")


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may write everywhere
    with pytest.raises(RunbookError, match=r"cannot write to .* \(Permission denied\)"):
        own_folder(tmp_path)
