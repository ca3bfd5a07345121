# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The result of a module: a sequence of changes becomes ``changed``, ``diff`` and ``plan``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence


@dataclass(frozen=True)
class Change:
    """One resource before and after.

    ``before`` and ``after`` are text for people (a trailing newline on the last line); the change
    is real exactly when ``changed`` says so. ``counts`` holds numbers by meaning (``rows_deleted``,
    ``bytes``). ``fingerprint`` identifies what was read, for saved plans; it is derived from
    ``before`` unless given. Never put a secret into any of them.

    ``volatile``: what is there comes and goes by itself, as processes do. A real run may find
    another state of it than its check did; only resource and fingerprint must be the planned ones.
    """

    resource: str
    action: str
    before: str
    after: str
    counts: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str = ""
    volatile: bool = False

    @property
    def changed(self) -> bool:
        """Whether applying this alters the resource."""
        return self.before != self.after

    def diff(self) -> dict[str, str]:
        """Ansible's diff of this change."""
        return {
            "before_header": self.resource,
            "after_header": self.resource,
            "before": self.before,
            "after": self.after,
        }

    def plan(self) -> dict[str, Any]:
        """The structured form that plans and reports keep."""
        return {
            "resource": self.resource,
            "action": self.action if self.changed else "none",
            "counts": dict(self.counts),
            "before_fingerprint": self.fingerprint
            or hashlib.sha256(self.before.encode()).hexdigest(),
        }


def result(changes: Sequence[Change], **extra: Any) -> dict[str, Any]:
    """The result of a module that made, or in check mode would make, ``changes``."""
    return {
        "changed": any(change.changed for change in changes),
        "diff": [change.diff() for change in changes if change.changed],
        "plan": [change.plan() for change in changes],
        **extra,
    }
