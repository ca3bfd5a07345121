"""The workflow of an operations repository, its steps run in order as a runner does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import github_server
import pytest
import yaml
from command_line import PROJECT, RUNBOOK, Sandbox


def shell(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.campaign
def test_a_pull_request_gets_its_plan(sandbox: Sandbox, tmp_path: Path) -> None:
    environment = {
        **sandbox.environment, "PATH": f"{RUNBOOK.parent}:{sandbox.environment['PATH']}",
        "RUNNER_TEMP": str(tmp_path), "GITHUB_REPOSITORY": "o/n", "GITHUB_REF": "refs/pull/7/merge",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }  # fmt: skip
    (tmp_path / "password").write_text("of-the-vault")
    folder = tmp_path / "ops"
    shell(
        "runbook init ops --target labeller7 -e security_group_id=sg-0a8bbc91697d6a76b"
        " --vault-password-file password",
        tmp_path, environment,
    )  # fmt: skip
    # The sandbox stands for the instance.
    shutil.rmtree(folder / "inventories/labeller7")
    shutil.copytree(PROJECT / "inventories/sandbox", folder / "inventories/labeller7")
    git = "git -c user.name=a -c user.email=a@example.org"
    shell(
        f"git init -q -b main . && git add . && {git} commit -qm Begin"
        " && git update-ref refs/remotes/origin/main HEAD"
        " && sed -i 's|^num_possibilities: .*|num_possibilities: 3|' inventories/labeller7/group_vars/all.yml"
        f" && {git} commit -qam 'Save three maps'",
        folder, environment,
    )  # fmt: skip
    workflow = yaml.safe_load((folder / ".github/workflows/plan.yml").read_text())
    steps = [step for step in workflow["jobs"]["plan"]["steps"] if "run" in step]
    assert [step["name"] for step in steps] == ["Install", "Validate", "Plan", "Comment"]
    with github_server.running() as github:
        values = {
            "github.base_ref": "main", "secrets.VAULT_PASSWORD": "of-the-vault",
            "github.token": github_server.TOKEN,
        }  # fmt: skip
        for step in steps[1:]:  # this environment has it installed
            given = {
                name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values[found[1]], text)
                for name, text in step.get("env", {}).items()
            }
            shell(step["run"], folder, {**environment, "GITHUB_API_URL": github.url, **given})
        (comment,) = github.bodies()
    assert comment.startswith("<!-- runbook: labeller7.yml on labeller7 -->")
    assert "scene_catalog: scenes\\_data" in comment.replace("scene\\_catalog", "scene_catalog")
    assert (folder / "plans/labeller7.html").is_file()
    assert not (tmp_path / "vault-password").exists()
