"""The callback inside the ansible process: secrets that it cannot hand over, and answers."""

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


def test_an_answer_is_left_for_the_engine_or_the_run_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNBOOK_CHANNEL", str(tmp_path / "channel"))
    host = SimpleNamespace(get_name=lambda: "one")
    found = {"ansible_facts": {"runbook_answer": '{"runs": []}'}}
    callback = runbook_quiet.CallbackModule()
    callback.v2_runner_on_ok(SimpleNamespace(result=found, host=host))
    file = tmp_path / "answer-one.json"
    assert json.loads(file.read_text()) == {"runs": []}
    assert not (tmp_path / "channel").exists()
    file.unlink()
    file.mkdir()  # as little to be written as on a full disk
    callback.v2_runner_on_ok(SimpleNamespace(result=found, host=host))
    assert json.loads((tmp_path / "channel").read_text())["broken"] == "Is a directory"
