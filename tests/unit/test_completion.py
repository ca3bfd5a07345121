"""A shell completes commands, playbooks, targets and parameters."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from runbook.cli import cli

BIN = Path(sys.executable).parent


def completed(*words: str) -> list[str]:
    *before, begun = words
    found = ShellComplete(cli, {}, "runbook", "_RUNBOOK_COMPLETE").get_completions(before, begun)
    return [item.value for item in found]


def test_commands_and_options() -> None:
    assert completed("ap") == ["apply"]
    assert "--check" in completed("apply", "--c")
    assert completed("status", "--wa") == ["--watch"]


def test_playbooks_and_targets() -> None:
    assert completed("apply", "reg") == ["regular.yml"]
    assert completed("show", "rese") == ["reset.yml"]
    assert "labeller3" in completed("apply", "regular.yml", "-i", "")
    assert completed("backups", "list", "-i", "sand") == ["sandbox"]


def test_parameters_but_no_secrets() -> None:
    assert "run_id=" in completed("apply", "regular.yml", "-i", "sandbox", "-e", "run")
    assert completed("apply", "regular.yml", "-e", "db_p") == ["db_port="]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str) -> None:
    script = subprocess.run(
        [BIN / "runbook"], env={"_RUNBOOK_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "_RUNBOOK_COMPLETE" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, check=True, text=True)


def test_bash_completes_with_it() -> None:
    asked = (
        'eval "$(_RUNBOOK_COMPLETE=bash_source runbook)"; COMP_WORDS=(runbook apply regu); '
        'COMP_CWORD=2; _runbook_completion runbook; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", asked], env={"PATH": f"{BIN}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["regular.yml"], done.stderr
