# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action plugin of every module of this collection: the controller's side of a step.

Each module has a file in ``plugins/action/`` whose one line names this class. A redirect in
``meta/runtime.yml`` would do the same, but with ansible-core 2.21 it makes the ``module_defaults``
of action groups reach every module.
"""

# ruff: noqa: SLF001 - an action plugin uses what ActionBase uses

from __future__ import annotations

import copy
import json
import os
import secrets
from contextlib import suppress
from typing import Any, Dict

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import connection_loader
from ansible_collections.labeller.runbook.plugins.module_utils import lease
from ansible_collections.labeller.runbook.plugins.module_utils.progress import PREFIX
from ansible_collections.labeller.runbook.plugins.plugin_utils import (
    checked,
    following,
    in_process,
    journaled,
    over_ssh,
    planned,
)

#: The modules with the option ``progress``: reading all objects takes as long as restoring them.
REPORTING = frozenset({"s3_table_backup", "s3_table_backup_info"})

#: Exit codes of a shell whose program was ended by SIGKILL or SIGTERM.
_KILLED = (137, 143)


class ActionModule(ActionBase):
    """See the module."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> Dict[str, Any]:
        """Run the module."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        variables: Dict[str, Any] = task_vars or {}
        host = str(self._task.delegate_to or variables.get("inventory_hostname", ""))
        arguments = self._arguments(host, variables)
        if self._task.async_val:
            wrap = not self._connection.has_native_async
            return {**result, **self._execute(arguments, variables, wrap_async=wrap)}
        if self._kind in following.INTERVALS and self._reports(arguments):
            result.update(self._followed(arguments, variables))
        else:
            result.update(self._execute(arguments, variables))
        if self._task.check_mode:
            checked.note(host, self._name, arguments, result)
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _arguments(self, host: str, variables: Dict[str, Any]) -> Dict[str, Any]:
        """The module's arguments: the task's own, and any that the engine adds for it.

        The only place that adds options that no playbook sets, except ``progress``. ``variables``
        are the task's: ``inventory_hostname`` and the task's name say which step this is.
        """
        arguments = dict(self._task.args)
        arguments.setdefault("journal", self._journal(variables))
        if not self._task.check_mode:
            path, uuid = self._task.get_path(), self._task._uuid
            changes = planned.of_task(path, uuid, variables)
            if changes is not None:
                arguments.setdefault("planned", changes)
            if self._name == "lease" and planned.SAVED in os.environ:
                arguments.setdefault("plan", json.loads(os.environ[planned.SAVED]))
        if self._name in ("lease", "lock"):
            arguments.setdefault("target", os.environ.get("RUNBOOK_TARGET") or host)
        if self._name == "lease":
            holder = self._templar.template(variables.get("lease_holder", ""))
            own = os.environ.get("RUNBOOK_HOLDER") or journaled.operator()
            arguments.setdefault("holder", holder or own)
            arguments.setdefault("process", os.environ.get("RUNBOOK_PROCESS", ""))
        if self._task.check_mode:
            arguments.update(checked.options(host, self._name, arguments))
        return arguments

    def _journal(self, variables: Dict[str, Any]) -> Dict[str, Any]:
        """Run and step, as the target's journal names them."""
        return {
            **journaled.of_run(),
            "task": self._task.name or self._task.action,
            "host": str(variables.get("inventory_hostname", "")),
            "module": self._name,
            "folder": self._templar.template(variables.get("journal_folder", "")),
        }

    def _execute(
        self, arguments: Dict[str, Any], variables: Dict[str, Any], *, wrap_async: bool = False
    ) -> Dict[str, Any]:
        """Run the module; again where the target is held by a run that ended on this machine."""
        done = self._executed(arguments, variables, wrap_async=wrap_async)
        process = done.pop("holder_process", "")
        if process and lease.has_ended(process):
            done = self._executed({**arguments, "ended": process}, variables)
            done.pop("holder_process", None)
        return done

    def _executed(
        self, arguments: Dict[str, Any], variables: Dict[str, Any], *, wrap_async: bool = False
    ) -> Dict[str, Any]:
        """Run the module: in this process where that makes no difference, else as Ansible does."""
        if not wrap_async and in_process.possible(self, variables):
            return in_process.call(self._task.action, arguments, self._task.check_mode)
        if not wrap_async and over_ssh.possible(self, variables):
            with suppress(over_ssh.NotStarted):  # then Ansible's own way says what is wrong
                return _with_kill_explained(over_ssh.call(self, variables, arguments))
        done: Dict[str, Any] = self._execute_module(
            module_args=arguments, task_vars=variables, wrap_async=wrap_async
        )
        return done

    def _execute_module(self, *args: Any, **kwargs: Any) -> Dict[str, Any]:
        """As Ansible's own; what a module that was killed left is no message to act on."""
        return _with_kill_explained(super()._execute_module(*args, **kwargs))

    @property
    def _kind(self) -> str:
        """The connection plugin's name, without its collection."""
        name: str = self._play_context.connection.rpartition(".")[2]
        return name.replace("smart", "ssh")

    def _reports(self, arguments: Dict[str, Any]) -> bool:
        """Whether the module reports progress, and the task says not where."""
        return self._name in REPORTING and "progress" not in arguments

    @property
    def _name(self) -> str:
        """The module's name, without its collection."""
        name: str = self._task.action.rpartition(".")[2]
        return name

    def _followed(self, arguments: Dict[str, Any], variables: Dict[str, Any]) -> Dict[str, Any]:
        """Run the module, and pass on its progress meanwhile."""
        kind = self._kind
        here = kind == "local" and not self._connection.become
        # A name that cannot be guessed; the module creates it exclusively.
        folder = following.folder() if here else "/tmp"  # noqa: S108
        path = "{}/{}{}".format(folder, PREFIX, secrets.token_hex(16))
        file = following.Local(path) if here else self._remote(kind, path, variables)
        task = self._task.name or self._task.action
        tell = following.teller(str(variables.get("inventory_hostname", "")), task)
        with following.followed(file, tell, following.INTERVALS[kind]):
            return self._execute({**arguments, "progress": path}, variables)

    def _remote(self, kind: str, path: str, variables: Dict[str, Any]) -> following.File:
        """The file as it is read over another connection with the same options."""
        connection = connection_loader.get(
            kind, self._play_context, None, task_uuid=self._task._uuid,
            ansible_playbook_pid=str(os.getppid()),
        )  # fmt: skip
        variables = variables.get("ansible_delegated_vars", {}).get(
            self._task.delegate_to, variables
        )
        names = constants.config.get_plugin_vars("connection", connection._load_name)
        given = {
            name: self._templar.template(variables[name]) for name in names if name in variables
        }
        keys = {**self._task.dump_attrs(), "timeout": self._play_context.timeout}
        keys.pop("retries", None)
        connection.set_options(task_keys=keys, var_options=given)
        if self._connection.become:
            # A copy: each command of a become plugin has a mark of its own, kept in the plugin.
            connection.set_become_plugin(copy.copy(self._connection.become))
        other = ActionModule(
            self._task, connection, self._play_context, self._loader, self._templar,
            self._shared_loader_obj,
        )  # fmt: skip
        return following.Remote(path, other)


def _with_kill_explained(done: Dict[str, Any]) -> Dict[str, Any]:
    """A module's result, with a message that says so if its process was killed."""
    if done.get("rc") in _KILLED and "module_stdout" in done:
        done["msg"] = (
            "the module's process was killed on the host before it was done (exit code {}), as "
            "the kernel does when memory runs out (dmesg). Run the same command again: it does "
            "what is missing".format(done["rc"])
        )
    return done
