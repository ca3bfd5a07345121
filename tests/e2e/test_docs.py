"""Every command in README and docs is run, by what a reader would copy."""

from __future__ import annotations

import re
from pathlib import Path

import pexpect
import pytest
from command_line import PROJECT, RUNBOOK, Sandbox

#: Whose blocks are scripts with parameters, run whole by tests/integration/test_backup_docs.py.
SCRIPTS = {"backups.md"}
DOCUMENTS = [
    PROJECT / "README.md",
    *sorted(path for path in (PROJECT / "docs").glob("*.md") if path.name not in SCRIPTS),
]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: What CI runs itself; here it would run within itself.
ELSEWHERE = re.compile(r"make \w+")


def commands(document: Path) -> list[str]:
    """The commands of a document's shell blocks, without comments; continued lines are joined."""
    text = "\n".join(BLOCK.findall(document.read_text())).replace("\\\n", " ")
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_names_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(commands(PROJECT / "README.md"))


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if commands(d)], ids=lambda d: d.name)
def test_commands_work(sandbox: Sandbox, document: Path) -> None:
    for command in commands(document):
        if ELSEWHERE.fullmatch(command):
            continue
        # labeller3 is an example that nobody can reach; the sandbox stands for it.
        here = command.replace("labeller3", "sandbox").replace(".venv/bin/runbook", "runbook")
        output, exit_code = typed(here, sandbox)
        assert exit_code == 0, f"{command}\n{output}"


def test_the_example_playbook_is_the_one_that_is_run() -> None:
    (shown,) = re.findall(
        r"^```yaml\n(.*?)^```$",
        (PROJECT / "docs/own-playbooks.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert shown == (PROJECT / "docs/examples/nightly.yml").read_text()


def typed(command: str, sandbox: Sandbox) -> tuple[str, int | None]:
    """Run a command at a terminal, confirming what it asks; gives what it showed, and its exit."""
    environment = {**sandbox.environment, "PATH": f"{RUNBOOK.parent}:{sandbox.environment['PATH']}"}
    child = pexpect.spawn(
        "bash", ["-euo", "pipefail", "-c", command], env=environment, cwd=str(PROJECT),
        encoding="utf-8", timeout=120, dimensions=(50, 200),
    )  # fmt: skip
    shown = ""
    while child.expect([r"\) to go on: ?", r"\(y/N\): ?", pexpect.EOF]) < 2:
        shown += child.before + child.after
        child.sendline("y" if "(y/N)" in child.after else "sandbox")
    shown += child.before
    child.close()
    return shown, child.exitstatus
