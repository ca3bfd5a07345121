"""The environment of the ansible process: which settings it gets, which of the operator's stay.

Hermetic: no ``ansible.cfg`` is read, and of the operator's ``ANSIBLE_*`` settings only those
survive that say how to reach hosts (``KEPT``); what they would break is decided by ``settings``.
"""

from __future__ import annotations

import json
import locale
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runbook import collection, processes
from runbook.errors import RunbookError
from runbook.execute.child import patches
from runbook.home import home, operator

#: Settings of the operator that survive: how hosts are reached and vaults opened.
KEPT = re.compile(
    r"ANSIBLE_(PRIVATE_KEY_FILE|REMOTE_(USER|PORT|TEMP)|TIMEOUT|HOST_KEY_CHECKING|SSH_\w+"
    r"|VAULT_(PASSWORD_FILE|IDENTITY|IDENTITY_LIST)|BECOME_(METHOD|USER|EXE|PASSWORD_FILE)"
    r"|COLLECTIONS_PATH|ROLES_PATH|OPENTELEMETRY_\w+)"
)

#: Settings that do not survive, unless chosen here or ``KEPT``.
FOREIGN = re.compile(r"ANSIBLE_|(JOB|AD_HOC_COMMAND|PROJECT_UPDATE)_ID$")

#: Where ansible finds other collections unless the operator says otherwise: its own default.
COLLECTIONS = "~/.ansible/collections:/usr/share/ansible/collections"

#: Seconds between two questions of ssh whether the host is still there, and how many without an
#: answer end the connection. Without them a step whose network is gone is waited for for ever.
ALIVE_INTERVAL, ALIVE_COUNT = 10, 3

#: What is taken in the place of a locale that Ansible refuses. RHEL 7 has no C.UTF-8.
UTF8_LOCALES = ("C.UTF-8", "C.utf8", "en_US.UTF-8", "UTF-8")

#: The engine's callback. ansible-runner puts its own, which derives from it, in its place.
ANSIBLE_CALLBACK = {
    "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "child/callback"),
    "ANSIBLE_STDOUT_CALLBACK": "runbook_quiet",
}

#: Seconds in which a host must have answered. Where the way there and back takes half a second and
#: one packet in fifty is lost, ssh took 10 to 14. Ansible gives 10.
CONNECT_TIMEOUT = 30

#: Bytes of the folder for temporary files that leave room for the name of a socket in it, which is
#: /pymp-XXXXXXXX/listener-XXXXXXXX, of the 107 that Linux takes.
SOCKET_ROOM = 75


#: Seconds between two looks whether a step has ended, for each host; and so many hosts at most.
POLL, MOST = 0.001, 20
#: The same on this machine, where each one's module runs in a process of 30 MB: on two cores,
#: 16 hosts at a time took as long as 8.
MOST_LOCAL = 8


def transport(*, local: bool) -> str:
    """How modules get to their hosts, for ``-v``; ``local``: all hosts are."""
    if not patches.fast():
        return "RUNBOOK_FAST is 0: an interpreter is started for each step"
    if local:
        return "all hosts are local: modules run in Ansible's own workers"
    return "modules run in one process a host, over ssh"


def _version(package: str) -> tuple[int, ...]:
    from importlib import metadata

    return tuple(int(part) for part in re.findall(r"\d+", metadata.version(package))[:3])


def _require_short_names_of_sockets() -> None:
    """Raise where ansible-core 2.22 could not listen on its own socket, and would call it a bug."""
    temporary = tempfile.gettempdir()
    length = len(os.fsencode(temporary))
    if length > SOCKET_ROOM and _version("ansible-core") >= (2, 22):
        raise RunbookError(
            f"the folder for temporary files, {temporary}, has {length} bytes, and ansible-core "
            f"2.22 needs a name of at most {SOCKET_ROOM} for its sockets: set TMPDIR to a shorter "
            "one, such as /tmp"
        )


def settings(plugin: str, folder: Path, hosts: int = 1) -> dict[str, str]:
    """The ``ANSIBLE_*`` settings of a run with the strategy ``plugin`` and private ``folder``.

    ``hosts``: how many there are. For one Ansible looks every millisecond whether a step has ended;
    so often, that costs a fleet's steps a third of a processor.
    """
    _require_short_names_of_sockets()
    (folder / "ansible.cfg").write_text(
        f"[defaults]\ninternal_poll_interval = {POLL * min(hosts, MOST)}\n"
    )
    paths = [
        str(collection.link(folder / "collections")),
        os.environ.get("ANSIBLE_COLLECTIONS_PATH", COLLECTIONS),
    ]
    user_ssh = os.environ.get("ANSIBLE_SSH_ARGS", "-C -o ControlMaster=auto -o ControlPersist=60s")
    user_extra = os.environ.get("ANSIBLE_SSH_EXTRA_ARGS", "")
    timeout = os.environ.get("ANSIBLE_TIMEOUT", "")
    patience = (
        f"-o ServerAliveInterval={ALIVE_INTERVAL} -o ServerAliveCountMax={ALIVE_COUNT}"
        f" -o ConnectTimeout={timeout or CONNECT_TIMEOUT}"
    )
    return {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(path for path in paths if path),
        "ANSIBLE_STRATEGY": plugin,
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": user_ssh,
        "ANSIBLE_TIMEOUT": timeout or str(CONNECT_TIMEOUT),
        # The last arguments, so that the operator's own settings count.
        "ANSIBLE_SSH_EXTRA_ARGS": f"{user_extra} {patience}".strip(),
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_NOCOWS": "True",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "True",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        # ansible-runner would turn it off.
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        # ansible-runner would drop a result that is larger.
        "MAX_EVENT_RES": str(2**40),
    }


def callbacks() -> dict[str, str]:
    """The settings of a run for the callbacks that the operator enables by name; often none.

    Ansible itself loads only the one that hands redacted events on to them.
    """
    given = os.environ.get("ANSIBLE_CALLBACKS_ENABLED", "").split(",")
    names = [name.strip() for name in given if name.strip()]
    if not names:
        return {}
    return {
        "ANSIBLE_CALLBACKS_ENABLED": "runbook_forward",
        "RUNBOOK_CALLBACKS": json.dumps(names),
        "RUNBOOK_CALLBACK_PLUGINS": os.environ.get("ANSIBLE_CALLBACK_PLUGINS", ""),
    }


def hermetic(prepared: Mapping[str, str], chosen: set[str]) -> dict[str, str]:
    """The part of the environment that ansible-runner ``prepared`` that may survive.

    Of Ansible's settings only those ``chosen`` here and ``KEPT`` remain, and none of the names
    that ansible-runner's callback takes for a job of AWX.
    """
    kept = {
        name: value
        for name, value in prepared.items()
        if name in chosen or KEPT.fullmatch(name) or not FOREIGN.match(name)
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, **utf8_locale()}


def utf8_locale() -> dict[str, str]:
    """``LC_ALL`` for Ansible, which refuses every locale but those of UTF-8; empty if it has one.

    Cron gives none, and ssh brings one along that this machine may not have. Raises RunbookError
    where none of ``UTF8_LOCALES`` is installed.
    """
    usable = next(filter(_is_utf8, ("", *UTF8_LOCALES)), None)
    if usable is None:
        raise RunbookError(
            "this machine has no UTF-8 locale that runbook knows "
            f"({', '.join(UTF8_LOCALES)}), and Ansible needs one: install one of them, or set "
            "LC_ALL to one that `locale -a` lists"
        )
    return {"LC_ALL": usable} if usable else {}


def _is_utf8(name: str) -> bool:
    """Whether a locale is installed and of UTF-8, as Ansible looks; empty: the environment's."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
        return (locale.getlocale()[1] or "").lower() in ("utf-8", "utf8")
    except (locale.Error, ValueError):
        return False
    finally:
        locale.setlocale(locale.LC_ALL, before)


def facts(folder: Path) -> dict[str, str]:
    """Variables that name the engine, the operator and the parameters to the ansible process."""
    from runbook.load import schemas  # not before the process was started

    secret = schemas.secret_names()
    return {
        "RUNBOOK_HOME": str(home()),
        "RUNBOOK_HOLDER": f"{operator()}, process {os.getpid()}",
        "RUNBOOK_OPERATOR": operator(),
        "RUNBOOK_PROCESS": process_name(os.getpid()),
        "RUNBOOK_CHANNEL": str(folder / "channel"),
        "RUNBOOK_SECRET_NAMES": json.dumps(sorted(secret)),
        "RUNBOOK_PUBLIC_NAMES": json.dumps(sorted(schemas.parameters().keys() - secret)),
    }


def process_name(pid: int) -> str:
    """A process of this machine for module_utils/lease.py; empty where there is no /proc."""
    found = processes.Process.of(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot}/{space}/{pid}/{found.started}" if found else ""


def may_be_kept(name: str) -> bool:
    """Whether a variable may be kept in a file by ansible-runner: those that hold no secret."""
    plain = ("HOME", "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR", "USER", "LOGNAME")
    return name in plain or (
        name.startswith(("ANSIBLE_", "AWX_", "RUNNER_", "RUNBOOK_", "ORIGINAL_STDOUT", "MAX_EVENT"))
        and not re.search(r"PASS(?!WORD_FILE)|TOKEN|SECRET(?!_NAMES)", name)
    )
