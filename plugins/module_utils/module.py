# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The frame of every module's ``main``: argument spec in, result or one clear failure out."""

from __future__ import annotations

import os
import select
import signal
import stat
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping

from ansible.module_utils.basic import AnsibleModule

from .errors import ModuleFailure

_STDOUT = 1

Logic = Callable[[Mapping[str, Any], bool], Mapping[str, Any]]


def run(argument_spec: Mapping[str, Any], logic: Logic, **options: Any) -> None:
    """Run ``logic(params, check_mode)`` as an Ansible module and exit.

    ``options`` go to ``AnsibleModule`` (``required_if`` and the like). A ``ModuleFailure`` becomes
    ``fail_json`` with ``error_kind``; anything else is a bug and keeps its traceback.
    """
    module = AnsibleModule(argument_spec=dict(argument_spec), supports_check_mode=True, **options)
    try:
        with _ended_with_reader():
            result = logic(module.params, module.check_mode)
    except ModuleFailure as error:
        module.fail_json(msg=str(error), error_kind=error.kind, **error.details)
    result = dict(result)
    for text in result.pop("warnings", ()):
        module.warn(text)
    module.exit_json(**result)


@contextmanager
def _ended_with_reader() -> Iterator[None]:
    """End this process at once when nobody is left who could take its result.

    An interrupted Ansible ends its ssh, which leaves the module running on the host: the operator
    would be told that a transaction is rolled back, and it would go on to its commit.
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
            os.kill(os.getpid(), signal.SIGTERM)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        os.close(finish)
        watching.join()
        os.close(done)
