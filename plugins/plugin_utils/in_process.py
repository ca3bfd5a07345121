# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs a module in Ansible's own worker process, where it would run as this user anyway.

For a task on a local host Ansible packs the module, starts an interpreter and has it import boto3,
psycopg2 and the rest: more than half a second a task. Ansible forks a worker process for every task
too. When the process that forks has imported the modules (``preload``), the worker can call them.
"""

# ruff: noqa: SLF001 - part of an action plugin, which uses what ActionBase uses

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, SourceFileLoader
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Optional

from ansible_collections.labeller.runbook.plugins.module_utils import module_server

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from ansible.plugins.action import ActionBase

#: Set by the engine for a run on local hosts.
VARIABLE = "RUNBOOK_IN_PROCESS"
PLUGINS = "ansible_collections.labeller.runbook.plugins."
MODULES = PLUGINS + "modules"


class Compiled(MetaPathFinder):
    """Finds the files of this collection for Python's own loader, which keeps their bytecode.

    Ansible's loader of collections compiles every file anew in each process.
    """

    def find_spec(self, fullname: str, path: Any, _target: Any = None) -> Optional[ModuleSpec]:
        """Where a module lies; None for others, and for folders, which are left to Ansible."""
        folders = [*path] if path and fullname.startswith(PLUGINS) else []
        finders = [FileFinder(folder, (SourceFileLoader, [".py"])) for folder in folders]
        found = [finder.find_spec(fullname) for finder in finders]
        return next((spec for spec in found if spec is not None and spec.has_location), None)


def possible(action: ActionBase, variables: Mapping[str, Any]) -> bool:
    """Whether the module would run on this machine, as this user, with this interpreter."""
    return (
        os.environ.get(VARIABLE) == "1"
        and action._connection.transport == "local"
        and is_plain(action)
        and action._templar.template(variables.get("ansible_python_interpreter")) == sys.executable
    )


def is_plain(action: ActionBase) -> bool:
    """Whether nothing about a task asks for Ansible's own way, here or on its host.

    A task with an environment or a timeout gets a process of its own: the one must not stay in the
    process that runs modules, and the other must be able to end the module at any point.
    """
    task = action._task
    asks = task.async_val or task.delegate_to or task.timeout or any(task.environment or ())
    return not (asks or action._connection.become)


def call(action: str, arguments: Mapping[str, Any], check_mode: bool) -> Dict[str, Any]:
    """The result of the module that the task names as its ``action``."""
    # Ansible's values know where they came from; a module's are plain.
    plain = json.loads(json.dumps(arguments))
    module = importlib.import_module("{}.{}".format(MODULES, action.rpartition(".")[2])).MODULE
    try:
        with _ended_by_signals():
            result: Dict[str, Any] = module.call(action, plain, check_mode)
            return result
    except Exception as error:  # noqa: BLE001 - as of a process of its own: failed, its traceback
        return module_server.failure(error)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a signal end this process at once, as it would end a module's own.

    Ansible's handler would run only when psycopg2 returns: after the wait for a lock, or not before
    a transaction that was reported to the operator as interrupted has been committed.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def preload() -> None:
    """Import all modules, and have boto3 read what it knows of the services that they call."""
    if not any(isinstance(finder, Compiled) for finder in sys.meta_path):
        sys.meta_path.insert(0, Compiled())
    package = importlib.import_module(MODULES)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module("{}.{}".format(MODULES, module.name))
    importlib.import_module(PLUGINS + "module_utils.aws").preload()
