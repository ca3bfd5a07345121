# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Retention: which backups go, and why the others stay."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from .. import change, marker, postgres
from ..errors import InvalidInput, Refused
from ..module import Params, Plan, composed
from ..s3 import Bucket
from . import manifest as manifests
from . import source, store


class _Found(NamedTuple):
    """Backups, the newest first: the address of each, and which must stay, with the reason."""

    urls: Mapping[str, str]
    guarded: Mapping[str, str]
    now: datetime


def observe(params: Params) -> _Found:
    """Read the backups below the prefix, and what must stay of them."""
    if not _named(params) and params["keep"] is None and params["keep_days"] is None:
        raise InvalidInput("say which backups are to go: backup_id, keep or keep_days")
    bucket, root = _place(params)
    bucket.check()
    backups = [
        backup_id
        for backup_id in store.ids(bucket, root)
        if bucket.attested(store.manifest_key(root, backup_id)) is not None
    ]
    guarded = {
        **dict.fromkeys(params["protect"], "named by protect"),
        **dict.fromkeys(marked(params), "named by the run marker"),
    }
    good = newest_good(bucket, root, backups)
    if good is not None:
        guarded[good] = "the newest good backup"
    urls = {backup_id: bucket.url(store.prefix_of(root, backup_id)) for backup_id in backups}
    return _Found(urls, guarded, store.utc_now())


def plan(found: _Found, params: Params) -> Plan:
    """The backup that is named goes, or all that retention does not keep."""
    backups, one = list(found.urls), _named(params)
    if one:
        kept = _all_but(one, backups, found.guarded)
    else:
        keep, days = params["keep"], params["keep_days"]
        kept = retained(backups, keep, days, found.guarded, found.now)
    removed = [backup_id for backup_id in backups if backup_id not in kept]
    changes = [
        change.Change(found.urls[backup_id], "remove", "backup\n", "", {"backups": 1})
        for backup_id in removed
    ]
    return Plan(changes, {"removed": removed, "kept": kept})


def apply(plan: Plan, params: Params) -> None:
    """Remove them, while no other run writes or removes backups there."""
    bucket, root = _place(params)
    with source.exclusively(params, bucket.name, root):
        for backup_id in plan.facts["removed"]:
            remove(bucket, root, backup_id)


absent = composed(observe, plan, apply)


def _place(params: Params) -> Tuple[Bucket, str]:
    return Bucket(params["bucket"], params), manifests.root(params["prefix"])


def _named(params: Params) -> str:
    return "" if params["backup_id"] == "newest" else str(params["backup_id"])


def retained(
    backups: Iterable[str],
    keep: Optional[int],
    keep_days: Optional[int],
    guarded: Mapping[str, str],
    now: datetime,
) -> Dict[str, str]:
    """The backups, given newest first, that stay, each with the reason."""
    kept = {}
    for number, backup_id in enumerate(backups):
        time = manifests.time_of(backup_id)
        if backup_id in guarded:
            kept[backup_id] = guarded[backup_id]
        elif keep is not None and number < keep:
            kept[backup_id] = "one of the {} newest".format(keep) if keep > 1 else "the newest"
        elif keep_days is not None and time is not None and now - time < timedelta(days=keep_days):
            kept[backup_id] = "younger than {} days".format(keep_days)
    return kept


def _all_but(one: str, backups: List[str], guarded: Mapping[str, str]) -> Dict[str, str]:
    if one in backups and one in guarded:
        raise Refused("backup {} is not removed: it is {}".format(one, guarded[one]))
    return {backup_id: "not named" for backup_id in backups if backup_id != one}


def newest_good(bucket: Bucket, root: str, backups: Iterable[str]) -> Optional[str]:
    """The newest backup whose objects are all as they were written."""
    for backup_id in backups:
        try:
            found = store.load(bucket, root, backup_id)
        except InvalidInput:  # damaged, or of a newer runbook: not known to be good
            continue
        if found is not None and not store.problems(bucket, found):
            return backup_id
    return None


def marked(params: Mapping[str, Any]) -> List[str]:
    """The backups that runs in the target's marker point to."""
    with postgres.connect(params) as session:
        cursor = session.cursor()
        if not marker.exists(cursor):
            return []
        return postgres.column(
            cursor, "SELECT DISTINCT backup_id FROM runbook.run_marker WHERE backup_id <> ''"
        )


def remove(bucket: Bucket, root: str, backup_id: str) -> None:
    """Delete a backup: its manifest first, so that half of one is never taken for a backup."""
    prefix = store.prefix_of(root, backup_id)
    bucket.delete([prefix + manifests.FILE])
    bucket.delete(sorted(bucket.keys(prefix)))
