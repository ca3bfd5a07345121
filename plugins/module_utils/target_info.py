# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lease, newest run, daemons and crontab of a target, read in one step for ``runbook status``."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Dict, Mapping, Optional

from . import change, crontab, daemons, journal, journal_read, lease, lock, postgres
from .errors import ModuleFailure

ARGUMENTS: Dict[str, Any] = {
    **postgres.POSTGRES_ARGUMENTS,
    "home": {"type": "path", "required": True},
    "crontab_file": {"type": "path"},
    "journal_folder": {"type": "str", "default": ""},
    "ended": {"type": "str", "default": ""},
}


def run(params: Mapping[str, Any], _check_mode: bool) -> Dict[str, Any]:
    """The module target_info: what cannot be read but for the lease is None, and no failure."""
    with postgres.connect(params) as session, session.cursor() as cursor:
        found = lease.holder(cursor, params["ended"])
    return {
        **change.result([]),
        "lease": lock.described(found),
        "newest_run": _newest_run(params),
        "service": _service(params),
        **lease.unseen_process(found),
    }


def _newest_run(params: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    with suppress(ModuleFailure, OSError):
        folder = journal.location(params["journal_folder"])
        return next(iter(journal_read.history(folder, limit=1)), None)
    return None


def _service(params: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """The daemons that a shutdown would stop, and whether it would remove lines of the crontab."""
    with suppress(ModuleFailure, OSError):
        home = crontab.plain_home(params["home"])
        tab = crontab.tab_of({"crontab_file": params["crontab_file"], "user": None})
        text = tab.read().decode("utf-8", "surrogateescape")
        running = [each.name for each in daemons.find(home, daemons.NAMES) if each.role == "daemon"]
        return {"daemons": sorted(running), "crontab": crontab.edit(text, [], home) != text}
    return None
