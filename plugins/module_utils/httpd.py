# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The restart of the web server, the one command for which labeller's user needs sudo.

Ansible's ``become`` runs a shell as root: a rule of sudo for the restart alone does not allow that.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from typing import Any, List, Mapping, Optional, Tuple

from . import files
from .change import Change
from .errors import InvalidInput, ModuleFailure
from .module import Params, Plan, composed

ARGUMENTS: dict[str, Any] = {"name": {"type": "str", "required": True}}

_SCRIPTS = ("/etc/init.d", "/etc/rc.d/init.d")


def restart(service: str) -> List[str]:
    """The command that restarts a service, as root."""
    program = found("service")
    return [program, service, "restart"] if program else ["systemctl", "restart", service]


def found(program: str) -> Optional[str]:
    """Where a program of the system is: a login over ssh may not have its folders on PATH."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return shutil.which(program, path=path)


def allowed(service: str) -> bool:
    """Whether this user may restart the service without a password."""
    return os.geteuid() == 0 or _done("sudo", "-n", "-l", *restart(service))[0] == 0


def advice(service: str) -> Tuple[str, str]:
    """The right that this user lacks where the restart is not ``allowed``, and how to give it."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    program, *rest = restart(service)
    rule = "{} ALL=(root) NOPASSWD: {}".format(user, " ".join([found(program) or program, *rest]))
    return (
        "{} needs a password for sudo, which restarts {}".format(user, service),
        "give -K, or as root: echo '{}' >/etc/sudoers.d/{}".format(rule, user),
    )


def _done(*command: str) -> Tuple[int, str]:
    """Status and output of a command.

    The output goes to a file: a server that is started inherits it, and a pipe would never close.
    Raises ModuleFailure on a full disk.
    """
    try:
        file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
    except OSError as error:
        raise files.no_temporary(error) from error
    with file as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            return 127, error.strerror or ""
        output.seek(0)
        return done.returncode, output.read()


def observe(params: Params) -> bool:
    """Whether sudo allows the restart. Raises InvalidInput for a service that there is not."""
    name = params["name"]
    scripts = (os.path.join(folder, name) for folder in _SCRIPTS)
    unit = ("systemctl", "show", "--property=LoadState", name)
    if not any(map(os.path.exists, scripts)) and "LoadState=loaded" not in _done(*unit)[1]:
        raise InvalidInput(
            "there is no service {}; set httpd_service to the name of the web server on this host, "
            "or to '' if it has none".format(name)
        )
    return allowed(name)


def plan(permitted: bool, params: Params) -> Plan:
    """The restart, unless it needs a password."""
    name = params["name"]
    after, warnings = ("restarted\n", []) if permitted else ("", ["; ".join(advice(name))])
    change = Change("service {}".format(name), "restart", "", after, {"restarts": 1})
    return Plan([change], {"needs_password": not permitted}, warnings)


def apply(decided: Plan, params: Params) -> None:
    """Restart it."""
    if not decided.changes[0].changed:
        return
    command = restart(params["name"])
    status, said = _done(*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command)
    if status:
        raise ModuleFailure(
            "{} failed with status {}: {}".format(" ".join(command), status, said.strip())
        )


def run(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
    """The module httpd.

    It is not journaled: a restart leaves nothing to undo, and a handler makes it after the run's
    end is noted.
    """
    return composed(observe, plan, apply)({**params, "journal": None}, check_mode)
