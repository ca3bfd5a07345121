# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The crontab's call of iterate.yml: what it is, and whether cron could make it."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import subprocess
from typing import Any, Dict, List, Mapping

from .errors import InvalidInput, Refused

#: The program, in the virtual environment that docs/loop.md has on the instance.
RUNBOOK = "$HOME/runbook/bin/runbook"
#: Seconds that a dry call may take.
_TIMEOUT = 120
#: Lines of its output that an error repeats.
_LINES = 12
_PROGRAM = re.compile(r"\s*(?:\w+=\S*\s+)*(\"[^\"]*\"|'[^']*'|\S+)")


def command(params: Mapping[str, Any], instance: str = "") -> str:
    """The command of the crontab line, empty when there is to be none.

    ``instance``: the EC2 instance (``machine``) that alone may make the call.

    Raises InvalidInput when the parameters do not make one that works from any folder.
    """
    if not params["learner"]:
        return ""
    given = (params["learner_command"] or "").strip()
    if "\n" in given:
        raise InvalidInput("learner_command is {!r}; it must be one line".format(given))
    if given:
        return given
    return " ".join([RUNBOOK, "apply iterate.yml", *_options(params, instance), "--yes --quiet"])


def verify(params: Mapping[str, Any]) -> None:
    """Have cron's user try, in cron's environment, what the line will need; nothing is changed.

    A command of the operator's own is only looked for. Raises InvalidInput or Refused.
    """
    if not command(params):
        return
    given = (params["learner_command"] or "").strip()
    found = _PROGRAM.match(given or RUNBOOK)
    program = found.group(1) if found else ""
    _try(params, "command -v {} >/dev/null".format(program), _MISSING.format(program))
    if given:
        return
    options = " ".join(_options(params))
    for name in ("learner_inventory", "learner_vault_password_file"):
        if params[name]:
            path = shlex.quote(params[name])
            _try(
                params,
                "test -r {}".format(path),
                "{} is {}: it does not exist on the instance, or its user may not read it".format(
                    name, params[name]
                ),
            )
    where = "; docs/loop.md says what the loop needs on the instance"
    _try(params, "{} apply iterate.yml {} --validate".format(RUNBOOK, options), _REJECTED + where)
    access = re.sub(r"^.*?(?=-i )", "", options)
    _try(params, "{} status {}".format(RUNBOOK, access), _UNREACHED + where)


_MISSING = (
    "{} is not there for cron: install runbook on the instance (docs/loop.md), or give "
    "learner_command, or set learner_loop to false"
)
_REJECTED = "the crontab's call of iterate.yml would be rejected"
_UNREACHED = "the crontab's call of iterate.yml would not reach the instance, its database or AWS"


def _options(params: Mapping[str, Any], instance: str = "") -> List[str]:
    """The run that is put up, whatever the inventory on the instance says, and how to read that."""
    inventory = params["learner_inventory"]
    if not inventory:
        raise InvalidInput(
            "learner_inventory is empty, and cron calls iterate.yml on the instance from no folder "
            "of yours: give the inventory's absolute path there (and learner_vault_password_file "
            "if it holds a vault), or learner_command, or set learner_loop to false"
        )
    for name in ("learner_inventory", "learner_vault_password_file"):
        if params[name] and not os.path.isabs(params[name]):
            raise InvalidInput("{} is {!r}; it must be an absolute path".format(name, params[name]))
    given = {**params["learner_run"], **({"learner_instance": instance} if instance else {})}
    run = ["{}={}".format(name, value) for name, value in sorted(given.items())]
    options = ["-e {}".format(shlex.quote(" ".join(run)))] if run else []
    options.append("-i {}".format(shlex.quote(inventory)))
    if params["learner_vault_password_file"]:
        file = shlex.quote(params["learner_vault_password_file"])
        options.append("--vault-password-file {}".format(file))
    return options


def _try(params: Mapping[str, Any], line: str, problem: str) -> None:
    """Run a line as cron does: its user, folder, shell and few variables, and no terminal."""
    entry = pwd.getpwnam(params["user"]) if params["user"] else pwd.getpwuid(os.geteuid())
    environment = {
        "HOME": entry.pw_dir,
        "LOGNAME": entry.pw_name,
        "USER": entry.pw_name,
        "SHELL": "/bin/sh",
        "PATH": "/usr/bin:/bin",
    }
    options: Dict[str, Any] = {}
    if entry.pw_uid != os.geteuid():

        def become() -> None:
            os.initgroups(entry.pw_name, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)

        options["preexec_fn"] = become
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            env=environment,
            cwd=entry.pw_dir if os.path.isdir(entry.pw_dir) else "/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
            **options,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused("{}: it took longer than {} s".format(problem, _TIMEOUT)) from error
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()[-_LINES:]
        raise Refused("{}{}".format(problem, "".join("\n  " + text for text in said)))
