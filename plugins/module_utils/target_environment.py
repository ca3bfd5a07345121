# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The environment that modules run in on a target, and the files of the loop's call from cron.

``PATH`` is a symbolic link to an environment in ``.NAME``, the folder beside it. A change makes a
new environment there (the action plugin does, by a shell) and then replaces the link, so that
``PATH`` is complete at any time, and a call from cron that is running keeps what it began with.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from . import files, host_python, journal
from .change import Change
from .errors import InvalidInput, ModuleFailure, Refused
from .host_python import Host, Python
from .module import Params, Plan, composed

ARGUMENTS: Dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "interpreter": {"type": "str", "required": True},
    "python": {"type": "str", "default": ""},
    "build": {"type": "str", "default": ""},
    "engine": {"type": "bool", "default": False},
    "inventory": {"type": "str", "default": ""},
    "inventory_source": {"type": "str", "default": ""},
    "vault_password_file": {"type": "str", "default": "", "no_log": False},
    "vault_password_source": {"type": "str", "default": "", "no_log": False},
    "packages": {"type": "dict", "default": {}},
    "engine_sha256": {"type": "str", "default": ""},
    "oldest": {"type": "str", "default": "3.8"},
    "built": {
        "type": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "machine": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "mode": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "content": {"type": "str", "no_log": True, "default": ""},
        },
    },
    "made": {"type": "str", "default": ""},
}

#: What there are wheels for: the newest Python, the oldest glibc, machines.
NEWEST = (3, 13)
GLIBC = (2, 17)
MACHINES = ("x86_64", "aarch64")
#: The oldest Python of the engine.
ENGINE = (3, 11)
#: The engine's package.
RUNBOOK = "labeller-runbook"
#: Seconds after which what a killed run left of an environment is removed.
_LEFTOVER = 3600
#: Packages of an environment that nothing depends on.
_UNNAMED = ("pip", "setuptools", "wheel")
#: The names of environments in ``base_of``, and of new links to them. Others are the user's: the
#: folder of ``~/local/bin/python`` is ~/.local.
_MADE = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}(\.link)?")
_INTERPRETER = re.compile(r"(/[^/\s]+(?:/[^/\s]+)*)/bin/python3?")


def path_of(params: Params) -> str:
    """The environment's path, by that of its interpreter; InvalidInput for one that is none."""
    given = params["interpreter"]
    match = _INTERPRETER.fullmatch(given)
    if not match or os.path.normpath(given) != given:
        raise InvalidInput(
            "ansible_python_interpreter is {!r}; set it in the inventory to where the environment "
            "for modules is to be, PATH/bin/python with an absolute PATH, such as "
            "/home/mapper/runbook/bin/python".format(given)
        )
    return match.group(1)


def base_of(path: str) -> str:
    """The folder with the environments that ``path`` links to."""
    return os.path.join(os.path.dirname(path), "." + os.path.basename(path))


def script(params: Params, *, search: bool) -> str:
    """The script for ``host_python.parsed`` with all that ``plan`` needs."""
    path = path_of(params)
    folder = (params.get("journal") or {}).get("folder") or "{}/{}".format("~", journal.FOLDER)
    paths = [each["path"] for each in params["files"]]
    places = [folder, *dict.fromkeys(os.path.dirname(each) for each in [path, *paths])]
    given = "" if params["built"] else params["python"]
    return host_python.script(path, given, places, paths, search=search)


def observe(params: Params) -> Host:
    """This host."""
    return observed(_run, params)


def observed(run: Callable[[str], str], params: Params) -> Host:
    """The host by ``run``, which takes a script and gives its output.

    Other Pythons than the environment's are searched for only if one of them is needed.
    """
    host = host_python.parsed(run(script(params, search=False)))
    works = host.python is not None and bool(host.python.version)
    chosen = params["built"] or params["python"] or _kept(host, params)
    if works if params["state"] == "absent" else chosen:
        return host
    return host_python.parsed(run(script(params, search=True)))


def _run(text: str) -> str:
    done = subprocess.run(
        ["/bin/sh", "-s"], input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout.decode("utf-8", "replace")


def plan(host: Host, params: Params) -> Plan:
    """The environment's change and those of the files; refuses what cannot be made."""
    path = path_of(params)
    present = params["state"] == "present"
    before = _before(host)
    own = os.path.basename(base_of(path)) + "/"
    if host.other or (host.link and not host.link.startswith(own)):
        raise Refused(
            "{} is there, and bootstrap.yml did not make it: move it away (mv {} {}.old), or name "
            "another path by ansible_python_interpreter".format(path, path, path)
        )
    if not present and host.cron and RUNBOOK in host.packages:
        raise Refused(
            "the crontab still calls {}/bin/runbook: take labeller out of service first "
            "(runbook apply shutdown.yml)".format(path)
        )
    after = _after(wanted(host, params), params) if present else ""
    action = "remove" if not present else "replace" if before else "write"
    changes = [Change(path, action, before, after), *_file_changes(host, params)]
    _require_writable(host, [each.resource for each in changes if each.changed])
    return Plan(changes, facts={"interpreter": path + "/bin/python" if present else ""})


def wanted(host: Host, params: Params) -> Python:
    """The Python that the environment is made of; of a standalone build the path is empty.

    Raises Refused when the host has none that will do.
    """
    path = path_of(params)
    if params["engine"] and path != os.path.join(host.home, "runbook"):
        raise Refused(
            "the crontab calls runbook of $HOME/runbook, and ansible_python_interpreter is {}: set "
            "it to {}/runbook/bin/python, or give learner_command".format(
                params["interpreter"], host.home
            )
        )
    if host.machine not in MACHINES:
        raise Refused(
            "the host is a {}; there are wheels for {}".format(host.machine, " and ".join(MACHINES))
        )
    if params["built"]:
        return _built(host, params)
    kept = _kept(host, params)
    usable = [each for each in host.pythons if not _problem(each, params)]
    if not (kept or usable):
        raise Refused(_none(host, params))
    return kept or max(usable, key=lambda each: each.minor)


def runner(host: Host, params: Params, made: str) -> str:
    """The interpreter that runs this module: of the new environment, or one that is there.

    Raises Refused when there is none.
    """
    path = path_of(params)
    if made:
        return os.path.join(base_of(path), made, "bin/python")
    if host.python and host.python.version:
        return path + "/bin/python"
    usable = [each for each in host.pythons if not _problem(each, {**params, "engine": False})]
    if not usable:
        raise Refused(
            "the host has no Python to write the journal with; remove the environment by hand: "
            "rm -r {} {}/2*T*-*".format(path, base_of(path))
        )
    return max(usable, key=lambda each: each.minor).path


def requirements(python: Python, params: Params) -> List[str]:
    """The packages of an environment of this Python, as ``NAME==VERSION``."""
    return list(params["packages"]["{}.{}".format(*python.minor)])


def _built(host: Host, params: Params) -> Python:
    """The standalone build's Python."""
    built = params["built"]
    python = Python("", built["version"])
    problem = _problem(python, params)
    if built["machine"] != host.machine:
        problem = "it is for {}, and the host is a {}".format(built["machine"], host.machine)
    if problem:
        raise Refused(
            "target_python_build is {}, Python {}: {}; needed is Python {}".format(
                built["name"], built["version"], problem, _range(params)
            )
        )
    return python


def _kept(host: Host, params: Params) -> Optional[Python]:
    """The Python of the present environment, if that will do; another one is not looked for."""
    source = host.about.get("python", "")
    if host.python is None or not source.startswith("/") or params["python"]:
        return None
    python = Python(source, host.python.version, host.python.libc, host.python.problem)
    return None if _problem(python, params) else python


def _oldest(params: Params) -> Tuple[int, int]:
    major, minor = map(int, params["oldest"].split("."))
    return max((major, minor), ENGINE) if params["engine"] else (major, minor)


def _range(params: Params) -> str:
    return "{}.{} to {}.{}".format(*_oldest(params), *NEWEST)


def _problem(python: Python, params: Params) -> str:
    """Why an environment cannot be made of a Python; empty if it can."""
    if not python.version:
        return python.problem
    if python.minor < _oldest(params):
        return "too old"
    if python.minor > NEWEST:
        return "too new"
    if python.problem:
        return python.problem
    libc = re.fullmatch(r"glibc (\d+)\.(\d+).*", python.libc)
    if python.path and not (libc and (int(libc.group(1)), int(libc.group(2))) >= GLIBC):
        return "its C library is {}, not glibc {}.{} or later".format(
            python.libc or "no glibc", *GLIBC
        )
    return ""


def _none(host: Host, params: Params) -> str:
    """The message for a host without a Python that will do."""
    found = [
        Python(each.path, each.version, problem=_problem(each, params)) for each in host.pythons
    ]
    if params["python"]:
        what = "target_python is {}, which cannot be used".format(params["python"])
    elif params["engine"]:
        what = (
            "the host has no Python {}, which runbook itself needs for the loop's call from "
            "cron".format(_range(params))
        )
    else:
        what = "the host has no Python {} that an environment can be made of".format(_range(params))
    ways = ["Install one", "give a standalone build of Python as a file (target_python_build)"]
    if params["engine"]:
        ways.append("set learner_loop to false, or give learner_command")
    return "{}; found: {}. {}".format(what, host_python.shown(found), ", or ".join(ways))


def _before(host: Host) -> str:
    """The environment that is there, as text; empty for none."""
    if not host.link:
        return ""
    python = host.python.version if host.python and host.python.version else "does not start"
    packages = {name: host.packages[name] for name in host.packages if name not in _UNNAMED}
    return _text(python, host.about.get("python", ""), packages, host.about.get("engine", ""))


def _after(python: Python, params: Params) -> str:
    packages = host_python.versions(requirements(python, params))
    return _text(python.version, source_of(python, params), packages, params["engine_sha256"])


def source_of(python: Python, params: Params) -> str:
    """Where an environment's Python comes from."""
    if python.path:
        return python.path
    return "{}, SHA-256 {}".format(params["built"]["name"], params["built"]["sha256"])


def _text(python: str, source: str, packages: Mapping[str, str], engine: str) -> str:
    lines = ["Python {} ({})".format(python, source)]
    for name in sorted(packages):
        of = " (SHA-256 {})".format(engine) if name == RUNBOOK and engine else ""
        lines.append("{} {}{}".format(name, packages[name], of))
    return "".join(line + "\n" for line in lines)


def _file_changes(host: Host, params: Params) -> Iterator[Change]:
    """The files put there, or with ``absent`` removed if they are as they were put there.

    They may hold passwords, so no text has a digest of their content.
    """
    for each in params["files"]:
        path, now = each["path"], host.files.get(each["path"])
        same = now is not None and now.sha256 == each["sha256"]
        before = _file_text(now.mode.zfill(4), same=same) if now else ""
        after = _file_text(each["mode"], same=True)
        if params["state"] == "absent":
            after = "" if same else before
        mark = _mark(path, now.sha256 if now else "", each["sha256"]) if before != after else ""
        action = "write" if params["state"] == "present" else "remove"
        yield Change(path, action, before, after, fingerprint=mark)


def _file_text(mode: str, *, same: bool) -> str:
    return "mode {}, {}\n".format(mode, "the operator's content" if same else "other content")


def _mark(path: str, *digests: str) -> str:
    """A digest of digests that is slow to find the contents by."""
    whole = " ".join(digests).encode()
    return hashlib.pbkdf2_hmac("sha256", whole, path.encode(), 100_000).hex()


def _require_writable(host: Host, paths: List[str]) -> None:
    """Raise ModuleFailure where this user cannot make a change, or its entry in the journal."""
    journals = next(iter(host.places))
    needed = {os.path.dirname(path) for path in paths} | ({journals} if paths else set())
    for path, place in host.places.items():
        if path in needed and not place.writable:
            raise ModuleFailure(
                "cannot write {}: this user may not write {}".format(path, place.there)
            )
    for path in paths:
        if path in host.files and not host.files[path].own:
            raise ModuleFailure(
                "cannot write {}: it is no regular file, or another user's".format(path)
            )


def apply(decided: Plan, params: Params) -> None:
    """Write or remove the files, then the link to the environment."""
    path = path_of(params)
    environment, *changes = decided.changes
    contents = {each["path"]: each for each in params["files"]}
    for change in changes:
        if change.changed:
            _put(contents[change.resource], present=bool(change.after))
    if environment.changed and environment.after:
        _switch(path, params["made"])
    elif environment.changed:
        # The link last: a run that is killed here has left a change for the next one to find.
        for name in _made(base_of(path)):
            shutil.rmtree(os.path.join(base_of(path), name))
        with suppress(OSError):  # there is none, or it holds something of the user's
            os.rmdir(base_of(path))
        os.unlink(path)
        files.sync_folder(os.path.dirname(path))


def _put(file: Mapping[str, Any], *, present: bool) -> None:
    if not present:
        os.unlink(file["path"])
        return
    files.make_private(os.path.dirname(file["path"]))
    files.replace(file["path"], base64.b64decode(file["content"]), int(file["mode"], 8))


def _made(base: str) -> List[str]:
    """The names of the environments in a folder, and of links that a killed run left there."""
    names = os.listdir(base) if os.path.isdir(base) else []
    return [name for name in names if _MADE.fullmatch(name)]


def _switch(path: str, made: str) -> None:
    """Have ``path`` link to the environment ``made``; remove what no run uses any longer."""
    base = base_of(path)
    if not made or not os.path.isfile(os.path.join(base, made, host_python.ABOUT)):
        raise ModuleFailure("{} has no complete environment {!r}".format(base, made))
    before = os.path.basename(os.readlink(path)) if os.path.islink(path) else ""
    temporary = os.path.join(base, made + ".link")
    os.symlink(os.path.join(os.path.basename(base), made), temporary)
    os.replace(temporary, path)
    files.sync_folder(os.path.dirname(path))
    for name in _made(base):
        left = os.path.join(base, name)
        old = os.lstat(left).st_mtime < time.time() - _LEFTOVER
        if not old or name in (made, before):
            continue
        if os.path.islink(left):
            os.unlink(left)
        else:
            shutil.rmtree(left, ignore_errors=True)


#: The module target_environment.
run = composed(observe, plan, apply)
