"""Twelve secrets, in every encoded form, are in no byte that a command writes but where promised."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import github_server
import pytest
import sequences
import yaml
from command_line import Sandbox
from killed import begun, kill, wait_for_end

#: Characters of a secret that say something of it, wherever they stand.
PART = 12
CANARIES = {
    "secret_key": 'canary\'of "quotes" \\ and $(id) <b>&',
    "github_token": "ghp_canary+token/of==",
    "api_key": "canary-that-is-long",
    "aws_access": "canary-that-is-long-and-overlaps",
    "aws_secret": "long-and-overlaps/with+another",
    "slack_url": "https://canary.invalid/hook?a=1&b=%3C2%3E",
}
LABELLER = {
    "instanceI": "canary-ü-ñ-漢字-letters",
    "instanceQ": '{"canary": "of json", "and": [1]}',
    "instanceF": "canary\ttab and \x07 bell",
    "instanceN": "%63anary%20of%20a%20url",
    "instanceE": "canary -- of sql; '' DROP",
}
#: Steps that say all secrets in what playbooks may turn them into; one fails, one changes a file.
PLAYBOOK = """
- name: Say
  hosts: all
  gather_facts: false
  roles: [labeller.runbook.parameters]
  vars:
    every: "{{ [secret_key, db_pwd, github_token, api_key, aws_access, aws_secret, slack_url]
      + labeller_secrets.values() | list }}"
    said: |
      {% for each in every %}
      {{ each }} {{ each | b64encode }} {{ each | urlencode }} {{ each | to_json }} {{ each | e }}
      {{ each | quote }} {{ [each] | to_yaml }} {{ {'a': each} | to_json | to_json }}
      {% endfor %}
  tasks:
    - name: Say all
      ansible.builtin.debug: {msg: "{{ said }}"}
    - name: Write all
      ansible.builtin.copy: {content: "{{ said }}", dest: "FOLDER/canaries.yml.txt", mode: "0600"}
    - name: Echo all
      ansible.builtin.command: {argv: [sh, -c, 'printf %s "$0" >&2; exit 1', "{{ said }}"]}
      ignore_errors: true
    - name: Fail
      ansible.builtin.fail: {msg: "{{ said }}"}
      when: not ansible_check_mode
"""


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda text: json.dumps(text)[1:-1],
    "json of all letters": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "json in json": lambda text: json.dumps(json.dumps(text))[3:-3],
    "repr": lambda text: repr(text)[1:-1],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "url": lambda text: quote(text, safe=""),
    "path of a url": quote,
    "query of a url": quote_plus,
    "html": html.escape,
    "html without quotes": lambda text: html.escape(text, quote=False),
    "html of html": lambda text: html.escape(html.escape(text)),
    "sql": lambda text: text.replace("'", "''"),
    "shell": lambda text: shlex.quote(text).strip("'"),
    "yaml": lambda text: yaml.safe_dump(text, allow_unicode=True).strip("'\"\n. "),
    "base64": lambda text: base64.b64encode(text.encode()).decode().rstrip("=")[:-1],
    "base64 for urls": lambda text: (
        base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")[:-1]
    ),
}


def leaks(secrets: list[str], text: str) -> list[str]:
    """The secrets, and parts of them, that stand in a text in any form."""
    found = [
        f"{secret} as {form}"
        for secret in secrets
        for form, of in FORMS.items()
        if of(secret) in text
    ]
    parts = [
        secret[start : start + PART]
        for secret in secrets
        for start in range(len(secret) - PART + 1)
    ]
    return found + [part for part in parts if part in text]


class Commands:
    """Commands on a sandbox whose secrets are the canaries, and all that they print."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.printed: list[str] = []
        state = json.loads((sandbox.home / "sandbox/state.json").read_text())
        self.secrets = [*CANARIES.values(), *LABELLER.values(), state["secrets"]["db_pwd"]]
        (folder / "canaries.yml").write_text(
            yaml.safe_dump({**CANARIES, "labeller_secrets": LABELLER}, allow_unicode=True)
        )
        (folder / "say.yml").write_text(PLAYBOOK.replace("FOLDER", str(folder)))

    def run(
        self, *arguments: str, exit_code: int | None = 0, secret: bool = True, **more: str
    ) -> str:
        given = ("-i", "sandbox", "-e", f"@{self.folder}/canaries.yml") if secret else ()
        words = [word.replace("{folder}", str(self.folder)) for word in arguments]
        done = self.sandbox.run(*words, *given, exit_code=exit_code, env=more)
        self.printed.append(done.stdout + done.stderr)
        return done.stdout

    def texts(self) -> Iterator[tuple[str, str]]:
        """All that was written: output, files, the journal of the target without images, objects."""
        for number, text in enumerate(self.printed):
            yield f"output {number}", text
        own = self.sandbox.home / "sandbox"
        for path in (*self.folder.rglob("*"), *self.sandbox.home.rglob("*")):
            if (
                path.is_file()
                and own not in path.parents
                and not path.name.startswith("canaries.yml")
            ):
                yield str(path), path.read_text(errors="replace")
        for path in (own / "journal").iterdir():
            lines = path.read_text().splitlines()
            yield str(path), "\n".join(line for line in lines if not line.startswith('{"image"'))
        target = sequences.Target(self.sandbox.home)
        for key in target.objects():
            if not re.match(r"backups/|config_\w+\.yaml$", key):
                yield key, target.body(key).decode(errors="replace")


@pytest.fixture
def commands(sandbox: Sandbox, tmp_path: Path) -> Commands:
    return Commands(sandbox, tmp_path)


@pytest.mark.campaign
def test_no_secret_leaves_the_promised_places(commands: Commands) -> None:
    run, sandbox, folder = commands.run, commands.sandbox, commands.folder
    assert len(commands.secrets) == 12
    reports = ("--report", "{folder}/r.md", "--report", "{folder}/r.html")
    # Before anything is changed: input, plan file, comment.
    for form in ((), ("--json",)):
        run("show", "regular.yml", *form)
    run("validate", "sandbox", "regular.yml", "-e", f"@{folder}/canaries.yml", secret=False)
    run("plan", "regular.yml", "-o", "{folder}/p.json", "-vvv", "--diff", *reports)
    for form in ((), ("--diff",), ("--json",)):
        run("show", "{folder}/p.json", *form, secret=False)
    with github_server.running() as server:
        here = {"GITHUB_TOKEN": github_server.TOKEN, "GITHUB_API_URL": server.url}
        run("comment", "{folder}/r.md", "--repo", "o/n", "--pr", "7", secret=False, **here)
        commands.printed += server.bodies()
    # A run that applies the plan, one that is killed, and what finishes that.
    run("apply", "{folder}/p.json", "--json", *reports, secret=False)
    # An undo and the undo of it, which put the old config.yaml back.
    run("undo", "newest", "--yes", "-vvv", "--diff", *reports)
    (undone, *_) = json.loads(run("history", "--json"))["hosts"]["sandbox"]
    run("undo", undone["run"], "--yes", "--json")
    more = ("-e", "run_id=1", "-e", "replaced_run=0", "-e", f"@{folder}/canaries.yml")
    with begun(sandbox, ("reset.yml", *more, "-e", json.dumps(CANARIES))) as going:
        going.wait(20)
        family = kill("all", going.process.pid)
    wait_for_end(family)
    commands.printed += going.lines
    (given,) = [json.loads(file.read_text()) for file in (sandbox.home / "runs").glob("*/input.json")
                if going.run_id in str(file)]  # fmt: skip
    assert given["secret"] == sorted(CANARIES)
    run("resume", going.run_id, "-i", "sandbox", "--yes", "-vvv", "--diff", *reports, "-e",
        json.dumps(CANARIES), secret=False)  # fmt: skip
    # What went wrong, and what is not as it should be.
    for form in (("-vvv", "--diff"), ("--json",), ("--quiet",)):
        run("apply", "{folder}/say.yml", "--yes", *form, *reports, exit_code=1)
        (folder / "canaries.yml.txt").unlink()
    configuration = Path(sandbox.status()["labeller_home"], "common/config.yaml")
    configuration.write_text(configuration.read_text().replace("canary", "another-canary"))
    for form in (("--diff",), ("--json",)):
        run("drift", "reset.yml", *more[:-2], *form, *reports, exit_code=2)
    # Undone as far as it is as it was left; then whatever has changed since.
    run("undo", "newest", "--yes", "--diff", *reports, exit_code=None)
    run("undo", "newest", "-o", "{folder}/u.json", "--force-step", "files", "-vvv", "--diff")
    run("show", "{folder}/u.json", "--diff", secret=False)
    run("apply", "{folder}/u.json", "--json", *reports, secret=False)
    # The journals, and all that only looks.
    for form in ((), ("--json",)):
        run("history", *form)
        run("status", *form)
        run("report", "newest", *form)
        run("lock", "--reason", "canaries", *form)
        run("unlock", *form)
    for form in ("markdown", "junit", "navigator"):
        run("report", going.run_id, "--format", form)
    run("status", *reports)
    run("doctor", exit_code=None)
    options = ("-i", "sandbox", "-e", f"@{folder}/canaries.yml")
    for command in (("list",), ("verify", "--deep"), ("prune", "--keep", "9", "--yes")):
        run("backups", *options, *command, secret=False)
    run("docs", "operations", secret=False)
    found = {
        name: said for name, text in commands.texts() if (said := leaks(commands.secrets, text))
    }
    assert found == {}
    assert any("********" in text for text in commands.printed)
    assert "canary" in configuration.read_text(), "one of the promised places"
