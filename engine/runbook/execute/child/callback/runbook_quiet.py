"""The stdout callback of a run: prints nothing, and sends the engine what no event contains.

That is which values are secret, what the public parameters are, which steps a check could not
check, and how a host was to be reached that is unreachable.

ansible-runner's own callback derives from it and turns what happens into events; the default one
would also render every diff as text that is not used. It runs inside the ansible process,
where vault, lookups and templates are evaluated as the tasks will see them
(``runbook.events.redaction``).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.inventory.host import Host
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import callback_loader, connection_loader
from ansible.template import Templar

from runbook.events.redaction import ALSO_PUBLIC, unmaskable
from runbook.execute.child import channel, patches
from runbook.execute.child.channel import ANSWER

DOCUMENTATION = """
name: runbook_quiet
type: stdout
short_description: Base of the engine's event callback
description:
  - Prints nothing.
  - Tells the engine which values are secret and which steps a check could not check.
  - Tells the engine the values of public parameters.
  - Tells the engine how a host was to be reached that is unreachable.
  - Has the engine end the run when an event cannot be kept for it.
version_added: "0.1.0"
extends_documentation_fragment:
  - default_callback
"""

try:  # ansible-core 2.19 marks what came out of a vault; before, the text keeps its ciphertext.
    from ansible._internal._datatag._tags import VaultedValue
    from ansible.parsing.vault import EncryptedString
except ImportError:  # pragma: no cover - another ansible-core
    VaultedValue = None
    from ansible.parsing.yaml.objects import AnsibleVaultEncryptedUnicode as EncryptedString


try:  # From ansible-core 2.22 on, output is masked by value instead of results by option.
    from ansible.module_utils.secrets import register_secrets
except ImportError:

    def register_secrets(values: Iterable[str], /) -> None:
        """Nothing: an older ansible-core has no list of secrets."""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """See the module."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "runbook_quiet"

    def __init__(self) -> None:
        super().__init__()
        derived = sys.modules.get(type(self).__module__)
        events = getattr(derived, "event_context", None)
        if events is not None:
            patches.events_or_end(events.cache, _lost)

    def v2_playbook_on_start(self, playbook: Any) -> None:  # noqa: ARG002 - Ansible's
        """End a run with a callback beside its playbook that Ansible loads without being asked.

        It would see results with secrets; enabled by name it gets them masked.
        """
        for plugin in callback_loader.all(class_only=True):
            enabled = getattr(plugin, "CALLBACK_NEEDS_WHITELIST", False)
            if getattr(plugin, "CALLBACK_TYPE", "") != "stdout" and not getattr(
                plugin, "CALLBACK_NEEDS_ENABLED", enabled
            ):
                file = sys.modules[plugin.__module__].__file__
                channel.tell({"invalid": [f"{file}: {_UNASKED}"]})
                sys.exit(1)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Hand over the secrets of all hosts, and the parameters, before the play's first task.

        Or end here: of a callback that fails Ansible only warns, and would then show the secrets.
        """
        try:
            self._hand_over(play)
        except Exception as error:  # noqa: BLE001 - whatever it is; its text may hold a secret
            failed = f"the secret variables cannot be read ({type(error).__name__})"
            channel.tell({"invalid": [f"{failed}; nothing was done"]})
            sys.exit(1)

    def _hand_over(self, play: Any) -> None:
        from ansible_collections.labeller.runbook.plugins.module_utils.secret_values import texts

        self._play = play
        names = set(json.loads(os.environ.get("RUNBOOK_SECRET_NAMES", "[]")))
        public = set(json.loads(os.environ.get("RUNBOOK_PUBLIC_NAMES", "[]")))
        manager = play.get_variable_manager()
        values: list[Any] = []
        seen: dict[str, dict[str, Any]] = {}
        places = json.loads(os.environ.get("RUNBOOK_PLACES", "{}"))
        problems: dict[str, str] = {}
        spoiling: dict[str, str] = {}
        inventory = manager._inventory  # noqa: SLF001
        # Also those of later batches, with the play's keyword serial.
        mine = {host.name for host in inventory.get_hosts(play.hosts, ignore_restrictions=True)}
        for host in inventory.get_hosts(ignore_restrictions=True):
            variables = manager.get_vars(play=play, host=host)
            templar = Templar(loader=manager._loader, variables=variables)  # noqa: SLF001
            secrets: dict[str, Any] = {}
            for name, value in variables.items():
                if name in names:
                    secrets[name] = _evaluated(templar, value)
                    values.append(secrets[name])
                    if host.name in mine and name in places and values[-1] in (None, ""):
                        said = _unreadable(templar, value)
                        if said or (places[name]["required"] and values[-1] == ""):
                            problems[name] = said or "it is empty"
                elif name not in public and name not in _AGGREGATES:
                    values += [_evaluated(templar, leaf) for leaf in _vaulted(value)]
            if host.name in mine:
                shown = _readable(templar, variables, [*sorted(public), *ALSO_PUBLIC])
                seen[host.name] = _seen(templar, variables, shown, public)
                if "RUNBOOK_RUN" in os.environ:  # of a question no later step uses the answer
                    spoiling |= _unmaskable(secrets, shown, places)
        self._end_if(spoiling, places)  # before the engine masks the names in these messages
        channel.SECRETS.extend(values)
        register_secrets(texts(values))
        channel.tell({"secrets": values, "parameters": seen})
        self._end_if(problems, places)

    def _end_if(self, problems: Mapping[str, str], places: Mapping[str, Mapping[str, Any]]) -> None:
        """End if there are problems with parameters: before the play, so no host is contacted."""
        if problems:
            said = [f"{places[name]['at']}: {name}: {what}" for name, what in problems.items()]
            channel.tell({"invalid": said})
            sys.exit(1)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Say which steps report that a check sees no further, as one that waits for a cluster.

        A query's answer, the fact ``runbook_answer``, is left in the private folder of the run.
        """
        found = getattr(result, "result", None) or result._result  # noqa: SLF001
        answer = found.get("ansible_facts", {}).get("runbook_answer")
        if answer is not None:
            host = result.host.get_name()
            file = Path(os.environ["RUNBOOK_CHANNEL"]).parent / f"{ANSWER}{host}.json"
            try:
                file.write_text(answer, encoding="utf-8")
            except OSError as error:
                _lost(error)
        if found.get("unchecked"):
            channel.tell({"unchecked": str(getattr(result, "task_name", ""))})

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Say how the host was to be reached; the engine hears it before it hears the event."""
        channel.tell({"reached": {"host": result.host.get_name(), **self._reached(result)}})

    def _reached(self, result: Any) -> dict[str, Any]:
        """The options of the connection plugin, and become, as Ansible evaluated them."""
        manager = self._play.get_variable_manager()
        loader, inventory = manager._loader, manager._inventory  # noqa: SLF001
        task = result.task_fields
        delegate = task.get("delegate_to")
        host = inventory.get_host(delegate) or Host(delegate) if delegate else result.host
        variables = manager.get_vars(play=self._play, host=host, task=result.task)
        templar = Templar(loader=loader, variables=variables)

        def option(name: str, keyword: str) -> Any:
            value = _evaluated(templar, variables.get(name))
            return task.get(keyword) if value is None else value

        connection = str(option("ansible_connection", "connection"))
        connection_loader.get(connection, class_only=True)  # so that its options are known
        known = constants.config.get_plugin_vars("connection", connection)
        given = {name: _evaluated(templar, variables[name]) for name in known if name in variables}
        options = constants.config.get_plugin_options(
            "connection", connection, keys=task, variables=given
        )
        become = boolean(option("ansible_become", "become") or False, strict=False)
        method = option("ansible_become_method", "become_method")
        user = option("ansible_become_user", "become_user") or "root"
        return {
            "delegate": host.get_name() if delegate else "",
            "connection": connection,
            "address": str(options.get("host") or ""),
            "port": options.get("port") or 0,
            "user": str(options.get("remote_user") or ""),
            "key": str(options.get("private_key_file") or ""),
            "become": f"{user} by {method}" if become else "",
        }

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Say which steps a check could only skip: the real run will do them."""
        found = getattr(result, "result", None) or result._result  # noqa: SLF001
        if "skip_reason" not in found and "results" not in found:
            channel.tell({"unchecked": str(getattr(result, "task_name", ""))})

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """As ``v2_runner_on_skipped``, for an item of a loop."""
        self.v2_runner_on_skipped(result)


def _lost(error: OSError) -> None:
    """Have the engine end the run, which it cannot follow any longer."""
    channel.tell({"broken": str(error.strerror)})


_UNASKED = (
    "a callback plugin that Ansible loads without being asked, and that would see secrets. Set "
    "CALLBACK_NEEDS_ENABLED = True in it, and name it in ANSIBLE_CALLBACKS_ENABLED"
)
#: Magic variables that hold all others once more.
_AGGREGATES = frozenset({"hostvars", "vars", "environment"})


def _evaluated(templar: Any, value: Any) -> Any:
    """The value as a task sees it; none when it cannot be evaluated, for then no task sees it."""
    try:
        return templar.template(value)
    except AnsibleError:
        return None


def _unreadable(templar: Any, value: Any) -> str:
    """Why a secret has no value; empty when it is empty itself, or only a step can say."""
    try:
        templar.template(value)
    except AnsibleError as error:
        if isinstance(error, AnsibleUndefinedVariable) and "lookup" not in str(value):
            return ""
        innermost: BaseException = error
        while isinstance(innermost.__cause__, AnsibleError):
            innermost = innermost.__cause__
        return " ".join(str(getattr(innermost, "message", innermost)).split())
    return ""


def _readable(templar: Any, variables: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The values of variables as a task sees them, without those that only a step can say."""
    found = {}
    for name in names:
        if name in variables:
            with contextlib.suppress(AnsibleError):
                found[name] = templar.template(variables[name])
    return found


def _unmaskable(
    secrets: Mapping[str, Any], shown: Mapping[str, Any], places: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """By name, why the value of a secret that is set cannot be masked in results."""
    known = {name: str(place["at"]) for name, place in places.items()}
    said = {
        name: unmaskable(secrets[name], shown, known)
        for name in sorted(secrets.keys() & known.keys())
    }
    return {name: what for name, what in said.items() if what}


def _seen(
    templar: Any, variables: Mapping[str, Any], shown: Mapping[str, Any], public: set[str]
) -> dict[str, Any]:
    """The values of public parameters that are templates, but for what a vault held."""
    return {
        name: value
        for name, value in shown.items()
        if name in public and templar.is_template(variables[name]) and not _vaulted(variables[name])
    }


def _vaulted(value: Any) -> list[Any]:
    """The parts of a variable that came out of a vault."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _vaulted(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _vaulted(item)]
    encrypted = isinstance(value, EncryptedString) or (
        VaultedValue is not None and VaultedValue.is_tagged_on(value)
    )
    return [value] if encrypted else []
