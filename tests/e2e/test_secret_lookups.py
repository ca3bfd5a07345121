"""Secret parameters by reference: vault, environment, AWS; masked everywhere, or an error before."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.parsing.vault import VaultLib, VaultSecret
from command_line import PROJECT

RUNBOOK = Path(sys.executable).parent / "runbook"
CANARIES = {
    "db_pwd": "canary-of-a-secret-in-json",
    "secret_key": "canary of an ssm 'parameter' <&>",
    "github_token": "canary-of-the-environment",
    "slack_url": "https://canary-of-a-plain-secret/",
    "aws_secret": "canary-of-a-vault",
    "aws_access": "canary-of-the-command-line",
}


@dataclass(frozen=True)
class Repository:
    """An operations repository whose secrets are elsewhere."""

    folder: Path
    endpoint: str

    def lookup(self, name: str, term: str, **options: Any) -> str:
        """A template of a lookup in AWS, as an operator writes it."""
        given = {"region": "us-east-1", "endpoint_url": self.endpoint, **options}
        arguments = "".join(f", {key}={value!r}" for key, value in given.items())
        return f"{{{{ lookup('labeller.runbook.{name}', '{term}'{arguments}) }}}}"

    def write(self, **secrets: str) -> None:
        """An inventory with these secrets, and a playbook that shows them."""
        inventory = self.folder / "inventories/here"
        (inventory / "group_vars").mkdir(parents=True, exist_ok=True)
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"here": host}}}))
        variables = "".join(
            f"{name}: !vault |\n  " + "\n  ".join(text.splitlines()) + "\n"
            if text.startswith("$ANSIBLE_VAULT")
            else f"{name}: {json.dumps(text)}\n"
            for name, text in secrets.items()
        )
        (inventory / "group_vars/all.yml").write_text(variables)
        shown = " ".join(f"{{{{ {name} }}}}" for name in CANARIES)
        tasks = [
            {"name": "Say", "ansible.builtin.debug": {"msg": shown}},
            {"name": "Write", "ansible.builtin.copy": {
                "content": shown, "dest": str(self.folder / "file"), "mode": "0600"}},
            {"name": "Fail", "ansible.builtin.fail": {"msg": shown}, "when": "not ansible_check_mode"},
        ]  # fmt: skip
        play = {"name": "Test", "hosts": "all", "gather_facts": False, "tasks": tasks}
        (self.folder / "p.yml").write_text(yaml.safe_dump([play], sort_keys=False))

    def apply(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``runbook apply p.yml``."""
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("ANSIBLE_", "AWS_", "RUNBOOK_"))
        }
        given = {
            **kept, "RUNBOOK_HOME": str(self.folder / "home"), "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b", **environment,
        }  # fmt: skip
        return subprocess.run(
            [RUNBOOK, "apply", "p.yml", "-i", "here", *arguments], env=given, cwd=self.folder,
            text=True, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path, aws_endpoint: str) -> Repository:
    return Repository(tmp_path, aws_endpoint)


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test",
        aws_secret_access_key="test",
    )  # fmt: skip


@pytest.mark.campaign
def test_no_secret_by_reference_is_shown_or_kept(repository: Repository) -> None:
    manager, store = (client(name, repository.endpoint) for name in ("secretsmanager", "ssm"))
    manager.create_secret(Name="labeller3", SecretString=json.dumps({"db_pwd": CANARIES["db_pwd"]}))
    manager.create_secret(Name="labeller3/slack", SecretString=CANARIES["slack_url"])
    store.put_parameter(
        Name="/labeller3/secret_key", Value=CANARIES["secret_key"], Type="SecureString"
    )
    password = repository.folder / "password"
    password.write_text("open sesame\n")
    vault = VaultLib([(DEFAULT_VAULT_ID_MATCH, VaultSecret(b"open sesame"))])
    # The others are the example of docs/operations.md.
    repository.write(aws_secret=vault.encrypt(CANARIES["aws_secret"]).decode())
    (example,) = re.findall(
        r"^```yaml\n(# inventories/labeller3/group_vars/all/secrets.yml\n.*?)^```$",
        (PROJECT / "docs/operations.md").read_text(), re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    with (repository.folder / "inventories/here/group_vars/all.yml").open("a") as variables:
        variables.write(example)
    options = ("--yes", "--vault-password-file", str(password), "--report", "report.md",
               "-e", f"aws_access={CANARIES['aws_access']}")  # fmt: skip
    environment = {
        "GITHUB_TOKEN": CANARIES["github_token"],
        "AWS_ENDPOINT_URL": repository.endpoint,
    }
    for more in (("-vvv", "--diff"), ("--json",)):
        done = repository.apply(*options, *more, **environment)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "a secret on the command line is in the shell's history" in done.stdout
        printed = done.stdout + done.stderr + (repository.folder / "report.md").read_text()
        assert "********" in printed
        kept = [path for path in (repository.folder / "home").rglob("*") if path.is_file()]
        for text in [printed, *(path.read_text() for path in kept)]:
            assert [name for name, canary in CANARIES.items() if canary in text] == []
        assert (repository.folder / "file").read_text() == " ".join(CANARIES.values())
        (repository.folder / "file").unlink()


@pytest.mark.campaign
def test_a_secret_that_cannot_be_read_ends_the_run_before_a_step(repository: Repository) -> None:
    client("secretsmanager", repository.endpoint).create_secret(
        Name=f"{repository.folder.name}/json", SecretString="{}"
    )
    repository.write(
        db_pwd=repository.lookup("secretsmanager_secret", "nix"),
        aws_secret=repository.lookup(
            "secretsmanager_secret", f"{repository.folder.name}/json.nix", nested=True
        ),
        aws_access=repository.lookup("ssm_parameter", "/nix"),
        slack_url=repository.lookup("ssm_parameter", "/nix", region="nowhere 1"),
        github_token="{{ lookup('ansible.builtin.env', 'TOKEN', default=undef()) }}",
        secret_key="{{ lookup('ansible.builtin.env', 'TOKEN') }}",
    )
    # A setting that breaks every client of boto3 but those that are given an address.
    done = repository.apply("--yes", AWS_ENDPOINT_URL="x")
    assert done.returncode == 3, done.stdout + done.stderr
    assert not (repository.folder / "file").exists()
    assert "Say" not in done.stdout
    for line, said in enumerate((
        "db_pwd: secret of AWS Secrets Manager nix: there is none of this name in region us-east-1",
        "json.nix: it is no JSON object with this key",
        "aws_access: SSM parameter /nix: there is none of this name in region us-east-1",
        "slack_url: SSM parameter /nix: it cannot be asked for in region nowhere 1",
        "github_token: The environment variable 'TOKEN' is not set.",
        "secret_key: it is empty",
    ), 1):  # fmt: skip
        (found,) = [each for each in done.stdout.splitlines() if said in each]
        assert f"inventories/here/group_vars/all.yml:{line}:1: " in found
    # What the playbook does not use may be missing.
    play = [{"name": "Test", "hosts": "all", "gather_facts": False, "tasks": [
        {"name": "Say", "ansible.builtin.debug": {"msg": "nothing"}}]}]  # fmt: skip
    (repository.folder / "p.yml").write_text(yaml.safe_dump(play))
    assert repository.apply("--yes").returncode == 0
