"""The lookup sandbox_state: what the file says now, and an error that says what to do."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from ansible.errors import AnsibleError
from ansible_collections.labeller.runbook.plugins.lookup.sandbox_state import LookupModule

from runbook.errors import RefusedError
from runbook.sandbox import lifecycle
from runbook.sandbox.state import Home

if TYPE_CHECKING:
    from pathlib import Path


def test_the_state_is_read_again_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    with pytest.raises(AnsibleError, match="is the sandbox up"):
        LookupModule().run([])
    state = tmp_path / "sandbox" / "state.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"bucket": "one"}))
    (first,) = LookupModule().run([])
    assert first == {"bucket": "one"}
    assert LookupModule().run([])[0] is first
    state.write_text(json.dumps({"bucket": "two"}))
    os.utime(state, ns=(1, 1))
    assert LookupModule().run([]) == [{"bucket": "two"}]


def test_without_runbook_home_it_lies_in_the_xdg_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNBOOK_HOME", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = tmp_path / "runbook" / "sandbox" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    assert LookupModule().run([]) == [{}]


def test_a_folder_that_is_no_sandbox_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RUNBOOK_HOME may be a home that has a folder of this name."""
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    mine = tmp_path / "sandbox" / "labeller" / "notes"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for remove in (lifecycle.down, lifecycle.up, lifecycle.reset):
        with pytest.raises(RefusedError, match=r"is no sandbox: it holds labeller.*RUNBOOK_HOME"):
            remove()
    assert mine.read_text() == "mine"
    lifecycle.Options().save(Home.current())  # as one that was killed half-made leaves it
    assert lifecycle.down()
    assert not mine.exists()
