# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tables from S3: verified, loaded beside the live ones, compared, swapped in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from .. import change, commits, guard, journal, lease, marker, object_copies, postgres
from ..errors import InvalidInput
from ..s3 import Bucket
from . import manifest as manifests
from . import origin as origins
from . import source
from .compare import Comparison
from .fit import Fit
from .swap import Swap
from .target import mappings

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def _restored(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
    """Have the live tables hold what the backup holds; those that do already are left alone."""
    bucket, root = Bucket(params["bucket"], params), manifests.root(params["prefix"])
    bucket.check()
    origin = origins.find(bucket, root, params["backup_id"], params["tables"] or [])
    names = origins.wanted(origin, params["tables"])
    mapping = mappings(params["mapping"], names)
    damage = origin.problems(names)
    if damage:
        raise InvalidInput(
            "backup {} is damaged, the database was not touched: {}".format(
                origin.backup_id, "; ".join(damage)
            )
        )
    with postgres.connect(params) as session:
        into = {name: mapping[name]["into"] or name for name in names}
        snapshot = source.Snapshot(params, session, list(into.values()))
        postgres.require_writable(snapshot.cursor, params)
        guard.require_comparable(
            snapshot.cursor, postgres.database_name(params), list(snapshot.places.values())
        )
        found = Comparison(params, snapshot, origin)
        found.add(
            [(name, snapshot.places[table], mapping[name]) for name, table in into.items()],
            check_mode,
        )
        snapshot.begin("ACCESS SHARE" if check_mode else "SHARE ROW EXCLUSIVE", readonly=check_mode)
        found.compare(check_mode)
        found.guard()
        found.require_left()
        found.hold()
        fit = Fit(found)
        if check_mode:
            fit.check_constraints()
            fit.check_references()
            fit.check_run(staged=True)
            journal.require_writable(params, found.changes())
        elif found.in_place:
            fit.check_run(staged=False)
        else:
            _swapped(found, fit, session)
    return change.result(
        found.changes(),
        backup_id=origin.backup_id,
        in_place=found.in_place,
        tables={name: rows._asdict() for name, rows in found.differences.items()},
    )


def _swapped(found: Comparison, fit: Fit, session: Connection) -> None:
    """Replace the rows, and commit: proof, rows, run, journal, COMMIT."""
    swap = Swap(found)
    found.require_proof()
    swap.apply()
    fit.check_run(staged=False)
    image = _image(found, marker.current(found.cursor))
    marked = swap.mark()
    transaction = commits.named(session)
    with journal.begun(found.params, found.changes(), image, transaction=transaction.number):
        commits.commit(session, found.params, transaction, marked)


#: The state ``restored`` of s3_table_backup.
restored = lease.guarded(_restored)


def _image(found: Comparison, replaced: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """Image of the restore for undo: the backup of the rows that it replaces, and the new ones."""
    return {
        "kind": "database",
        "run": replaced,
        "backup": object_copies.reference(found.params["backup"] or {}),
        "tables": {
            target.label: found.wanted[target.name]._asdict()
            for target in found.targets
            if target.name in found.differences
        },
    }
