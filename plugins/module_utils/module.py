# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The frame of every module's ``main``: argument spec in, result or one clear failure out."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible.module_utils.basic import AnsibleModule

from .errors import ModuleFailure

Logic = Callable[[Mapping[str, Any], bool], Mapping[str, Any]]


def run(argument_spec: Mapping[str, Any], logic: Logic, **options: Any) -> None:
    """Run ``logic(params, check_mode)`` as an Ansible module and exit.

    ``options`` go to ``AnsibleModule`` (``required_if`` and the like). A ``ModuleFailure`` becomes
    ``fail_json`` with ``error_kind``; anything else is a bug and keeps its traceback.
    """
    module = AnsibleModule(argument_spec=dict(argument_spec), supports_check_mode=True, **options)
    try:
        result = logic(module.params, module.check_mode)
    except ModuleFailure as error:
        module.fail_json(msg=str(error), error_kind=error.kind, **error.details)
    result = dict(result)
    for text in result.pop("warnings", ()):
        module.warn(text)
    module.exit_json(**result)
