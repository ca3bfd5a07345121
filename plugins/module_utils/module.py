# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The frame of every module: argument spec in, result or one clear failure out.

A module's logic is three functions, which ``composed`` alone puts together: ``observe`` reads,
``plan`` decides what changes, ``apply`` changes it.
"""

from __future__ import annotations

import functools
import os
import re
import select
import shutil
import signal
import stat
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, TypeVar

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import UnsupportedError

from . import held, journal
from .change import Change, result
from .errors import ModuleFailure
from .secret_values import secret_values, without

_STDOUT = 1
#: A file in the zip that Ansible's wrapper unpacks into the folder for temporary files.
_UNPACKED = re.compile(r"(.*/ansible_[^/]+_payload_[^/]+)/[^/]+\.zip/")

#: What a module does: its checked parameters and whether this is a check in, its result out. A
#: ``ModuleFailure`` is a failure of the step; any other exception is a bug.
Logic = Callable[[Mapping[str, Any], bool], Mapping[str, Any]]

Params = Mapping[str, Any]
State = TypeVar("State")


@dataclass(frozen=True)
class Plan:
    """The planned changes of a module.

    ``facts`` are what its result holds besides the changes. ``work`` is for ``apply`` alone, as the
    content of a file, which may hold secrets. ``image`` is what undoing the changes needs, for the
    target's journal alone, and may hold secrets too.
    """

    changes: Sequence[Change]
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    work: Any = None
    image: Any = None


def composed(
    observe: Callable[[Params], State],
    plan: Callable[[State, Params], Plan],
    apply: Callable[[Plan, Params], Optional[Mapping[str, Any]]],
) -> Logic:
    """The logic of a module that reads, then decides, then changes.

    ``observe`` changes nothing; ``plan`` reads only its arguments. Either refuses what
    ``apply`` could not do. What a real run finds must be the option ``planned``, if that is given,
    and is written into the target's journal, before ``apply`` is called; that may return facts that
    only it can know. Options named ``..._in_check`` say what earlier steps of a check have not
    done; a real run sees None.
    """

    def logic(params: Params, check_mode: bool) -> Mapping[str, Any]:
        if not check_mode:
            params = {
                name: None if name.endswith("_in_check") else value
                for name, value in params.items()
            }
        decided = plan(observe(params), params)
        facts = dict(decided.facts)
        if check_mode:
            journal.require_writable(params, decided.changes)
        else:
            held.require(params.get("planned"), decided.changes)
            with journal.begun(params, decided.changes, decided.image):
                facts.update(apply(decided, params) or {})
        return result(decided.changes, warnings=list(decided.warnings), **facts)

    return logic


def by_state(**logic: Logic) -> Logic:
    """The logic of a module whose states are composed of different functions."""
    return lambda params, check_mode: logic[params["state"]](params, check_mode)


def unchanging(_plan: Plan, _params: Params) -> None:
    """The ``apply`` of a state that only reads."""


class Module:
    """A module: its options, what they require of one another, and its logic.

    It runs as a program of its own (``main``), or in a process of Ansible's (``call``); both give
    the same result. ``requirements`` are ``required_if`` and the like.
    """

    def __init__(self, argument_spec: Mapping[str, Any], logic: Logic, **requirements: Any) -> None:
        self.argument_spec = {**argument_spec, **held.ARGUMENT, **journal.ARGUMENT}
        self.requirements = requirements
        self._logic = logic

    def main(self) -> None:
        """Run as an Ansible module, and exit."""
        module = AnsibleModule(self.argument_spec, supports_check_mode=True, **self.requirements)
        with _ended_with_reader():
            result = self._result(module.params, module.check_mode)
        # From ansible-core 2.22 on, AnsibleModule leaves them in.
        result = without(secret_values(self.argument_spec, module.params), result)
        for text in result.pop("warnings", ()):
            module.warn(text)
        if result.get("failed"):
            module.fail_json(**result)
        module.exit_json(**result)

    def call(self, name: str, arguments: Mapping[str, Any], check_mode: bool) -> Dict[str, Any]:
        """The result that ``main`` prints, for a module called ``name`` in messages."""
        checked = ArgumentSpecValidator(self.argument_spec, **self.requirements).validate(arguments)
        params = checked.validated_parameters
        if checked.error_messages:
            result = {"failed": True, "msg": _refusal(name, checked.errors[0])}
        else:
            result = self._result(params, check_mode)
        if not result.get("warnings"):
            result.pop("warnings", None)
        return without(secret_values(self.argument_spec, params), result)

    def _result(self, params: Mapping[str, Any], check_mode: bool) -> Dict[str, Any]:
        """The result of the logic, or its failure."""
        if params.get("journal"):
            masked = functools.partial(without, secret_values(self.argument_spec, params))
            params = {**params, "journal": {**params["journal"], "masked": masked}}
        try:
            return {"changed": False, **self._logic(params, check_mode)}
        except ModuleFailure as error:
            return {"failed": True, "msg": str(error), "error_kind": error.kind, **error.details}


def _refusal(name: str, error: Exception) -> str:
    """How AnsibleModule words an error in the arguments."""
    text = str(error)
    if isinstance(error, UnsupportedError):
        return "Unsupported parameters for ({}) module: {}".format(name, text)
    return text


@contextmanager
def _ended_with_reader() -> Iterator[None]:
    """End this process at once when its parent, which would read the result, has ended.

    An interrupted Ansible ends its ssh, which leaves the module running on the host: the operator
    would see that a transaction is rolled back, and it would go on to its commit.
    """
    mode = os.fstat(_STDOUT).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        yield
        return
    done, finish = os.pipe()

    def watch() -> None:
        poll = select.poll()
        poll.register(_STDOUT, 0)
        poll.register(done, 0)
        if done not in dict(poll.poll()):
            remove_unpacked(__file__)
            os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        os.close(finish)
        watching.join()
        os.close(done)


def remove_unpacked(file: str) -> None:
    """Remove the folder of this module's code, which Ansible's wrapper does unless it is killed.

    ``file`` is a file of that code; nothing is removed where it was not unpacked. The folder holds
    no arguments.
    """
    found = _UNPACKED.match(file)
    if found:
        shutil.rmtree(found.group(1), ignore_errors=True)
