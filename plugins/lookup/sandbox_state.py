# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lookup labeller.runbook.sandbox_state."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sandbox_state
short_description: What the sandbox of this machine is
version_added: 0.1.0
author:
  - The runbook developers (@agroimpacts)
description:
  - Gives what C(runbook sandbox up) wrote to C(sandbox/state.json) below E(RUNBOOK_HOME), by
    default C(runbook) in the XDG state folder; addresses, names, and the sandbox's own secrets.
  - The inventory C(sandbox) takes its variables from it.
options: {}
"""

EXAMPLES = r"""
- name: Show the sandbox's bucket
  ansible.builtin.debug:
    msg: "{{ lookup('labeller.runbook.sandbox_state').bucket }}"
"""

RETURN = r"""
_raw:
  description: The state, one dictionary.
  type: list
  elements: dict
"""

import json
import os
from typing import Any, Dict, List, Tuple

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.labeller.runbook.plugins.plugin_utils.engine_home import home

#: By path, with the time of the file's last change. A task's templates ask dozens of times.
_read: Dict[str, Tuple[int, Dict[str, Any]]] = {}


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> List[Dict[str, Any]]:  # noqa: ARG002
        """The state of the sandbox that this process's environment names."""
        path = os.path.join(home(), "sandbox", "state.json")
        try:
            changed = os.stat(path).st_mtime_ns
            if path not in _read or _read[path][0] != changed:
                with open(path, encoding="utf-8") as file:
                    _read[path] = (changed, json.load(file))
        except (OSError, ValueError) as error:
            raise AnsibleError(
                "cannot read {} ({}); is the sandbox up? `runbook sandbox up` makes it".format(
                    path, error
                )
            ) from error
        return [_read[path][1]]
