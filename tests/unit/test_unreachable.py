"""The message about a host that cannot be reached."""

from __future__ import annotations

import pytest

from runbook.events.model import TaskResult
from runbook.execute import translate, unreachable

SENT = 'Task failed: Data could not be sent to remote host "1.2.3.4". Make sure this host can be reached over ssh: '
REFUSED = "ssh: connect to host 1.2.3.4 port 22: Connection refused"
REACHED = {
    "delegate": "", "connection": "ssh", "address": "1.2.3.4", "port": 22,
    "user": "me", "key": "/keys/my own", "become": "",
}  # fmt: skip
WHERE = "labeller3 (address 1.2.3.4, port 22, user me) cannot be reached over ssh"


def said(text: str, **reached: object) -> str:
    return unreachable.message("labeller3", text, {**REACHED, **reached})


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("Task failed: The connection ended in the middle of a step", True),
        (SENT, True),
        (f"{SENT}Connection to 1.2.3.4 closed by remote host.", True),
        (f"{SENT}Shared connection to 1.2.3.4 closed.", True),
        (f"{SENT}client_loop: send disconnect: Broken pipe", True),
        (f"{SENT}Timeout, server 1.2.3.4 not responding.", True),
        (f"{SENT}{REFUSED}", False),
        (f"{SENT}me@1.2.3.4: Permission denied (publickey).", False),
        ("Failed to connect to the host via ssh", False),
    ],
)  # fmt: skip
def test_a_connection_lost_in_the_middle_is_told_from_one_never_made(
    message: str, lost: bool
) -> None:
    assert (said(message) == unreachable.LOST) == lost


@pytest.mark.parametrize("text", [SENT + REFUSED, f"{REFUSED}\r\n"])
def test_host_way_words_and_advice_are_said(text: str) -> None:
    assert said(text).startswith(f"{WHERE}: {REFUSED}.\nNothing answers there: check that")
    login = "ssh -p 22 -i '/keys/my own' me@1.2.3.4"
    assert said(text).endswith(f".\nThis must work without a question: {login}")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("ssh: connect to host 1.2.3.4 port 22: Connection timed out", "security group"),
        ("ssh: connect to host 1.2.3.4 port 22: No route to host", "security group"),
        ("ssh: connect to host 1.2.3.4 port 22: Network is unreachable", "security group"),
        ("me@1.2.3.4: Permission denied (publickey).", "does not accept the login"),
        ("SSH authentication is incorrect", "does not accept the login"),
        ("Host key verification failed.", "known_hosts"),
        (
            "Host key checking is enabled, and SSH reported an unrecognized or mismatching host key.",
            "known_hosts",
        ),
        ("ssh: Could not resolve hostname labeller3: Name or service not known", "ansible_host"),
        (
            "bash: line 1: /nowhere/python3: No such file or directory",
            "`runbook apply bootstrap.yml` makes the environment",
        ),
        ("/home/me/private/1/ssh: 12: exec: ssh: not found", "This machine has no ssh"),
        ("[Errno 2] No such file or directory: b'ssh'", "This machine has no ssh"),
        ("[Errno 32] Broken pipe", "the command below says why"),
        ("Timeout (12s) waiting for privilege escalation prompt:", "-K"),
        ("no words that are known", "Check ansible_host, ansible_port, ansible_user and the key"),
    ],
)
def test_the_advice_fits_what_was_said(text: str, advice: str) -> None:
    for before in (SENT, "Task failed: ", ""):
        message = said(before + text)
        assert message.startswith(f"{WHERE}: {text.rstrip('.:')}.\n")
        assert advice in message.splitlines()[1]


def test_how_it_was_tried_is_said() -> None:
    assert f"{WHERE}, to become root by sudo: " in said(REFUSED, become="root by sudo")
    assert said(REFUSED, delegate="bastion").startswith(
        "bastion, to which labeller3 delegates, (address 1.2.3.4"
    )
    unset = said(REFUSED, port=0, user="", key="")
    assert "port of ssh's configuration, user of ssh's configuration" in unset
    assert unset.endswith("question: ssh 1.2.3.4")
    assert said("no", connection="docker", port=0, user="") == (
        "labeller3 (address 1.2.3.4) cannot be reached over docker: no.\n" + unreachable._ANY
    )


def test_a_host_of_which_no_more_is_known_is_named() -> None:
    raw = {"event": "runner_on_unreachable", "event_data": {"host": "h", "res": {"msg": REFUSED}}}
    [result] = translate.events(raw)
    assert isinstance(result, TaskResult)
    assert result.message == f"h cannot be reached: {REFUSED}. {unreachable._ANY}"


CRASHED = "Module result deserialization failed: No start of json char found\n"
INVALID = "        ^\nSyntaxError: invalid syntax"
FULL = """\
  File "<stdin>", line 249, in _ansiballz_main
OSError: [Errno 28] No space left on device
"""
PAYLOAD = '  File "/tmp/a/own.zip/ansible/'


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The module interpreter '/opt/none/bin/python' was not found.", "unreachable"),
        (f'{CRASHED}  File "<stdin>", line 40\n    zip_data: str,\n{INVALID}', "unreachable"),
        (
            f'{CRASHED}{PAYLOAD}module_utils/a/b.py", line 5\n    def f(a, /):\n{INVALID}',
            "unreachable",
        ),
        (f'{CRASHED}{PAYLOAD}modules/own.py", line 5\n    x = = 1\n{INVALID}', ""),
        ("psycopg2 is missing on this host", ""),
        (f"{CRASHED}{FULL}", "failed"),
        (
            f"{CRASHED}FileNotFoundError: [Errno 2] No usable temporary directory found in []",
            "failed",
        ),
        ("cannot write config.yaml: [Errno 28] No space left on device", ""),
    ],
)
def test_a_host_that_cannot_run_modules_is_told_from_a_module_that_fails(
    text: str, kind: str
) -> None:
    raw = {
        "event": "runner_on_failed",
        "event_data": {"host": "h", "res": {"failed": True, "msg": text}},
    }
    [result] = translate.events(raw)
    assert isinstance(result, TaskResult)
    assert result.error_kind == kind
    said = {"unreachable": unreachable.PYTHON, "failed": unreachable.FULL, "": text}
    assert result.message == said[kind]
