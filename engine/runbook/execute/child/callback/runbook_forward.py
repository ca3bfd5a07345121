"""The callback that other callbacks get their events from: those that the operator enables by name.

It loads them itself, so that Ansible calls this one alone, and hands on each event with the secrets
of results, of tasks and of statistics masked as in runbook's own events.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.playbook.base import Base
from ansible.playbook.task import Task
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import callback_loader

from runbook.events.redaction import Redactor
from runbook.execute.child import channel

DOCUMENTATION = """
name: runbook_forward
type: notification
short_description: Hands redacted events on to the callbacks that are enabled by name
description:
  - Loads the callbacks of C(RUNBOOK_CALLBACKS), and calls each with copies that hold no secret.
version_added: "0.1.0"
"""

#: Events with arguments that cannot be masked: an include's variables, a question for a password.
NOT_FORWARDED = frozenset({"v2_on_any", "v2_playbook_on_include", "v2_playbook_on_vars_prompt"})


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """See the module. ``plugins`` are the callbacks, from the beginning of the playbook on."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "runbook_forward"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.wants_implicit_tasks = True
        self.plugins: list[Any] = []
        self._redactor = Redactor()
        self._known = 0

    def load(self) -> None:
        """Load the callbacks; end the run for one that is not there or cannot be used."""
        for folder in filter(None, os.environ.get("RUNBOOK_CALLBACK_PLUGINS", "").split(":")):
            callback_loader.add_directory(folder)
        for name in json.loads(os.environ["RUNBOOK_CALLBACKS"]):
            try:
                self.plugins.append(_loaded(name))
            except Exception as error:  # noqa: BLE001 - of a foreign plugin: whatever it is
                said = f"ANSIBLE_CALLBACKS_ENABLED: {name}: {' '.join(str(error).split())}"
                channel.tell({"invalid": [f"{said}; nothing was done"]})
                sys.exit(1)

    def forward(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Hand an event on, without secrets. A callback that fails is a warning, as in Ansible."""
        self._learn()
        given = [self._masked(arg) for arg in args]
        implicit = any(isinstance(arg, Task) and arg.implicit for arg in args[:1])
        for plugin in self.plugins:
            if not plugin.disabled and (plugin.wants_implicit_tasks or not implicit):
                try:
                    getattr(plugin, event)(*given, **kwargs)
                except Exception as error:  # noqa: BLE001 - of a foreign plugin
                    said = self._redactor.text(f"{type(error).__name__}: {error}")
                    self._display.warning(f"callback {type(plugin).__module__}, {event}: {said}")

    def _learn(self) -> None:
        """Take over what the engine has been told since the last event."""
        known = len(channel.SECRETS)
        self._redactor.learn(channel.SECRETS[self._known : known])
        self._known = known

    def _masked(self, arg: Any) -> Any:
        """A copy without secrets, of what may hold some."""
        mask = self._redactor.value
        if hasattr(arg, "task_fields"):
            return Masked(arg, self._masked(arg.task), mask(arg.result), mask(arg.task_fields))
        if isinstance(arg, Base):
            return self._without(arg, "name", "args", "vars")
        if hasattr(arg, "custom"):
            return self._without(arg, "custom")
        return arg

    def _without(self, arg: Any, *names: str) -> Any:
        """``arg``, or a copy of it where one of its attributes holds a secret."""
        held = {name: getattr(arg, name) for name in names if hasattr(arg, name)}
        masked = {name: self._redactor.value(value) for name, value in held.items()}
        changed = {name: value for name, value in masked.items() if value != held[name]}
        if not changed:
            return arg
        found = copy.copy(arg)
        for name, value in changed.items():
            setattr(found, name, value)
        return found


class Masked:
    """A result of a task with its texts masked; what else it has is the original's.

    Not one of ansible-core's own class, which each version makes of something else.
    """

    def __init__(
        self, original: Any, task: Any, result: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> None:
        self._original = original
        self.task = self._task = task
        self.result = self._result = result
        self.task_fields = self._task_fields = fields
        self.task_name = str(fields.get("name") or "") or task.get_name()
        self.exception = result.get("exception")
        self.warnings = result.get("warnings") or []
        self.deprecations = result.get("deprecations") or []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _loaded(name: str) -> Any:
    """A callback plugin, ready to be called."""
    plugin = callback_loader.get(name)
    if plugin is None:
        raise AnsibleError("there is no such callback plugin, or it cannot be imported")
    plugin.set_options()
    return plugin


def _forwarder(event: str) -> Callable[..., None]:
    def forwarded(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        if event == "v2_playbook_on_start":
            self.load()
        self.forward(event, *args, **kwargs)

    return forwarded


for _event in dir(CallbackBase):
    if _event.startswith("v2_") and _event not in NOT_FORWARDED:
        setattr(CallbackModule, _event, _forwarder(_event))
