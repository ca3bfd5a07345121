"""Questions to a target: what is said when there is no answer."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from runbook import cli
from runbook.errors import ExitCode
from runbook.execute import runner


def test_an_interrupted_question_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = SimpleNamespace(run=lambda *_, **__: runner.Outcome(ExitCode.INTERRUPTED, {}, ()))
    monkeypatch.setattr(runner, "started", lambda *_: nullcontext(ended))
    arguments = [
        "backups",
        "-i",
        "host,",
        "-e",
        "aws_access=aaaaaaaa aws_secret=bbbbbbbb db_pwd=cccccccc",
        "list",
    ]
    assert cli.run(lambda: cli.cli.main(arguments, standalone_mode=False)) == 130
    assert capsys.readouterr().err.strip() == "Interrupted."
