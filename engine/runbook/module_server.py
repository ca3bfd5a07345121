"""Modules on this machine, without an interpreter for each.

For a task on a local host Ansible packs the module, starts an interpreter and has it import
boto3, psycopg2 and the rest anew: more than half a second a task. Here one process, forked when
the run begins, imports them once, beside ansible's own start, and forks for every module; the
module meets the same arguments, prints the same result and cannot tell the difference. Only the
collection's own modules, run by this interpreter as this user, go this way (``_served``); whatever
else a task asks for goes Ansible's.

The hook uses internals of ansible-core, so it is there for the versions it was tested with.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.processes import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable

#: Releases of ansible-core whose internals are known.
TESTED = ((2, 19),)

PREFIX = "labeller.runbook."
PACKAGE = "ansible_collections.labeller.runbook.plugins.modules"
#: What is imported at once, and then, after ``go``, while nobody asks for a module.
FIRST = ("ansible.module_utils.basic", "psycopg2", f"{PACKAGE}.pg_transaction")
SERVICES = ("s3", "ec2", "emr")
GO = b"go"


def start(collections: Path) -> socket.socket:
    """Fork the server of the collection below ``collections``; gives the way to ask it.

    Whoever inherits the socket may ask: it sends one end of a new connection over it (``call``).
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        try:
            _serve(theirs, collections)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def go(server: socket.socket) -> None:
    """Modules will be asked for: until now the processors were needed for what comes before."""
    server.send(GO)


def call(server: socket.socket, module: str, arguments: str) -> dict[str, Any]:
    """Run a module with its arguments as JSON; gives rc, stdout and stderr as a command would."""
    near, far = socket.socketpair()
    with near:
        with far:
            socket.send_fds(server, [module.encode()], [far.fileno()])
        with near.makefile("rw", encoding="utf-8") as stream:
            stream.write(arguments + "\n")
            stream.flush()
            answer = stream.readline()
    if not answer:
        return {"rc": 1, "stdout": "", "stderr": f"{PREFIX}{module} was ended from outside"}
    result: dict[str, Any] = json.loads(answer)
    return result


def tested() -> bool:
    """Whether this is an ansible-core whose internals are known."""
    from ansible import release

    return tuple(map(int, release.__version__.split(".")[:2])) in TESTED


def install(server: socket.socket) -> None:
    """Have ansible-playbook, in this process, run the modules that are served by ``server``."""
    from ansible.plugins.action import ActionBase

    ordinary = ActionBase._execute_module  # noqa: SLF001

    def execute(self: Any, module_name: Any = None, module_args: Any = None, tmp: Any = None,
                task_vars: Any = None, **options: Any) -> Any:  # fmt: skip
        name = module_name or self._task.action
        if _served(self, name, task_vars or {}, options):
            _shorten(self, server, name.removeprefix(PREFIX))
        return ordinary(self, module_name, module_args, tmp, task_vars, **options)

    ActionBase._execute_module = execute  # noqa: SLF001
    _preload_little()


def _preload_little() -> None:
    """Ansible loads all ways to reach a host and to become a user; this machine needs but these."""
    from ansible.plugins import loader

    usual = (
        (loader.connection_loader, "local"),
        (loader.shell_loader, "sh"),
        (loader.become_loader, "sudo"),
    )
    for plugins, name in usual:
        plugins.all = functools.partial(_preloaded, plugins, name, plugins.all)


def _preloaded(plugins: Any, name: str, ordinary: Any, *args: Any, **options: Any) -> Any:
    """Of the plugins' classes only that of ``name``; the others are loaded when they are used."""
    if args or options != {"class_only": True}:
        return ordinary(*args, **options)
    return [plugins.get(name, class_only=True)]


def _served(action: Any, name: str, variables: dict[str, Any], options: dict[str, Any]) -> bool:
    """Whether a task's module can run in a fork of the server as it would run by itself."""
    task = action._task  # noqa: SLF001
    interpreter = variables.get("ansible_python_interpreter")
    return (
        name.startswith(PREFIX)
        and action._connection.transport == "local"  # noqa: SLF001
        and not (task.become or task.async_val or task.delegate_to or options.get("wrap_async"))
        and not any(task.environment or ())
        and action._templar.template(interpreter) == sys.executable  # noqa: SLF001
    )


def _shorten(action: Any, server: socket.socket, module: str) -> None:
    """Replace what this action would do to build a payload and to start an interpreter."""
    from ansible.executor.module_common import _BuiltModule
    from ansible.module_utils.common.json import Direction, get_module_encoder

    asked = {}

    def configure(module_name: str, module_args: Any, task_vars: Any) -> Any:  # noqa: ARG001
        encoder = get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
        asked["arguments"] = json.dumps({"ANSIBLE_MODULE_ARGS": module_args}, cls=encoder)
        built = _BuiltModule(
            b_module_data=b"", module_style="new", shebang=f"#!{sys.executable}",
            serialization_profile="legacy",
        )  # fmt: skip
        return built, module

    def command(*_: Any, **__: Any) -> dict[str, Any]:
        result = call(server, module, asked["arguments"])
        return {**result, "stdout_lines": result["stdout"].splitlines()}

    action._configure_module = configure  # noqa: SLF001
    action._low_level_execute_command = command  # noqa: SLF001


def _serve(asked: socket.socket, collections: Path) -> None:
    """Import what modules need, then fork for each that is asked for, until nobody can ask."""
    die_with_parent()
    # Children are not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.path.insert(0, str(collections))
    # What is imported stays: the collector need not look at it, nor make the forks copy its pages.
    gc.disable()
    for module in FIRST:
        _import(module)
    if not asked.recv(len(GO)):
        return
    later = _later(collections)
    while True:
        while later and not select.select([asked], [], [], 0)[0]:
            later.pop(0)()
        gc.freeze()
        name, descriptors, _, _ = socket.recv_fds(asked, 256, 1)
        if not descriptors:
            return
        if os.fork() == 0:
            gc.enable()
            asked.close()
            die_with_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(name.decode(), socket.socket(fileno=descriptors[0]))
            os._exit(0)
        os.close(descriptors[0])


def _later(collections: Path) -> list[Callable[[], None]]:
    """What is prepared while nobody asks: each service of AWS, each module of the collection."""
    folder = collections.joinpath(*PACKAGE.split("."))
    modules = sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
    return [
        *(functools.partial(_read_service, service) for service in SERVICES),
        *(functools.partial(_import, f"{PACKAGE}.{module}") for module in modules),
    ]


def _import(module: str) -> None:
    """Import ahead; what fails is the module's to say."""
    with contextlib.suppress(ImportError):
        importlib.import_module(module)


def _read_service(service: str) -> None:
    """Have boto3 read what it knows of a service, which it keeps."""
    with contextlib.suppress(ImportError):
        import boto3

        unused = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}
        boto3.client(service, "us-east-1", **unused)


def _answer(name: str, connection: socket.socket) -> None:
    """Run one module for a connection: arguments in, a line of JSON with its output out."""
    with connection, connection.makefile("rw", encoding="utf-8") as stream:
        result = _run(name, stream.readline().encode())
        stream.write(json.dumps(result) + "\n")


def _run(name: str, arguments: bytes) -> dict[str, Any]:
    """Call a module's ``main`` as its own program would."""
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = arguments, "legacy"  # noqa: SLF001
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            importlib.import_module(f"{PACKAGE}.{name}").main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # noqa: BLE001 - as the interpreter: traceback and status 1
            traceback.print_exc()
            code = 1
    return {"rc": code, "stdout": output.getvalue(), "stderr": errors.getvalue()}
