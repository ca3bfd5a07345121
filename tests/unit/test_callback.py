"""The callback inside the ansible process ends a run whose secrets it cannot hand over."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from runbook.execute.child.callback import runbook_quiet


def test_a_callback_that_fails_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ansible would only warn, and the engine would not know what to mask."""

    def variables() -> None:
        raise ValueError("the-secret")

    monkeypatch.setenv("RUNBOOK_CHANNEL", str(tmp_path / "channel"))
    monkeypatch.delenv("RUNBOOK_IN_PROCESS", raising=False)
    callback = runbook_quiet.CallbackModule()
    with pytest.raises(SystemExit):
        callback.v2_playbook_on_play_start(SimpleNamespace(get_variable_manager=variables))
    (problem,) = json.loads((tmp_path / "channel").read_text())["invalid"]
    assert problem == "the secret variables cannot be read (ValueError); nothing was done"
