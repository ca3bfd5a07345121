"""Runs that leave the learner to the consensus daemon and Terraform (learner_loop=false)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import terraform_files
from command_line import Sandbox, events

WITHOUT_LOOP = ("-i", "sandbox", "-e", "learner_loop=false", "--json")


def refused(sandbox: Sandbox, playbook: str) -> list[str]:
    """The problems that a check and an apply name alike, having changed nothing."""
    before = sandbox.snapshot()
    said = []
    for how in ("--check", "--yes"):
        done = sandbox.run("apply", playbook, *WITHOUT_LOOP, how, exit_code=7)
        said.append(events(done)[-1]["message"])
        assert sandbox.snapshot() == before
    assert said[0] == said[1]
    return [line[2:] for line in said[0].splitlines() if line.startswith("- ")]


def correct(problems: list[str]) -> None:
    """Write each value that a refusal asks for where it says, and nothing else."""
    for problem in problems:
        if found := re.fullmatch(
            r'(.*variables\.tf): the default of "(\w+)" is .*, not (.*)', problem
        ):
            file, name, value = found.groups()
            pattern = rf'(variable "{name}" \{{.*?default = )"[^"]*"'
        elif found := re.fullmatch(r'(.*emr\.tf), step "(.*)": (\S+) is (.*), not (.*)', problem):
            file, step, name, was, value = found.groups()
            place = {"run": rf'"{was}"(?=, "[^"]*"\])', "AOI": rf'"{was}"(?=\])'}.get(name)
            known = rf'"{re.escape(name)}={was}"' if name.startswith("spark.") else f'"{was}"'
            value = f"{name}={value}" if name.startswith("spark.") else value
            pattern = rf'(name="{re.escape(step)}".*?){place or known}'
        else:
            found = re.fullmatch(r"(.*bashrc_mapper\.sh): no (TF_VAR_\w+), .*", problem)
            assert found, problem
            with Path(found[1]).open("a") as script:
                script.write(f"export {found[2]}=value\n")
            continue
        text, count = re.subn(
            pattern, rf'\g<1>"{value}"', Path(file).read_text(), count=1, flags=re.DOTALL
        )
        assert count == 1, problem
        Path(file).write_text(text)


@pytest.mark.campaign
def test_regular_production_that_terraform_serves(sandbox: Sandbox) -> None:
    home = Path(sandbox.status()["labeller_home"])
    folder = home / "terraform"
    missing = [str(folder / name) for name in ("terraform", "emr.tf", "variables.tf")]
    assert refused(sandbox, "regular.yml") == [f"there is no file {file}" for file in missing]

    (folder / "terraform").write_text("#!/bin/sh\nexit 9\n")
    (folder / "terraform").chmod(0o755)
    terraform_files.write(folder, bucket="activemapper", subnet="subnet-1", group="sg-1")
    problems = refused(sandbox, "regular.yml")
    said = "\n".join(problems)
    for name in ("AOI is 3, not 1", "config_ghana_3.yaml", "spark.executor.instances is 389, not"):
        assert f'{folder}/emr.tf, step "run_geopyspark.py": ' in said
        assert name in said
    for name in ("worker_count", "subnet", "security_group"):
        assert f'{folder}/variables.tf: the default of "{name}" is ' in said
    correct(problems)

    sandbox.run("apply", "regular.yml", *WITHOUT_LOOP, "--check")
    sandbox.run("apply", "regular.yml", *WITHOUT_LOOP, "--yes")
    assert "initial: 3\n" in (home / "common" / "config.yaml").read_text()
    for playbook in ("regular.yml", "regular.yml", "start.yml"):
        done = sandbox.run("apply", playbook, *WITHOUT_LOOP, "--yes")
        assert not [event for event in events(done) if event.get("status") == "changed"]

    (folder / "more.tf").write_text('variable "worker_count" {\n  default = 1\n}\n')
    for playbook in ("regular.yml", "start.yml"):
        (problem,) = refused(sandbox, playbook)
        assert problem.startswith(
            f'{folder}/variables.tf: variable "worker_count" is in {folder}/more.tf'
        )
