# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's side of the module target_environment.

A host may have no Python that could run a module. So its state is read by a shell, the plan is made
here, and a check needs no more. A real run makes the new environment beside the one that is used,
by a shell; the module, run by the new environment's own Python, compares once more with the plan,
writes the journal and puts the environment in place.
"""

from __future__ import annotations

import json
import secrets
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.release import __version__ as core_version
from ansible_collections.labeller.runbook.plugins.module_utils import (
    held,
    host_python,
    target_environment,
)
from ansible_collections.labeller.runbook.plugins.module_utils.change import result
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
)
from ansible_collections.labeller.runbook.plugins.module_utils.host_python import Host
from ansible_collections.labeller.runbook.plugins.modules.target_environment import MODULE
from ansible_collections.labeller.runbook.plugins.plugin_utils import (
    action,
    cron_files,
    python_build,
    wheels,
)

Params = Dict[str, Any]

#: How much larger a build of Python is when it is unpacked.
_UNPACKED = 5
#: Lines of the host's output that an error repeats.
_LINES = 12

#: What a disk says that has no room, and what to do.
_FULL = ("No space left on device", "Disk quota exceeded")
_ROOM = "Free some of the disk, or name a path on another one by ansible_python_interpreter"

#: Makes an environment in the folder ``new``, which has the wheels, and perhaps a build of Python.
_MAKE = r"""
set -eu
umask 022
cd "$new"
here=$(pwd)
unset PYTHONHOME PYTHONPATH
TMPDIR=$here/tmp
export TMPDIR
mkdir tmp
if [ -z "$python" ]; then
    mkdir build
    gzip -dc build.tar.gz | tar -xf - -C build
    rm build.tar.gz
    python=$here/build/python/bin/python3
fi
"$python" -E -s -m venv --without-pip "$here"
pip() { "$here/bin/python" -E -s "$here/wheels/$installer/pip" --isolated "$@"; }
pip install --quiet --no-index --no-deps --no-cache-dir --disable-pip-version-check \
    --no-warn-script-location wheels/install/*.whl
pip check --disable-pip-version-check
bin/python -E -s -c 'import boto3, psycopg2, yaml, zstandard'
if [ -n "$engine" ]; then bin/runbook --version; fi
rm -rf wheels tmp
printf 'python=%s\nengine=%s\n' "$source" "$engine" >"$about"
sync
"""


class ActionModule(action.ActionModule):
    """See the module."""

    _supports_async = False

    def _execute(
        self,
        arguments: Dict[str, Any],
        variables: Dict[str, Any],
        *,
        wrap_async: bool = False,  # noqa: ARG002
    ) -> Dict[str, Any]:
        """Make the environment; in a check say only how it would change."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                given = json.loads(json.dumps(arguments))
                return self._made(given, variables, Path(folder))
        except ModuleFailure as error:
            return {"failed": True, "msg": str(error), "error_kind": error.kind}

    def _made(self, given: Params, variables: Mapping[str, Any], folder: Path) -> Dict[str, Any]:
        """The result, with ``folder`` for temporary files."""
        params = _validated(given)
        own = _of_controller(params, variables)
        params.update(own)
        host = target_environment.observed(self._output, params)
        decided = target_environment.plan(host, params)
        environment = decided.changes[0]
        parts: List[Path] = []
        if environment.changed and environment.after:
            parts = _parts(host, params, folder)
            _require_room(host, parts, params)
        if not self._task.check_mode:
            held.require(params["planned"], decided.changes)
        if self._task.check_mode or not any(change.changed for change in decided.changes):
            return result(decided.changes, **decided.facts)
        made = _name() if parts else ""
        done: Dict[str, Any] = {"failed": True}
        try:
            if made:
                self._make(made, parts, host, params)
            done = self._execute_module(
                module_args={**given, **own, "made": made},
                task_vars={
                    **variables,
                    "ansible_python_interpreter": target_environment.runner(host, params, made),
                },
            )
        finally:
            if made and done.get("failed"):
                self._remove(made, params)
        return done

    def _make(self, made: str, parts: Sequence[Path], host: Host, params: Params) -> None:
        """Make the new environment."""
        python = target_environment.wanted(host, params)
        base = target_environment.base_of(target_environment.path_of(params))
        new = "{}/{}".format(base, made)
        self._sh("umask 022 && mkdir -p {0} && mkdir {1} {1}/wheels {1}/wheels/install".format(
            *map(shlex.quote, (base, new))
        ))  # fmt: skip
        for path in parts:
            self._put(path, "{}/{}".format(new, _place(path)))
        variables = {
            "new": new,
            "python": python.path,
            "installer": next(path.name for path in parts if path.name.startswith("pip-")),
            "engine": params["engine_sha256"],
            "about": host_python.ABOUT,
            "source": target_environment.source_of(python, params),
        }
        lines = ["{}={}".format(name, shlex.quote(value)) for name, value in variables.items()]
        self._sh("\n".join([*lines, _MAKE]))

    def _remove(self, made: str, params: Params) -> None:
        """Remove what there is of a new environment."""
        base = shlex.quote(target_environment.base_of(target_environment.path_of(params)))
        self._run("rm -rf {0}/{1}; rmdir {0} 2>/dev/null || true".format(base, made))

    def _put(self, path: Path, there: str) -> None:
        """Write a file on the host. What is sent is read to its end also when it cannot be kept."""
        line = "umask 022; cat >{} || {{ cat >/dev/null; exit 1; }}".format(shlex.quote(there))
        done = self._low_level_execute_command(
            "/bin/sh -c {}".format(shlex.quote(line)), in_data=path.read_bytes()
        )
        if done["rc"]:
            raise _unmade(there, done)

    def _sh(self, script: str) -> None:
        done = self._run(script)
        if done["rc"]:
            raise _unmade("the environment", done)

    def _output(self, script: str) -> str:
        done = self._run(script)
        return str(done["stdout"]) or str(done["stderr"])

    def _run(self, script: str) -> Mapping[str, Any]:
        """Run a script by the host's /bin/sh, whatever the user's own shell is."""
        done: Mapping[str, Any] = self._low_level_execute_command(
            "/bin/sh -s", in_data=script.encode()
        )
        return done


def _validated(given: Mapping[str, Any]) -> Params:
    checked = ArgumentSpecValidator(MODULE.argument_spec).validate(given)
    if checked.error_messages:
        raise InvalidInput(checked.error_messages[0])
    params: Params = checked.validated_parameters
    return params


def _of_controller(params: Params, variables: Mapping[str, Any]) -> Params:
    """The options that say what this machine has to offer."""
    target_environment.path_of(params)  # or InvalidInput, before anything is read
    own: Params = {"oldest": "3.9" if _core() >= (2, 20) else "3.8", "packages": {}}
    engine = params["engine"] and params["state"] == "present"
    if engine:
        own["engine_sha256"] = wheels.digest(wheels.engine())
    for minor in range(8, target_environment.NEWEST[1] + 1):
        with_engine = engine and (3, minor) >= target_environment.ENGINE
        version = "3.{}".format(minor)
        own["packages"][version] = wheels.pins(version, engine=with_engine)
        if with_engine:
            package = "{}=={}".format(target_environment.RUNBOOK, wheels.engine_version())
            own["packages"][version].append(package)
    if params["build"] and params["state"] == "present":
        own["built"] = python_build.about(params["build"])
    hosts = len(variables.get("groups", {}).get("all", ()))
    own["files"] = cron_files.of(params, str(variables.get("inventory_hostname", "")), hosts)
    return own


def _core() -> tuple[int, ...]:
    return tuple(map(int, core_version.split(".")[:2]))


def _parts(host: Host, params: Params, folder: Path) -> List[Path]:
    """The files that an environment is made of: wheels, and the build of Python if there is one."""
    python = target_environment.wanted(host, params)
    needed = [
        each
        for each in target_environment.requirements(python, params)
        if not each.startswith(target_environment.RUNBOOK + "==")
    ]
    version, machine = "{}.{}".format(*python.minor), host.machine
    parts = wheels.downloaded(needed, version, machine)
    if params["engine"]:
        parts.append(wheels.packed(wheels.engine(), folder))
    if params["built"]:
        parts.append(Path(params["build"]).expanduser())
    return parts


def _place(path: Path) -> str:
    """Where a part is put below the new environment."""
    if path.suffix != ".whl":
        return "build.tar.gz"
    return "wheels/" + ("" if path.name.startswith("pip-") else "install/") + path.name


def _require_room(host: Host, parts: Sequence[Path], params: Params) -> None:
    """Raise ModuleFailure where the disk has less free than the new environment takes."""
    path = target_environment.path_of(params)
    place = host.places[str(Path(path).parent)]
    archives = [each for each in parts if each.suffix != ".whl"]
    needed = wheels.unpacked([each for each in parts if each.suffix == ".whl"])
    needed += sum(each.stat().st_size * _UNPACKED for each in archives)
    if place.free is not None and place.free < needed:
        raise ModuleFailure(
            "the disk of {} is full: {:.0f} MB are free, and the environment takes {:.0f} MB; "
            "nothing was changed. {}".format(place.there, place.free / 1e6, needed / 1e6, _ROOM)
        )


def _unmade(what: str, done: Mapping[str, Any]) -> ModuleFailure:
    said = "{}\n{}".format(done["stdout"], done["stderr"]).strip().splitlines()[-_LINES:]
    full = any(word in line for word in _FULL for line in said)
    return ModuleFailure(
        "cannot make {} on the host; what is there now stays as it is:{}{}".format(
            what, "".join("\n  " + line for line in said), "\n" + _ROOM if full else ""
        )
    )


def _name() -> str:
    """A name for a new environment, by the time."""
    return "{}-{}".format(time.strftime("%Y%m%dT%H%M%S", time.gmtime()), secrets.token_hex(3))
