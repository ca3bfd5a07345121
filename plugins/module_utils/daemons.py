# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""labeller's daemons as processes: find, stop, start them (docs/labeller.md 4.3, 4.6)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence

from . import files
from .change import Change
from .errors import InvalidInput, ModuleFailure
from .module import Params, Plan, composed

NAMES = (
    "assignment_notification_daemon",
    "cleanup_absent_worker",
    "create_hit_daemon",
    "generate_consensus_daemon",
    "select_n_sites",
    "worker_notification_daemon",
)

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["started", "stopped"], "required": True},
    "home": {"type": "path", "required": True},
    "names": {"type": "list", "elements": "str", "choices": list(NAMES)},
    "timeout": {"type": "int", "default": 10},
    "settle": {"type": "float", "default": 1.0},
    "stopped_in_check": {"type": "list", "elements": "str", "default": []},
}

_INTERPRETER = re.compile(r"(python[\d.]*|bash|sh|dash)$")
_POLL = 0.02


@dataclass(frozen=True, order=True)
class Process:
    """A running daemon, or the Nanny that looks after it (``role``)."""

    name: str
    role: str
    pid: int

    def __str__(self) -> str:
        return "{}{} pid {}".format(self.name, "" if self.role == "daemon" else " nanny", self.pid)


def find(home: str, names: Sequence[str]) -> list[Process]:
    """The processes that run a script of ``names`` below ``home``/common, in a fixed order.

    Only those of this user, unless it is root, and none of a container. Scripts started by a
    relative path are found by the process's working directory; a Nanny counts when its argument is
    one of the scripts.
    """
    common = os.path.realpath(os.path.join(home, "common"))
    scripts = {os.path.join(common, name + ".py"): name for name in names}
    nanny = os.path.join(common, "daemonNanny.sh")
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        paths = _script_and_argument("/proc/" + entry)
        if paths and paths[0] in scripts:
            found.append(Process(scripts[paths[0]], "daemon", int(entry)))
        elif len(paths) > 1 and paths[0] == nanny and paths[1] in scripts:
            found.append(Process(scripts[paths[1]], "nanny", int(entry)))
    return sorted(found)


def _script_and_argument(process: str) -> list[str]:
    """Real paths of the script that ``process`` runs and of its first argument; empty if none."""
    try:
        if os.geteuid() not in (0, os.stat(process).st_uid) or _machine(process) != _machine():
            return []
        with open(process + "/cmdline", "rb") as file:
            arguments = [os.fsdecode(part) for part in file.read().split(b"\0")[:-1]]
        folder = os.readlink(process + "/cwd")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return []  # ended meanwhile, or of another user
    if arguments and _INTERPRETER.match(os.path.basename(arguments[0])):
        arguments = _after_options(arguments[1:])
    return [os.path.realpath(os.path.join(folder, part)) for part in arguments[:2]]


def _machine(process: str = "/proc/self") -> tuple[str, str]:
    """Root and process namespace: other ones are those of a container, whose paths mean others."""
    return os.readlink(process + "/root"), os.readlink(process + "/ns/pid")


def _after_options(arguments: Sequence[str]) -> list[str]:
    """The arguments after the interpreter's options; none for ``-c`` and ``-m``."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        if rest[0] in ("-c", "-m"):
            return []
        del rest[: 2 if rest[0] in ("-W", "-X") else 1]
    return rest


def stop(home: str, names: Sequence[str], timeout: float) -> None:
    """End the processes: SIGTERM, SIGKILL after ``timeout`` seconds; returns when none is left.

    Nannies go too, since one in flight would start its daemon again. Raises ModuleFailure when a
    process cannot be ended.
    """
    patience = time.monotonic() + timeout
    limit = patience + timeout
    asked: set[Process] = set()
    running = find(home, names)
    while running:
        now = time.monotonic()
        if now > limit:
            raise ModuleFailure(
                "these processes do not end, not even by SIGKILL: {}".format(
                    ", ".join(map(str, running))
                )
            )
        for process in running:
            if now > patience:
                _signal(process, signal.SIGKILL)
            elif process not in asked:
                _signal(process, signal.SIGTERM)
                asked.add(process)
        time.sleep(_POLL)
        running = find(home, names)


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ModuleFailure("not allowed to end {}".format(process)) from error


def start(home: str, name: str, settle: float) -> None:
    """Start a daemon, detached from this process, its output appended to log/NAME.oe.log.

    The pid goes to log/NAME.pid, where daemonNanny.sh looks. Raises ModuleFailure when the daemon
    ends within ``settle`` seconds.
    """
    output = os.path.join(home, "log", name + ".oe.log")
    script = _script(home, name)
    try:
        with open(output, "ab") as log:
            process = subprocess.Popen(
                [*_interpreter(script), script],
                cwd=os.path.join(home, "log"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=dict(os.environ, PYTHONUNBUFFERED="1"),
            )
    except OSError as error:
        raise ModuleFailure("cannot start {}: {}".format(script, error.strerror)) from error
    files.replace(_pid_file(home, name), "{}\n".format(process.pid).encode(), 0o644)
    try:
        code = process.wait(settle)
    except subprocess.TimeoutExpired:
        return
    raise ModuleFailure(
        "{} ended at once with status {}; its last words are in {}".format(script, code, output)
    )


def _interpreter(script: str) -> list[str]:
    """The interpreter of a script's first line; git keeps some without the execute bit."""
    with open(script, "rb") as file:
        line = os.fsdecode(file.readline())
    if not line.startswith("#!"):
        raise InvalidInput("{} has no #! line that says what runs it".format(script))
    return line[2:].strip().split(None, 1)


@dataclass(frozen=True)
class State:
    """The processes that run, without those that earlier steps of a check stop, and the pid files.

    ``scripts``: SHA-256 of those that are to run.
    """

    running: Sequence[Process]
    pid_files: Sequence[str]
    scripts: Mapping[str, str]


def observe(params: Params) -> State:
    """Find the daemons. Raises InvalidInput for those that could not be started."""
    home = _home(params)
    scripts: Dict[str, str] = {}
    if params["state"] == "started":
        _require_startable(home, params["names"])
        for name in sorted(set(params["names"])):
            content = files.read(_script(home, name)) or b""
            scripts[name] = hashlib.sha256(content).hexdigest()
    names = sorted(set(params["names"] or NAMES).difference(params["stopped_in_check"] or ()))
    pid_files = [_pid_file(home, name) for name in names]
    there = [path for path in pid_files if os.path.exists(path)]
    return State(find(home, names), there, scripts)


def _require_startable(home: str, names: Optional[Sequence[str]]) -> None:
    if not names:
        raise InvalidInput("names is missing; name the daemons to start")
    for name in sorted(set(names)):
        script = _script(home, name)
        if not os.path.isfile(script):
            raise InvalidInput("there is no {}; home must be labeller's checkout".format(script))
    if not os.path.isdir(os.path.join(home, "log")):
        raise InvalidInput("there is no folder {}/log for the daemons' output".format(home))


def plan(state: State, params: Params) -> Plan:
    """Which daemons are stopped, or which ones started.

    Cron starts them and they end without runbook, so what runs is volatile; what must be as planned
    are the scripts that are to run.
    """
    daemons = [each.name for each in state.running if each.role == "daemon"]
    if params["state"] == "stopped":
        stopping = _stopping(state, _home(params))
        return Plan([stopping], {"stopped": daemons}, image=_image(params, daemons, []))
    names = sorted(set(params["names"]))
    starting = [name for name in names if name not in daemons]
    line = "{} running\n".format
    change = Change(
        "daemons of {}".format(_home(params)),
        "start",
        "".join(line(name) for name in names if name in daemons),
        "".join(line(name) for name in names),
        {"processes": len(starting)},
        json.dumps(state.scripts, sort_keys=True),
        volatile=True,
    )
    before = [name for name in names if name in daemons]
    return Plan([change], {"started": starting}, image=_image(params, before, names))


def _image(params: Params, before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    """Which of the step's daemons ran before it, and run after it."""
    return {
        "kind": "daemons",
        "home": _home(params),
        "before": list(before),
        "after": list(after),
    }


def _stopping(state: State, home: str) -> Change:
    lines = [str(process) for process in state.running] + list(state.pid_files)
    return Change(
        "daemons of {}".format(home),
        "stop",
        "".join(line + "\n" for line in lines),
        "",
        {"processes": len(state.running)},
        "any processes",
        volatile=True,
    )


def apply(decided: Plan, params: Params) -> None:
    """Stop all that run by now, or start those of the plan."""
    home = _home(params)
    if params["state"] == "started":
        for name in decided.facts["started"]:
            start(home, name, params["settle"])
        return
    names = sorted(params["names"] or NAMES)
    stop(home, names, params["timeout"])
    for name in names:
        _remove(_pid_file(home, name))


#: The module daemons.
run = composed(observe, plan, apply)


def _home(params: Params) -> str:
    return os.path.realpath(str(params["home"]))


def _remove(path: str) -> None:
    """Remove a pid file; a daemon that ends, or another operator, may have done so already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModuleFailure("cannot remove {}: {}".format(path, error.strerror)) from error


def _script(home: str, name: str) -> str:
    return os.path.join(home, "common", name + ".py")


def _pid_file(home: str, name: str) -> str:
    return os.path.join(home, "log", name + ".pid")
