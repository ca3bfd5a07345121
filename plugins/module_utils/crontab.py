# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""labeller's crontab profiles (reference 2.17 and 6), beside lines that are not ours."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from typing import Any, Mapping, Sequence

from . import files
from .change import Change, result
from .errors import InvalidInput, ModuleFailure

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "profile": {
        "type": "str",
        "choices": ["full", "no_n", "no_n_notifier", "standalone_f", "maintenance"],
        "default": "no_n_notifier",
    },
    "home": {"type": "path", "required": True},
    "user": {"type": "str"},
    "crontab_file": {"type": "path"},
    "taken_down": {"type": "bool", "default": False},
    "learner": {"type": "bool", "default": False},
    "learner_command": {"type": "str", "default": ""},
}

PROFILES: dict[str, tuple[str, ...]] = {
    "full": (
        "cleanup_absent_worker",
        "create_hit_daemon",
        "generate_consensus_daemon",
        "select_n_sites",
    ),
    "no_n": ("cleanup_absent_worker", "create_hit_daemon", "generate_consensus_daemon"),
    "no_n_notifier": (
        "cleanup_absent_worker",
        "create_hit_daemon",
        "generate_consensus_daemon",
        "worker_notification_daemon",
    ),
    "standalone_f": ("cleanup_absent_worker", "create_hit_daemon"),
    "maintenance": ("cleanup_absent_worker",),
}

SCHEDULE = "0,5,10,15,20,25,30,35,40,45,50,55 * * * *"
# Between the starts of daemons, which take the same five minutes.
LEARNER_SCHEDULE = "2,7,12,17,22,27,32,37,42,47,52,57 * * * *"
_MARKER = re.compile(r"# (BEGIN|END) labeller\.runbook( |$)")
# Characters that neither cron nor a shell reads as anything but themselves.
_PLAIN_PATH = re.compile(r"/[\w./@:+=,-]*")


def block(profile: str, home: str, learner_command: str = "") -> list[str]:
    """The lines of ``profile`` for the checkout at ``home``, markers included, without line ends.

    With ``learner_command`` one more runs that, the active-learning loop; calls exclude each other.

    The consensus daemon needs labeller's environment, read by bash whatever SHELL the crontab
    sets; an assignment of SHELL here would reach the lines of the user that follow.
    """
    common = "{}/common".format(home)
    lines = []
    for daemon in PROFILES[profile]:
        command = "{0}/daemonNanny.sh {0}/{1}.py".format(common, daemon)
        if daemon == "generate_consensus_daemon":
            command = "/bin/bash -c 'source {}/bashrc_mapper.sh; {}'".format(common, command)
        lines.append("{} {} >>{}/log/daemonNanny.log".format(SCHEDULE, command, home))
    if learner_command:
        lines.append(
            "{0} flock -n {1}/log/iterate.lock {2} >>{1}/log/iterate.log 2>&1".format(
                LEARNER_SCHEDULE, home, learner_command.replace("%", "\\%")
            )
        )
    return [
        "# BEGIN labeller.runbook {}".format(profile),
        *lines,
        "# END labeller.runbook",
    ]


def is_ours(line: str, home: str, user_home: str) -> bool:
    """Whether ``line`` is a marker of ours or starts a daemon of the checkout at ``home``.

    The latter also holds for lines that crontab_runner.py or a person wrote; a commented line is
    the user's, and so is an assignment.
    """
    if _MARKER.match(line):
        return True
    if re.match(r"\s*(#|[\"']?\w+[\"']?\s*=)", line):
        return False
    line = re.sub(r"(~|\$HOME|\$\{HOME\})(?=/)", lambda _match: user_home, line)
    place = r"(?<![\w./-])" + re.escape(home)
    return (
        re.search(place + r"/(\S*/)?daemonNanny\.sh", line) is not None
        or re.search("flock -n " + place + r"/log/iterate\.lock ", line) is not None
    )


def edit(text: str, lines: Sequence[str], home: str, user_home: str) -> str:
    """``text`` with ``lines`` in place of ours; every other line stays as it is, where it is.

    Without lines of ours so far they go to the end.
    """
    old = text.split("\n")
    if old[-1] == "":
        old.pop()
    kept: list[str] = []
    place = None
    for line in old:
        if is_ours(line, home, user_home):
            place = len(kept) if place is None else place
        else:
            kept.append(line)
    place = len(kept) if place is None else place
    if len(kept) == len(old) and not lines:
        return text
    new = kept[:place] + list(lines) + kept[place:]
    return "".join(line + "\n" for line in new)


class CrontabFile:
    """A file in place of the user's crontab."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = path

    def read(self) -> bytes:
        """The content, empty when there is no file; fails when it could not be replaced later."""
        files.check_writable(self.path)
        return files.read(self.path) or b""

    def write(self, content: bytes) -> None:
        """Replace the content."""
        files.replace(self.path, content)


class Crontab:
    """The crontab that crontab(1) keeps for a user."""

    def __init__(self, user: str | None) -> None:
        self.arguments = ["-u", user] if user else []
        self.name = "crontab of {}".format(user or pwd.getpwuid(os.geteuid()).pw_name)

    def read(self) -> bytes:
        """The content, empty when the user has none."""
        done = self._run(["-l"])
        if done.returncode == 0:
            return done.stdout
        if b"no crontab for" in done.stderr:
            return b""
        raise self._failure("read", done.stderr)

    def write(self, content: bytes) -> None:
        """Replace the content; an empty one removes the crontab."""
        done = self._run(["-"] if content else ["-r"], content)
        if done.returncode != 0:
            raise self._failure("write", done.stderr)
        if self.read() != content:
            raise ModuleFailure(
                "the {} is not what was written a moment ago; does somebody else edit it?".format(
                    self.name
                )
            )

    def _run(
        self, arguments: Sequence[str], content: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        command = ["crontab", *self.arguments, *arguments]
        try:
            return subprocess.run(
                command,
                input=content,
                capture_output=True,
                env=dict(os.environ, LC_ALL="C", LANGUAGE="C"),
            )
        except FileNotFoundError as error:
            raise ModuleFailure(
                "there is no crontab command on this host; install cron, or name a crontab_file"
            ) from error

    def _failure(self, verb: str, stderr: bytes) -> ModuleFailure:
        reason = " ".join(stderr.decode("utf-8", "replace").split())
        return ModuleFailure(
            "cannot {} the {}: {}; may this user use crontab (cron.allow, cron.deny)?".format(
                verb, self.name, reason
            )
        )


def plain_home(home: str) -> str:
    """The checkout folder in the form that crontab lines hold; InvalidInput when it cannot be."""
    if not _PLAIN_PATH.fullmatch(home):
        raise InvalidInput(
            "home is {!r}; it must be an absolute path without spaces and without characters that "
            "a shell or cron treats specially".format(home)
        )
    return os.path.normpath(home)


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module crontab_profile."""
    home = plain_home(params["home"])
    present = params["state"] == "present"
    if present and not os.path.isdir(os.path.join(home, "common")):
        raise InvalidInput(
            "home is {}, but there is no folder {}/common; it must be labeller's checkout".format(
                home, home
            )
        )
    tab = CrontabFile(params["crontab_file"]) if params["crontab_file"] else Crontab(params["user"])
    content = tab.read()
    text = content.decode("utf-8", "surrogateescape")
    user_home = _home_of(params["user"])
    if check_mode and params["taken_down"]:
        text = edit(text, [], home, user_home)
    command = _learner_command(params) if present else ""
    lines = block(params["profile"], home, command) if present else []
    edited = edit(text, lines, home, user_home)
    after = edited.encode("utf-8", "surrogateescape")

    scripts = [os.path.join(home, "common", name) for name in _scripts(params["profile"])]
    modes = files.executable_changes(scripts) if present else []
    change = Change(tab.name, "write", _shown(text), _shown(edited))
    if not check_mode:
        for mode in modes:
            files.make_executable(mode.resource)
        if change.changed:
            tab.write(after)
    missing = [path for path in scripts if present and not os.path.exists(path)]
    warnings = ["{} is missing: cron cannot start it".format(path) for path in missing]
    if command and "generate_consensus_daemon" not in PROFILES[params["profile"]]:
        warnings.append(
            "the loop needs labels, and the profile {} does not run "
            "generate_consensus_daemon".format(params["profile"])
        )
    return result([*modes, change], warnings=warnings)


def _learner_command(params: Mapping[str, Any]) -> str:
    command = params["learner_command"].strip() if params["learner"] else ""
    if params["learner"] and (not command or "\n" in command):
        raise InvalidInput(
            "learner_command is {!r}; with learner it must be one line, the command that runs "
            "iterate.yml".format(command)
        )
    return str(command)


def _scripts(profile: str) -> list[str]:
    return ["daemonNanny.sh", *(daemon + ".py" for daemon in PROFILES[profile])]


def _home_of(user: str | None) -> str:
    try:
        return (pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())).pw_dir
    except KeyError as error:
        raise InvalidInput("there is no user {} on this host".format(user)) from error


def _shown(text: str) -> str:
    """Text for a diff; what is no UTF-8 appears as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
