"""Every command in README and docs is run, by what a reader would copy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pexpect
import pytest
from command_line import PROJECT, RUNBOOK, Sandbox
from fleet import Fleet

#: Whose blocks are scripts with parameters, run whole by tests/integration/test_backup_docs.py.
SCRIPTS = {"backups.md"}
DOCUMENTS = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    *sorted(path for path in (PROJECT / "docs").glob("*.md") if path.name not in SCRIPTS),
]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What CI runs itself; here it would run within itself.
ELSEWHERE = re.compile(r"make \w+")


#: The password of the vault in the examples.
VAULT = "the-vaults-password"


def commands(document: Path) -> list[str]:
    """The commands of a document's shell blocks, without comments; continued lines are joined."""
    text = "\n".join(BLOCK.findall(document.read_text())).replace("\\\n", " ")
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_names_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(commands(PROJECT / "README.md"))


@pytest.mark.campaign
@pytest.mark.parametrize("document", [d for d in DOCUMENTS if commands(d)], ids=lambda d: d.name)
def test_commands_work(sandbox: Sandbox, document: Path, tmp_path: Path) -> None:
    (tmp_path / ".vault").write_text(VAULT)
    vault = tmp_path / "inventories/sandbox/group_vars/all/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_text("db_pwd: value\n")
    for command in commands(document):
        if ELSEWHERE.fullmatch(command):
            continue
        if "-i ghana" in command and not (sandbox.home / "ghana").exists():
            # Not area 1, whose objects in the bucket are the sandbox's own.
            Fleet(sandbox, ("labeller1", "labeller2", "labeller3"), first=2).renew()
        # These are examples that cannot be reached; the sandbox and hosts in it stand for them.
        command = command.replace("-i ghana", f"-i {sandbox.home}/ghana")
        here = command.replace("labeller3", "sandbox").replace(".venv/bin/", "")
        # Its libraries are those of this environment.
        here = here.replace("pip install .", f"pip install --quiet --no-deps {PROJECT}")
        # A sandbox has its environment; the reader makes one in the home.
        own = f" -e ansible_python_interpreter={tmp_path}/runbook/bin/python"
        here += own if "bootstrap.yml" in here else ""
        if "runbook resume" in here:
            here = here.replace("20260114T093012", cut_off(sandbox))
        # What encrypts files works on the reader's own.
        folder = tmp_path if here.startswith("ansible-vault") else PROJECT
        output, exit_code = typed(here, sandbox, home=tmp_path, folder=folder)
        assert exit_code == 0, f"{command}\n{output}"


def cut_off(sandbox: Sandbox) -> str:
    """Have the newest run on the sandbox look as if it was killed at its very end; its id."""
    kept = (sandbox.home / "runs").glob("*/input.json")
    given = max(file for file in kept if json.loads(file.read_text())["target"] == "sandbox")
    given.with_name("result.json").unlink(missing_ok=True)
    return given.parent.name


def test_the_example_playbook_is_the_one_that_is_run() -> None:
    (shown,) = re.findall(
        r"^```yaml\n(.*?)^```$",
        (PROJECT / "docs/own-playbooks.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert shown == (PROJECT / "docs/examples/nightly.yml").read_text()


#: What a command asks, and what a reader types then.
ANSWERS = {
    r"\(ghana\) to go on[^:]*: ?": "ghana\n",
    r"\) to go on: ?": "sandbox\n",
    r"\(y/N\): ?": "y\n",
    r"Vault password( \(\w+\))?: ?": f"{VAULT}\n",
    r"ctrl-d to end input.*\n": "value\x04\x04",
}


def typed(
    command: str, sandbox: Sandbox, *, home: Path, folder: Path = PROJECT
) -> tuple[str, int | None]:
    """Run a command at a terminal, answering what it asks; gives what it showed, and its exit."""
    environment = {
        **sandbox.environment,
        "HOME": str(home),
        "PATH": f"{RUNBOOK.parent}:{sandbox.environment['PATH']}",
        "PAGER": "cat",
    }
    child = pexpect.spawn(
        "bash", ["-euo", "pipefail", "-c", command], env=environment, cwd=str(folder),
        encoding="utf-8", timeout=120, dimensions=(50, 200),
    )  # fmt: skip
    shown = ""
    while (asked := child.expect([*ANSWERS, pexpect.EOF])) < len(ANSWERS):
        shown += child.before + child.after
        child.send(list(ANSWERS.values())[asked])
    shown += child.before
    child.close()
    return shown, child.exitstatus
