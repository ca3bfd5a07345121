"""The callback inside the ansible process: secrets that it cannot hand over, and answers."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.template import trust_as_template
from ansible.vars.manager import VariableManager

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


def test_a_secret_that_masks_a_public_value_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only here are the values of vaults and templates known."""
    places = {
        "db_pwd": {"at": "vault.yml:3:1", "required": True},
        "bucket": {"at": "parameters.yml:7:1", "required": False},
        "api_key": {"at": "vault.yml:4:1", "required": False},
    }
    for name, value in {
        "CHANNEL": str(tmp_path / "channel"), "PLACES": json.dumps(places),
        "SECRET_NAMES": '["api_key", "db_pwd"]', "PUBLIC_NAMES": '["bucket", "run_id"]',
        "RUN": "r",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"RUNBOOK_{name}", value)
    loader = DataLoader()
    inventory = InventoryManager(loader, "h,")
    manager = VariableManager(loader, inventory)
    variables = {
        "run_id": 1,
        "bucket": trust_as_template("{{ 'labeller' }}-0"),
        "db_pwd": trust_as_template("{{ 'label' ~ 'ler' }}"),
    }

    def handed_over(**more: str) -> list[dict[str, Any]]:
        play = {"hosts": "all", "name": "p", "vars": {**variables, **more}, "tasks": []}
        loaded = Play.load(play, variable_manager=manager, loader=loader)
        (tmp_path / "channel").unlink(missing_ok=True)
        with suppress(SystemExit):
            runbook_quiet.CallbackModule().v2_playbook_on_play_start(loaded)
        return [json.loads(line) for line in (tmp_path / "channel").read_text().splitlines()]

    (said,) = handed_over(api_key="4711")
    short, spoilt = sorted(said["invalid"])[::-1]
    assert short.startswith("vault.yml:4:1: api_key: a secret this short also occurs by chance")
    assert spoilt.startswith(
        "vault.yml:3:1: db_pwd: the value of this secret is part of the value of bucket "
        "(parameters.yml:7:1), and is masked there too"
    )
    assert "labeller" not in spoilt
    (heard,) = handed_over(db_pwd="of-no-other-text", api_key="")
    assert "of-no-other-text" in heard["secrets"]
    monkeypatch.delenv("RUNBOOK_RUN")
    (heard,) = handed_over(api_key="4711")
    assert "4711" in heard["secrets"], "a query goes on"
