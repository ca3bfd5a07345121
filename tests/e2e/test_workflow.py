"""The workflow of an operations repository, its steps run in order as a runner does."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import github_server
import pytest
import yaml
from command_line import PROJECT, RUNBOOK, Sandbox


def shell(command: str, folder: Path, environment: dict[str, str], exit_code: int = 0) -> str:
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + (done.stderr if exit_code else "")


#: A runner has the program of GitHub; here it copies the artifact.
GH = """#!/bin/sh
[ "$1 $2 $3 $5" = "run download --name --dir" ] && cp -r "$ARTIFACTS/$4" "$6"
"""


@dataclass(frozen=True)
class Runner:
    """An operations repository whose instance is the sandbox, and what its workflows are given."""

    folder: Path
    environment: dict[str, str]
    values: dict[str, str]

    def run(self, workflow: str, expected: list[str], exit_code: int = 0) -> str:
        """Run a workflow's first steps in order, but for Install; gives the output of the last."""
        content = yaml.safe_load((self.folder / f".github/workflows/{workflow}.yml").read_text())
        steps = [step for step in content["jobs"][workflow]["steps"] if "run" in step]
        assert [step["name"] for step in steps][: len(expected) + 1] == ["Install", *expected]
        printed = ""
        # This environment has it installed.
        for number, step in enumerate(steps[1 : len(expected) + 1], 1):
            given = {name: self._filled(text) for name, text in step.get("env", {}).items()}
            last = number == len(expected)
            printed = shell(
                step["run"], self.folder, {**self.environment, **given}, exit_code if last else 0
            )
        return printed

    def artifact(self, workflow: str) -> tuple[str, Path]:
        """The name of what a workflow keeps, and its folder."""
        content = yaml.safe_load((self.folder / f".github/workflows/{workflow}.yml").read_text())
        (kept,) = (
            step["with"]
            for step in content["jobs"][workflow]["steps"]
            if step.get("uses", "").startswith("actions/upload-artifact@")
        )
        return self._filled(kept["name"]), self.folder / kept["path"]

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: self.values[found[1]], text)


@pytest.mark.campaign
def test_a_pull_request_gets_its_plan_and_the_merge_applies_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/gh").chmod(0o755)
    environment = {
        **sandbox.environment,
        "PATH": f"{tmp_path}/bin:{RUNBOOK.parent}:{sandbox.environment['PATH']}",
        "RUNNER_TEMP": str(tmp_path), "GITHUB_REPOSITORY": "o/n", "GITHUB_REF": "refs/pull/7/merge",
        "GIT_CONFIG_GLOBAL": "/dev/null", "ARTIFACTS": str(tmp_path / "artifacts"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
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
    head = shell("git rev-parse HEAD", folder, environment).strip()
    with github_server.running() as github:
        runner = Runner(folder, {**environment, "GITHUB_API_URL": github.url}, {
            "github.base_ref": "main", "secrets.VAULT_PASSWORD": "of-the-vault",
            "github.token": github_server.TOKEN, "github.event.pull_request.head.sha": head,
        })  # fmt: skip
        runner.run("plan", ["Validate", "Plan", "Comment"])
        (comment,) = github.bodies()
        name, plans = runner.artifact("plan")
        (tmp_path / "artifacts").mkdir()
        plans.rename(tmp_path / "artifacts" / name)
        # A comment that shows another plan, then the right one; the second time it was applied.
        github.comments[0]["body"] = "<!-- runbook: labeller7.yml on labeller7 -->\n"
        refused = runner.run("apply", ["Download", "Compare"], exit_code=5)
        github.comments[0]["body"] = comment
        shutil.rmtree(folder / "plans")
        runner.run("apply", ["Download", "Compare", "Apply"])
        shutil.rmtree(folder / "plans")
        again = runner.run("apply", ["Download", "Compare", "Apply"], exit_code=5)
    assert comment.startswith("<!-- runbook: labeller7.yml on labeller7 -->")
    assert "scene_catalog: scenes\\_data" in comment.replace("scene\\_catalog", "scene_catalog")
    assert "plans/labeller7.json: not the plan that a comment of pull request 7 shows" in refused
    assert "applied" in again
    assert "labeller7.yml on labeller7" in (tmp_path / "summary.md").read_text()
    assert (runner.artifact("apply")[1] / "labeller7.html").is_file()
    assert not (tmp_path / "vault-password").exists()
    assert "Nothing to change" in shell(
        "runbook apply labeller7.yml -i labeller7 --check", folder, environment
    )
