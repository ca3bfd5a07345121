# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Retention: which backups go, and why the others stay."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any, ContextManager, Dict, Iterable, List, Mapping, Optional

from .. import change, journal, postgres
from ..errors import InvalidInput, Refused
from ..s3 import Bucket
from . import manifest as manifests
from . import source, store


def absent(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
    """The named backup, or all that retention does not keep, are gone."""
    bucket, root = Bucket(params["bucket"], params), manifests.root(params["prefix"])
    one = "" if params["backup_id"] == "newest" else params["backup_id"]
    if not one and params["keep"] is None and params["keep_days"] is None:
        raise InvalidInput("say which backups are to go: backup_id, keep or keep_days")
    bucket.check()
    alone: ContextManager[None] = nullcontext()
    if not check_mode:
        alone = source.exclusively(params, bucket.name, root)
    with alone:
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
        if one:
            kept = _all_but(one, backups, guarded)
        else:
            kept = retained(backups, params["keep"], params["keep_days"], guarded, store.utc_now())
        removed = [backup_id for backup_id in backups if backup_id not in kept]
        changes = [
            change.Change(
                resource=bucket.url(store.prefix_of(root, backup_id)),
                action="remove",
                before="backup\n",
                after="",
                counts={"backups": 1},
            )
            for backup_id in removed
        ]
        if check_mode:
            journal.require_writable(params, changes)
        else:
            with journal.begun(params, changes):
                for backup_id in removed:
                    remove(bucket, root, backup_id)
    return change.result(changes, removed=removed, kept=kept)


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
        cursor.execute("SELECT to_regclass('runbook.run_marker') IS NOT NULL")
        row = cursor.fetchone()
        if not row or not row[0]:
            return []
        cursor.execute("SELECT DISTINCT backup_id FROM runbook.run_marker WHERE backup_id <> ''")
        return [backup_id for (backup_id,) in cursor.fetchall()]


def remove(bucket: Bucket, root: str, backup_id: str) -> None:
    """Delete a backup: its manifest first, so that half of one is never taken for a backup."""
    prefix = store.prefix_of(root, backup_id)
    bucket.delete([prefix + manifests.FILE])
    bucket.delete(sorted(bucket.keys(prefix)))
