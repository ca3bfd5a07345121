# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""labeller's crontab profiles (docs/labeller.md 4.1, 4.2), beside lines that others wrote."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from dataclasses import dataclass
from typing import Any, List, Mapping, NamedTuple, Sequence, Union

from . import files, loop_call, machine
from .change import Change
from .errors import InvalidInput, ModuleFailure
from .module import Params, Plan, composed

#: The switches of crontab_runner.py, in the order of its lines, and the daemon that each starts.
SWITCHES: dict[str, str] = {
    "cleanup": "cleanup_absent_worker",
    "hits": "create_hit_daemon",
    "consensus": "generate_consensus_daemon",
    "notify": "worker_notification_daemon",
    "nsites": "select_n_sites",
}

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "profile": {
        "type": "str",
        "choices": ["full", "no_n", "no_n_notifier", "standalone_f", "maintenance"],
        "default": "no_n_notifier",
    },
    **{switch: {"type": "bool"} for switch in SWITCHES},
    "home": {"type": "path", "required": True},
    "user": {"type": "str"},
    "crontab_file": {"type": "path"},
    "stopped_in_check": {"type": "bool", "default": False},
    "learner": {"type": "bool", "default": False},
    "learner_command": {"type": "str", "default": ""},
    "learner_inventory": {"type": "path", "default": ""},
    "learner_vault_password_file": {"type": "path", "default": "", "no_log": False},
    "learner_run": {"type": "dict", "default": {}},
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
_BEGIN = re.compile(r"# BEGIN labeller\.runbook( |$)")
_END = re.compile(r"# END labeller\.runbook( |$)")
# Characters that neither cron nor a shell reads as anything but themselves.
_PLAIN_PATH = re.compile(r"/[\w./@:+=,-]*")


def daemons(profile: str, switches: Mapping[str, Any]) -> tuple[str, ...]:
    """The daemons of a profile, where a switch that is not None decides in its place."""
    return tuple(
        daemon
        for switch, daemon in SWITCHES.items()
        if (daemon in PROFILES[profile] if switches.get(switch) is None else switches[switch])
    )


def title(names: Sequence[str]) -> str:
    """The profile that starts these daemons, or the switches that do."""
    for profile, of_profile in PROFILES.items():
        if set(of_profile) == set(names):
            return profile
    return " ".join(
        "{}={}".format(switch, "T" if daemon in names else "F")
        for switch, daemon in SWITCHES.items()
    )


def block(names: Sequence[str], home: str, learner_command: str = "") -> list[str]:
    """The lines that start these daemons of the checkout at ``home``, without line ends.

    Two marker lines enclose them. With ``learner_command`` one more runs that, the active-learning
    loop; calls exclude each other.
    """
    lines = [_line(home, daemon) for daemon in names]
    if learner_command:
        lines.append(_learner_line(home, learner_command))
    return [
        "# BEGIN labeller.runbook {}".format(title(names)),
        *lines,
        "# END labeller.runbook",
    ]


#: How the consensus daemon gets labeller's environment: read by bash whatever SHELL the crontab
#: sets. The assignment of SHELL that crontab_runner.py writes, for a command in the second form,
#: would reach the lines of the user that follow.
_SOURCED = "/bin/bash -c 'source {}/common/bashrc_mapper.sh; {}'"
_OLD_SOURCED = "(source {}/common/bashrc_mapper.sh;{})"


def _line(home: str, daemon: str, sourced: str = _SOURCED) -> str:
    """The line that starts a daemon; with ``_OLD_SOURCED`` as crontab_runner.py writes it."""
    command = "{0}/common/daemonNanny.sh {0}/common/{1}.py".format(home, daemon)
    if daemon == "generate_consensus_daemon":
        command = sourced.format(home, command)
    return "{} {} >>{}/log/daemonNanny.log".format(SCHEDULE, command, home)


def _learner_line(home: str, command: str) -> str:
    return "{0} flock -n {1}/log/iterate.lock {2} >>{1}/log/iterate.log 2>&1".format(
        LEARNER_SCHEDULE, home, command.replace("%", "\\%")
    )


def managed(lines: Sequence[str], home: str) -> list[bool]:
    """Which lines are runbook's or crontab_runner.py's, and may be replaced.

    Runbook's: all from a BEGIN marker to the END marker that follows, and outside of them the
    exact lines that ``block`` writes. crontab_runner.py's: its exact lines for this checkout, which
    have no markers. Every other line belongs to the user, also when it starts a daemon.
    """
    written = {
        _line(home, daemon, sourced)
        for daemon in SWITCHES.values()
        for sourced in (_SOURCED, _OLD_SOURCED)
    }
    start, end = _learner_line(home, "\0").split("\0")
    found = [
        line in written
        or (line.startswith(start) and line.endswith(end))
        or _BEGIN.match(line) is not None
        or _END.match(line) is not None
        for line in lines
    ]
    begun = None
    for number, line in enumerate(lines):
        if _BEGIN.match(line):
            begun = number
        elif _END.match(line) and begun is not None:
            found[begun:number] = [True] * (number - begun)
            begun = None
    return found


class Kept(NamedTuple):
    """A line of the user that starts a daemon of the checkout; it is not changed."""

    line: str
    daemon: str


def kept(text: str, home: str, user_home: str) -> List[Kept]:
    """The lines of the user that call daemonNanny.sh of the checkout."""
    lines = text.split("\n")
    nanny = re.compile(
        r"(?<![\w./-]){}/(?:\S*/)?daemonNanny\.sh(?:\s+\S*?(\w+)\.py)?".format(re.escape(home))
    )
    found = []
    for line, ours in zip(lines, managed(lines, home)):
        if ours or re.match(r"\s*(#|[\"']?\w+[\"']?\s*=)", line):
            continue
        expanded = re.sub(r"(~|\$HOME|\$\{HOME\})(?=/)", lambda _match: user_home, line)
        match = nanny.search(expanded)
        if match:
            found.append(Kept(line, match.group(1) or "a daemon"))
    return found


def edit(text: str, lines: Sequence[str], home: str) -> str:
    """``text`` with ``lines`` in place of the managed ones; every other line stays, where it is.

    Without managed lines so far they go to the end.
    """
    old = text.split("\n")
    if old[-1] == "":
        old.pop()
    others: list[str] = []
    place = None
    for line, ours in zip(old, managed(old, home)):
        if ours:
            place = len(others) if place is None else place
        else:
            others.append(line)
    place = len(others) if place is None else place
    if len(others) == len(old) and not lines:
        return text
    new = others[:place] + list(lines) + others[place:]
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
                "the {} differs from what was just written; is another process editing it?".format(
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


Tab = Union[CrontabFile, Crontab]


def plain_home(home: str) -> str:
    """The checkout folder in the form that crontab lines hold; InvalidInput when it cannot be."""
    if not _PLAIN_PATH.fullmatch(home):
        raise InvalidInput(
            "home is {!r}; it must be an absolute path without spaces and without characters that "
            "a shell or cron treats specially".format(home)
        )
    return os.path.normpath(home)


@dataclass(frozen=True)
class State:
    """The crontab, without what an earlier step of a check removes, and the scripts."""

    tab: Tab
    home: str
    text: str
    user_home: str
    modes: Sequence[Change]
    missing: Sequence[str]
    instance: str


def observe(params: Params) -> State:
    """Read crontab and scripts, and try what the line of the loop will need.

    Raises InvalidInput and ModuleFailure for what could not be written or would not run.
    """
    home = plain_home(params["home"])
    present = params["state"] == "present"
    if present and not os.path.isdir(os.path.join(home, "common")):
        raise InvalidInput(
            "home is {}, but there is no folder {}/common; it must be labeller's checkout".format(
                home, home
            )
        )
    tab = tab_of(params)
    text = tab.read().decode("utf-8", "surrogateescape")
    user_home = _home_of(params["user"])
    if params["stopped_in_check"]:
        text = edit(text, [], home)
    if present:
        loop_call.verify(params)
    scripts = [os.path.join(home, "common", name) for name in _scripts(params)]
    return State(
        tab,
        home,
        text,
        user_home,
        files.executable_changes(scripts),
        [path for path in scripts if not os.path.exists(path)],
        machine.instance() if present and params["learner"] else "",
    )


def plan(state: State, params: Params) -> Plan:
    """The crontab's new text, and the scripts that are made executable."""
    present, names = params["state"] == "present", _wanted(params)
    command = loop_call.command(params, state.instance) if present else ""
    edited = edit(state.text, block(names, state.home, command) if present else [], state.home)
    change = Change(state.tab.name, "write", _shown(state.text), _shown(edited))
    warnings = ["{} is missing: cron cannot start it".format(path) for path in state.missing]
    warnings += [
        _said_of(line, state.tab.name, names, present)
        for line in kept(state.text, state.home, state.user_home)
    ]
    if command and "generate_consensus_daemon" not in names:
        warnings.append(
            "the loop needs labels, and the profile {} does not run "
            "generate_consensus_daemon".format(title(names))
        )
    image = {
        "kind": "crontab",
        "crontab_file": params["crontab_file"],
        "user": params["user"],
        "before": state.text,
        "after": edited,
        "modes": [files.mode_of(mode) for mode in state.modes],
    }
    work = (state.text, edited)
    return Plan([*state.modes, change], warnings=warnings, work=work, image=image)


def apply(decided: Plan, params: Params) -> None:
    """Make the scripts executable, then write the crontab.

    It is read again: between reading and writing the loop's command was tried, for seconds.
    """
    *modes, change = decided.changes
    if change.changed:
        tab = tab_of(params)
        before, after = (text.encode("utf-8", "surrogateescape") for text in decided.work)
        files.require_same(tab.name, before, tab.read())
    for mode in modes:
        files.make_executable(mode.resource)
    if change.changed:
        tab.write(after)


#: The module crontab_profile.
run = composed(observe, plan, apply)


def tab_of(params: Params) -> Tab:
    """The crontab that is meant: ``crontab_file``, or that of ``user``."""
    return (
        CrontabFile(params["crontab_file"]) if params["crontab_file"] else Crontab(params["user"])
    )


def _wanted(params: Params) -> tuple[str, ...]:
    """The daemons that the crontab starts."""
    return daemons(params["profile"], params) if params["state"] == "present" else ()


def _scripts(params: Params) -> list[str]:
    """The scripts that cron calls, in the folder ``common``."""
    present = params["state"] == "present"
    return ["daemonNanny.sh", *(name + ".py" for name in _wanted(params))] if present else []


def _said_of(line: Kept, where: str, names: Sequence[str], present: bool) -> str:
    """A warning about a line that is kept, although it starts a daemon."""
    if not present:
        means = "cron goes on starting it; comment the line out while labeller is out of service"
    elif line.daemon in names:
        means = "the profile starts it too; remove the line"
    else:
        means = "the profile does not start it; remove the line unless that is meant"
    return "the {} starts {} by a line that runbook did not write and keeps: {}: {}".format(
        where, line.daemon, _shown(line.line), means
    )


def _home_of(user: str | None) -> str:
    try:
        return (pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())).pw_dir
    except KeyError as error:
        raise InvalidInput("there is no user {} on this host".format(user)) from error


def _shown(text: str) -> str:
    """Text for a diff; what is no UTF-8 appears as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
