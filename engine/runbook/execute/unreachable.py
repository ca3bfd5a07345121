"""Why a host cannot be reached: which host, how it was tried, what to check."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

#: Said of a connection that went away in the middle of a step.
LOST = (
    "the connection was lost while the step ran. The step ends there by itself, and what it has "
    "not committed is rolled back. Run the same command again to finish; while the step still "
    "runs, that is refused"
)

#: The words for it of our action plugin, and of Ansible where ssh had been let in, so that it
#: says no more.
_IN_THE_MIDDLE = re.compile(
    r"The connection ended in the middle of a step"
    r"|Data could not be sent to remote host \S+ Make sure this host can be reached over \w+:\s*"
    r"((Shared )?[Cc]onnection to \S+ closed|client_loop: |Timeout, server |$)"
)

#: Said of a Python that cannot run modules. Ansible reports it as a failure of the module.
PYTHON = (
    "the Python that ansible_python_interpreter names there cannot run modules: it is missing, or "
    "older than Python 3.8 (with ansible-core 2.20 and later, 3.9). `runbook apply bootstrap.yml` "
    "makes the virtual environment for modules; set ansible_python_interpreter to its Python"
)

#: The words of it: no such program, or ansible-core's own code is no Python to it.
_NO_PYTHON = re.compile(
    r"The module interpreter '.*' was not found"
    r'|File "(<stdin>|[^"]*/ansible/module_utils/[^"]+)", line \d+\n([ \t].*\n)*\s*SyntaxError: '
)

#: Said of a host that has no room for a module. Ansible reports it as a failure of the module.
FULL = (
    "the host has no room for temporary files, so this step did nothing: its disk is full, or this "
    "user may not write /tmp, /var/tmp and the home folder. Free space there (df -h /tmp ~), then "
    "run the same command again"
)

#: The words of it: of Python's tempfile, or where ansible-core unpacks the module.
_NO_ROOM = re.compile(r"No usable temporary directory found in|_ansiballz_main[\s\S]*\[Errno 28\]")

#: What Ansible puts before the words of ssh.
_BEFORE = re.compile(
    r"^(Task failed: )?("
    r"Data could not be sent to remote host \S+ Make sure this host can be reached over \w+:\s*"
    r"|Failed to connect to the host via ssh:\s*)?"
)

#: What to check, by the words of ssh and Ansible; the first that fits.
_ADVICE = {
    r"exec: ssh: not found|No such file or directory: b?'ssh'": (
        "This machine has no ssh: install OpenSSH's client (openssh-client, or openssh-clients)"
    ),
    r"\b(ba|da|k|z)?sh: .*(No such file or directory|not found|Permission denied)": (
        "The login works, but Python does not start: `runbook apply bootstrap.yml` makes the "
        "environment that ansible_python_interpreter names"
    ),
    r"Permission denied|authentication is incorrect|[Tt]oo many authentication failures": (
        "The host answers, but does not accept the login: check ansible_user, and that its "
        "authorized_keys on the host has the key that is used here "
        "(ansible_ssh_private_key_file, or one of the ssh agent's: ssh-add -l)"
    ),
    r"[Hh]ost key|HOST IDENTIFICATION": (
        "The host answers, but known_hosts has no key of it, or another one. Compare the "
        "fingerprint that ssh shows with the one in the instance's system log, and accept it "
        "there; of a host that was replaced, first remove the old key: ssh-keygen -R {known}. "
        "To accept new keys unseen, set -o StrictHostKeyChecking=accept-new in "
        "ansible_ssh_common_args"
    ),
    r"^\[Errno 32\]": (  # Ansible was still writing, so that ssh's own words are lost
        "ssh ended as soon as it was started, as for a host key that is unknown or another one, or "
        "a login that is refused: the command below says why"
    ),
    r"resolve hostname": ("The name has no address: check ansible_host, a name or an IP address"),
    r"privilege escalation|\w+ password is required|Missing \w+ password": (
        "The login works, but becoming another user does not: check ansible_become_method and "
        "ansible_become_user, and give -K to be asked for the password"
    ),
    r"refused|timed? ?out|No route to host|is unreachable": (
        "Nothing answers there: check that the host is running, that ansible_host and ansible_port "
        "are right (a stopped instance comes back with another public address), that its sshd "
        "listens on this port, and that its security group lets this machine in"
    ),
}
_ANY = "Check ansible_host, ansible_port, ansible_user and the key in the inventory"


def cause(text: str) -> tuple[str, str] | None:
    """Why a module that said ``text`` could not run on its host, and the kind of this error."""
    if _NO_PYTHON.search(text):
        return PYTHON, "unreachable"
    if _NO_ROOM.search(text):
        return FULL, "failed"
    return None


def message(host: str, text: str, reached: Mapping[str, Any]) -> str:
    """The message for the operator about an unreachable ``host``.

    ``text`` is what Ansible says; ``reached`` how the host was to be reached, as the callback in
    Ansible's process tells it (``callback/runbook_quiet.py``); empty if it could not.
    """
    if _IN_THE_MIDDLE.search(text):
        return LOST
    said = " ".join(_BEFORE.sub("", text, count=1).split()).rstrip(".:") or "the connection ended"
    if not reached:
        return f"{host} cannot be reached: {said}. {_ANY}"
    ssh = reached["connection"] == "ssh"
    over = reached["connection"]
    if reached["become"]:
        over += f", to become {reached['become']}"
    if reached["delegate"]:
        host = f"{reached['delegate']}, to which {host} delegates,"
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, said)), _ANY)
    login = _login(reached)
    known = f"[{reached['address']}]:{reached['port']}" if reached["port"] else reached["address"]
    advice = advice.format(known=shlex.quote(known))
    advice += f".\nThis must work without a question: {login}" if ssh else ""
    return f"{host} {_where(reached, ssh=ssh)}cannot be reached over {over}: {said}.\n{advice}"


def _where(reached: Mapping[str, Any], *, ssh: bool) -> str:
    """Address, port and user; what is not set is that of ssh's own configuration."""
    unset = "of ssh's configuration" if ssh else ""
    parts = ((name, reached[name] or unset) for name in ("address", "port", "user"))
    listed = ", ".join(f"{name} {value}" for name, value in parts if value)
    return f"({listed}) " if listed else ""


def _login(reached: Mapping[str, Any]) -> str:
    """The command that logs in to the host, without ansible_ssh_common_args and the like."""
    words = ["ssh"]
    words += ["-p", str(reached["port"])] if reached["port"] else []
    words += ["-i", reached["key"]] if reached["key"] else []
    words.append("@".join(part for part in (reached["user"], reached["address"]) if part))
    return shlex.join(words)
