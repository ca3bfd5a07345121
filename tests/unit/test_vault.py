"""A vault that cannot be opened is named before anything is contacted: file, variable, option."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from runbook.errors import ExitCode, InvalidInputError
from runbook.events.model import Event, Notice
from runbook.execute import runner
from runbook.flow import apply
from runbook.load import vault
from runbook.load.run_input import examined
from runbook.load.source import Source

FILES = {
    "playbooks/p.yml": """\
---
- name: P
  hosts: here
  vars_files: [more.yml]
  roles: [labeller.runbook.parameters]
  tasks:
    - ansible.builtin.debug:
        msg: "{{ db_pwd }} {{ labeller_secrets }} {{ aoi_name }} {{ more }} {{ given }} {{ api_key }}"
""",
    "playbooks/more.yml": "more: 1\n",
    "inventories/t/hosts.yml": "all:\n  hosts: {there: }\n  children: {here: {hosts: {h: }}}\n",
    "inventories/t/group_vars/here/plain.yml": "aoi_name: a\ndb_pwd: plain-text\n",
    "given.yml": "given: 1\napi_key: kkkkkkkk\n",
}


def encrypted(text: str, password: str = "right", identity: str | None = None) -> str:
    """``text`` as ansible-vault encrypts it."""
    secret = VaultSecret(password.encode())
    made: bytes = VaultLib([(identity or "default", secret)]).encrypt(text, secret, identity)
    return made.decode()


def inline(name: str, password: str = "right", indent: str = "") -> str:
    lines = encrypted("hunter2", password).splitlines()
    return "\n  ".join([f"{name}: !vault |", *(indent + line for line in lines)]) + "\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    for name in ("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def problems(passwords: vault.Passwords) -> list[str]:
    found = examined(Source.named("p", "t", ["@given.yml"]), passwords=passwords)
    return [str(problem) for problem in found.problems]


NONE = vault.Passwords()
RIGHT = vault.Passwords((b"other", b"right"), ("-J", "--vault-password-file pw"))


@pytest.mark.parametrize(
    ("file", "content", "where"),
    [
        ("inventories/t/group_vars/here/v.yml", inline("db_pwd"), ":1:9: db_pwd:"),
        ("inventories/t/group_vars/here/v.yml", encrypted("db_pwd: hunter2\n"), ":1:1: document:"),
        ("inventories/t/host_vars/h.yml", encrypted("db_pwd: hunter2\n"), ":1:1: document:"),
        ("inventories/t/group_vars/all.yml",
         f"labeller_secrets:\n  {inline('instanceI', indent='  ')}",
         ":2:14: labeller_secrets.instanceI:"),
        ("playbooks/more.yml", encrypted("more: 1\n"), ":1:1: document:"),
        ("given.yml", encrypted("given: 1\napi_key: kkkkkkkk\n"), ":1:1: document:"),
        ("given.yml", f"given: 1\n{inline('api_key')}", ":2:10: api_key:"),
    ],
    ids=["value of a group", "file of a group", "file of a host", "value of all", "vars_files",
         "file of -e", "value of -e"],
)  # fmt: skip
def test_what_a_run_reads_is_opened(folder: Path, file: str, content: str, where: str) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(content)
    shown = f"-e @{file}" if file == "given.yml" else file
    assert problems(NONE) == [
        f"{shown}{where} encrypted, and no password is given: add {vault.OPTIONS}"
    ]
    assert problems(vault.Passwords((b"wrong",), ("--vault-password-file pw",))) == [
        f"{shown}{where} encrypted, and not with the password given by --vault-password-file pw"
    ]
    assert problems(RIGHT) == []


def test_what_a_run_does_not_read_may_stay_closed(folder: Path) -> None:
    for name, content in {
        "host_vars/there.yml": encrypted("db_pwd: x\n", "others"),
        "group_vars/here/unused.yml": inline("slack_url", "others"),
    }.items():
        path = folder / "inventories/t" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    assert problems(NONE) == []


def test_ids_and_damage_are_named() -> None:
    text = encrypted("x", identity="prod")
    assert "(its vault id is prod)" in vault.Passwords((b"wrong",), ("-J",)).problem(text)
    assert RIGHT.problem(text) == ""
    for broken in (text[:-9], "$ANSIBLE_VAULT;1.1;AES256\nnothing", "$ANSIBLE_VAULT;1.1;AES256"):
        assert RIGHT.problem(broken) != ""


def test_where_passwords_come_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("from file\n")
    (folder / "script-client").write_text('#!/bin/sh\necho "from script $*"\n')
    (folder / "script-client").chmod(0o700)
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(folder / "file"))
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", "a@file, b@prompt")
    found = vault.passwords({"-J": "asked"}, ["file"], ["dev@script-client", "x@prompt"])
    script = b"from script --vault-id dev"
    assert found.values == (b"asked", b"from file", b"from file", script, b"from file")
    assert vault.prompts(["dev@file", "x@prompt", "prompt"]) == ["x", "default"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "cannot be read: No such file"), ("empty", "no password"), ("fails", "code 3")],
)
def test_a_source_without_a_password_is_named(folder: Path, name: str, said: str) -> None:
    (folder / "empty").write_text("\n")
    (folder / "fails").write_text("#!/bin/sh\nexit 3\n")
    (folder / "fails").chmod(0o700)
    with pytest.raises(
        InvalidInputError, match=f"^--vault-password-file {folder}/{name}: .*{said}"
    ):
        vault.passwords({}, [name])


def test_a_pipe_is_refused_because_it_can_be_read_once() -> None:
    """As --vault-password-file <(pass show vault): ansible would find nothing there any more."""
    reading, writing = os.pipe()
    os.write(writing, b"secret\n")
    os.close(writing)
    file = f"/dev/fd/{reading}"
    with pytest.raises(InvalidInputError, match=f"{file}: a pipe, which can be read once.*script"):
        vault.passwords({}, [file])
    os.close(reading)


def test_apply_validate_stops_before_anything_is_contacted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial of the crontab's call of the loop, which reads its input as apply does."""
    run = Path("inventories/t/group_vars/here/v.yml")
    run.write_text(inline("db_pwd"))
    Path("pw").write_text("right\n")
    Path("other").write_text("wrong\n")
    called: list[object] = []
    monkeypatch.setenv("RUNBOOK_HOME", str(folder / "state"))
    monkeypatch.setattr(runner, "started", lambda *given: called.append(given))

    def validate(password: str, *more: str) -> ExitCode:
        options = apply.Options(
            "p", "t", ("@given.yml", *more), validate=True, vault_password_file=(password,)
        )
        return apply.apply(options)

    assert validate("pw") == ExitCode.OK
    seen: list[Event] = []
    options = apply.Options(
        "p", "t", ("@given.yml", "db_pwd=typed-here"), validate=True, vault_password_file=("pw",)
    )
    assert apply.apply(options, seen.append) == ExitCode.OK
    (warning,) = [event for event in seen if isinstance(event, Notice)]
    assert warning.text.startswith("-e db_pwd: a secret on the command line"), "no second warning:"
    with pytest.raises(InvalidInputError, match="not with the password given"):
        validate("other")
    with pytest.raises(InvalidInputError, match="unknown parameter 'mroe'"):
        validate("pw", "mroe=1")
    assert not called
    assert not (folder / "state").exists()
