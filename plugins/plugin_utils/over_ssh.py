# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs a module over ssh in a program on the host that stays for the run.

Ansible's ssh starts ``keep_ssh.py`` in the place of ssh, which starts ssh with what Ansible gave it
and ``module_utils/module_server.py`` on the host. The first step of a host pays for the connection,
the interpreter and the imports.

Messages (``module_server.message``) are JSON: ``action``, ``arguments`` and ``check_mode`` there, a
module's result back.
"""

# ruff: noqa: SLF001 - part of an action plugin, which uses what ActionBase uses

from __future__ import annotations

import hashlib
import json
import os
import shlex
import socket
import sys
import zlib
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Tuple

import ansible
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.labeller.runbook.plugins import module_utils
from ansible_collections.labeller.runbook.plugins.module_utils.module_server import (
    message,
    received,
)
from ansible_collections.labeller.runbook.plugins.plugin_utils import in_process

if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

#: Set by the engine for a run that may keep a program on its hosts.
VARIABLE = "RUNBOOK_OVER_SSH"
#: Folders of Ansible's for its own modules, and for Windows.
_UNUSED = ("facts", "powershell", "csharp")
#: Reads its own text, whose length is in the first line, and begins to serve. Nothing is imported
#: from the working folder, which is the login's home.
START = (
    "import os,sys;sys.path=[p for p in sys.path if p];f=open(os.dup(0),'rb');"
    "n={'__name__':'module_server'};exec(compile(f.read(int(f.readline())),'<runbook>','exec'),n);"
    "n['main'](f)"
)


class NotStarted(Exception):  # noqa: N818 - no error: Ansible's own way is taken then
    """The interpreter on the host does not run the program."""


def possible(action: ActionBase, variables: Mapping[str, Any]) -> bool:
    """Whether the module would run over ssh, as the user that logs in, in an interpreter named.

    Without a password, for which ssh gets a terminal of its own, and where Ansible itself would
    send a module through standard input, so without a terminal on the host.
    """
    connection = action._connection
    return (
        os.environ.get(VARIABLE) == "1"
        and connection.ansible_name in ("ssh", "ansible.builtin.ssh")
        and connection.is_pipelining_enabled()
        and in_process.is_plain(action)
        and not (connection.get_option("password") or action._play_context.password)
        and _interpreter(action, variables).startswith("/")
    )


def call(
    action: ActionBase, variables: Mapping[str, Any], arguments: Mapping[str, Any]
) -> Dict[str, Any]:
    """The result of the module that the task names.

    Raises AnsibleConnectionFailure when the host cannot be reached, or is lost meanwhile, and
    NotStarted.
    """
    request = {
        "action": action._task.action,
        "arguments": arguments,
        "check_mode": action._task.check_mode,
    }
    folder = Path(os.environ["RUNBOOK_CHANNEL"]).parent
    python = _interpreter(action, variables)
    options = action._connection.get_options()
    name = hashlib.sha256(repr((sorted(options.items()), python)).encode()).hexdigest()[:16]
    with closing(_reached(action, folder / ("ssh-" + name), python)) as connection:
        try:
            result: Dict[str, Any] = json.loads(answer(connection, json.dumps(request).encode()))
            return result
        except (OSError, EOFError) as error:
            raise AnsibleConnectionFailure(
                "The connection ended in the middle of a step"
            ) from error


def _interpreter(action: ActionBase, variables: Mapping[str, Any]) -> str:
    return str(action._templar.template(variables.get("ansible_python_interpreter", "")))


def _reached(action: ActionBase, address: Path, python: str) -> socket.socket:
    try:
        return connected(address)
    except (FileNotFoundError, ConnectionError):
        _start(action, address, python)
        return connected(address)


def connected(address: Path) -> socket.socket:
    """A connection to the socket at an address, of whatever length, that takes a request.

    Raises FileNotFoundError or ConnectionError when the program on the host has ended.
    """
    made = socket.socket(socket.AF_UNIX)
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(address.parent)  # a socket's name may have 107 bytes
        made.connect(address.name)
        if not made.recv(1):
            raise ConnectionResetError
    except OSError:
        made.close()
        raise
    finally:
        os.fchdir(before)
        os.close(before)
    return made


def _start(action: ActionBase, address: Path, python: str) -> None:
    """Start the program on the host, to be reached at an address."""
    connection = action._connection
    ssh = connection.get_option("ssh_executable")
    keep = Path(__file__).with_name("keep_ssh.py")
    channel = os.environ["RUNBOOK_CHANNEL"]
    command = shlex.join([sys.executable, "-S", "-E", str(keep), str(address), channel, ssh])
    program = address.with_suffix(".sh")
    program.write_text('#!/bin/sh\nexec {} "$@"\n'.format(command))
    program.chmod(0o700)
    connection.set_option("ssh_executable", str(program))
    try:
        there = "exec {} -c {}".format(shlex.quote(python), shlex.quote(START))
        code, _, _ = connection.exec_command(there, in_data=initial(), sudoable=False)
    finally:
        connection.set_option("ssh_executable", ssh)
    if code:
        raise NotStarted


def answer(connection: socket.socket, request: bytes) -> bytes:
    """The answer to a request. Raises OSError or EOFError when there will be none."""
    connection.sendall(message(request))
    with connection.makefile("rb") as file:
        found = received(file)
    if found is None:
        raise EOFError
    return found


@lru_cache(maxsize=None)
def initial() -> bytes:
    """The first input of the program on the host, with the files of all modules."""
    return first_input(dict(_files()))


def first_input(files: Mapping[str, str]) -> bytes:
    """The text of the program on the host, then the ``files`` that it can import."""
    text = Path(module_utils.__path__[0], "module_server.py").read_bytes()
    return b"%d\n%s%s" % (len(text), text, message(zlib.compress(json.dumps(files).encode(), 1)))


def _files() -> Iterator[Tuple[str, str]]:
    """Names, as they are imported there, and texts."""
    yield "ansible/__init__.py", "__version__ = {!r}\n".format(ansible.__version__)
    core = Path(ansible.__file__).parent
    for file in (core / "module_utils").rglob("*.py"):
        name = file.relative_to(core)
        if name.parts[1] not in _UNUSED:
            yield "ansible/{}".format(name), file.read_text(encoding="utf-8")
    plugins = Path(module_utils.__path__[0]).parent
    for folder in ("module_utils", "modules"):
        for file in (plugins / folder).rglob("*.py"):
            name = "ansible_collections/labeller/runbook/plugins/{}"
            yield name.format(file.relative_to(plugins)), file.read_text(encoding="utf-8")
