# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hold a real run to its plan: what a step is about to do must be what its check run returned.

The engine keeps the result of each step of the check run, and the action plugin gives it to the
same step of the real run, as its option ``planned`` (``of_result``), which every module has. A step
compares its changes (``require``) at the last moment at which it has changed nothing: a transaction
before its commit. Without a plan, as under ansible-playbook, nothing is compared.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from .change import result
from .definition import MARK
from .errors import Stale
from .fingerprint import HASH64, MD5SUM

if TYPE_CHECKING:
    from .change import Change

#: The option of every module (``module.Module`` adds it).
ARGUMENT: Dict[str, Any] = {"planned": {"type": "list", "elements": "dict"}}

#: What Ansible puts in the place of a value that a no_log option has.
_MASK = "********"
#: What is compared of a change that is ``volatile``.
_OF_VOLATILE = frozenset({"resource", "before_fingerprint"})
_NOTHING: Mapping[str, Any] = MappingProxyType({})
#: How much of a text a message shows.
_SHOWN = 300


def of_result(done: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The changes of a module's result (``plan`` and ``diff``), one dictionary each.

    Those that change something have their texts ``before`` and ``after``, if the result has them.
    """
    plan = [dict(entry) for entry in done["plan"]]
    diffs = list(done.get("diff") or [])
    real = [entry for entry in plan if entry["action"] != "none"]
    if len(diffs) == len(real):
        for entry, diff in zip(real, diffs):
            entry.update(before=diff["before"], after=diff["after"])
    return plan


def require(
    planned: Optional[Sequence[Mapping[str, Any]]], changes: Sequence[Change], where: str = ""
) -> None:
    """Raise Stale unless the changes are the planned ones; None as a plan compares nothing.

    ``where`` begins the message, for changes whose names do not say it.
    """
    if planned is None:
        return
    found = of_result(result(changes))
    problems = []
    for number in range(max(len(planned), len(found))):
        wanted = planned[number] if number < len(planned) else {}
        done = found[number] if number < len(found) else {}
        volatile = number < len(changes) and changes[number].volatile
        differs = [
            key
            for key in wanted or done
            if not (volatile and key not in _OF_VOLATILE)
            and not _same(wanted.get(key), done.get(key))
        ]
        if differs:
            problems.append(_problem(wanted, done, differs))
    if problems:
        raise Stale(
            "{}this is not what was planned: {}; nothing was changed. Something has changed "
            "since the check; run it again to make a new plan".format(
                where and where + ": ", "; ".join(problems)
            )
        )


def _same(planned: Any, found: Any) -> bool:
    """Whether a value is the planned one, in which a secret may have been masked."""
    if isinstance(planned, str) and isinstance(found, str) and _MASK in planned:
        pattern = ".*".join(map(re.escape, planned.split(_MASK)))
        return re.fullmatch(pattern, found, re.DOTALL) is not None
    return bool(planned == found)


def _problem(wanted: Mapping[str, Any], done: Mapping[str, Any], differs: Sequence[str]) -> str:
    """``RESOURCE: planned ..., found ...``."""
    if not wanted or not done or "resource" in differs:
        return "planned {}, found {}".format(_named(wanted), _named(done))
    shown = [key for key in ("counts", "action", "before", "after") if key in differs]
    fingerprint = done["before_fingerprint"]
    if not shown and " " in fingerprint and not fingerprint.startswith((HASH64, MD5SUM)):  # words
        shown = ["before_fingerprint"]
    if not shown:
        (rows, _, defined), (now, _, _) = (
            entry["before_fingerprint"].partition(MARK) for entry in (wanted, done)
        )
        what = "definition" if defined and rows == now else "content"
        return "{}: its {} is not what the check read".format(done["resource"], what)
    sides = [(wanted, done), (done, wanted)]
    return "{}: planned {}, found {}".format(
        done["resource"], *(_values(one, shown[0], other) for one, other in sides)
    )


def _named(entry: Mapping[str, Any]) -> str:
    return "{} ({})".format(entry["resource"], _values(entry, "counts")) if entry else "nothing"


def _values(entry: Mapping[str, Any], key: str, other: Mapping[str, Any] = _NOTHING) -> str:
    """The value of an entry's key, on one line; of a text the lines that another has not."""
    if key == "counts":
        counts = ["{} {:,}".format(name, number) for name, number in entry[key].items()]
        return ", ".join(counts) or str(entry["action"])
    known = set(str(other.get(key, "")).split("\n"))
    lines = [line for line in str(entry.get(key, "no change")).split("\n") if line not in known]
    text = " / ".join(lines).rstrip(" /") or "nothing"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
