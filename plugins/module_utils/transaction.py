# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A chain of steps as one database transaction; in check mode against shadow tables.

Both observe in the same way (``_observe``) and plan by executing the steps, on shadows or on the
locked tables; a real run is held to its plan before it commits.

Order of an apply: advisory lock (two operators exclude each other) → uploads that a crash left
pending → inputs into temporary tables → table locks → guards → steps → compared with the plan →
multipart uploads → commit → uploads completed. A crash before the commit leaves the database as it
was, one after it leaves uploads that the run marker names and the next transaction completes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

from . import (
    blockers,
    cascades,
    commits,
    definition,
    fingerprint,
    guard,
    held,
    journal,
    lease,
    marker,
    object_copies,
    postgres,
    server,
    shadow,
    staged_upload,
)
from .change import Change, result
from .errors import Locked, ModuleFailure
from .step import Step, Transaction, shadowed, tables, updated_columns

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# One number for all of us: pg_advisory_lock(bigint), "runbook" in ASCII.
ADVISORY_LOCK = int.from_bytes(b"runbook", "big")
_ADVISORY_WAIT = "3s"
_SESSION = {
    "temp_buffers": "64MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "64MB",
    # ANALYZE of an input then reads 3,000 rows: plans of joins by key need no more
    "default_statistics_target": "10",
    # uploads are staged inside the transaction, and the server waits for them
    **server.PATIENT,
    # a server that works for a client that is gone would keep its locks
    "client_connection_check_interval": "2s",
}

Observer = Callable[["Transaction"], None]


def run(
    steps: Sequence[Step],
    params: Mapping[str, Any],
    *,
    check: bool,
    observe: Optional[Observer] = None,
) -> dict[str, Any]:
    """Run a chain and give the module result; ``observe`` sees the tables before the end.

    Raises Locked (another operator, or a session that keeps a table), what the steps raise, and
    the errors of ``postgres.connect``. Then the database is as it was.
    """
    with postgres.connect(params) as session, session.cursor() as cursor:
        postgres.require_writable(cursor, params)
        _settle(session, cursor)
        if check:
            return _check(Transaction(cursor, params, check=True), steps, observe)
        _exclude_others(session, cursor, params)
        try:
            return _apply(session, Transaction(cursor, params, check=False), steps, observe)
        except ModuleFailure:
            lease.release_quietly(params, params.get("lease"))
            raise


def read(step: Step, params: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a step's module for a state that only looks: nothing is committed."""
    found, warnings = _read(step, params)
    return result([], warnings=warnings, **found)


def _read(step: Step, params: Mapping[str, Any]) -> tuple[Mapping[str, Any], List[str]]:
    """The state that a step reads, and its warnings."""
    with postgres.connect(params) as session, session.cursor() as cursor:
        tx = Transaction(cursor, params, check=True)
        tx.use_schemas()
        found = step.read_state(tx)
        session.rollback()
        return found, tx.warnings


def _settle(session: Connection, cursor: Cursor) -> None:
    server.apply_settings(cursor, _SESSION)
    session.commit()


def _check(tx: Transaction, steps: Sequence[Step], observe: Optional[Observer]) -> dict[str, Any]:
    tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    tx.use_schemas()
    state = _observe(tx, steps)
    changes = _completions(state.pending)
    if state.in_place:
        tx.cursor.connection.rollback()
        return result(changes, in_place=True)
    changes += _plan_on_shadows(tx, steps)
    if observe:
        observe(tx)
    tx.cursor.connection.rollback()
    journal.require_writable(tx.params, changes)
    return result(changes, in_place=False, warnings=tx.warnings, **_found(steps))


@dataclass(frozen=True)
class _State:
    """The state before a chain: uploads to complete first, by marker, and whether it is done."""

    pending: Mapping[int, List[staged_upload.Staged]]
    in_place: bool


def _observe(tx: Transaction, steps: Sequence[Step]) -> _State:
    pending = _pending(tx, steps)
    return _State(pending, any(step.in_place(tx) for step in steps))


def _pending(tx: Transaction, steps: Sequence[Step]) -> Dict[int, List[staged_upload.Staged]]:
    """The uploads to complete first, by their marker. One transaction of a playbook does so.

    If each did, the first one of the real run would leave nothing of what the check of the others
    returned.
    """
    return marker.pending(tx.cursor) if any(step.settles for step in steps) else {}


def _completions(pending: Mapping[int, Sequence[staged_upload.Staged]]) -> List[Change]:
    return [upload.completion() for uploads in pending.values() for upload in uploads]


def _prepare(tx: Transaction, steps: Sequence[Step]) -> None:
    for step in steps:
        step.prepare(tx)


def _guard_access(tx: Transaction, steps: Sequence[Step]) -> None:
    """Refuse tables that are missing, no tables, or not for this role."""
    written, read = tables(steps)
    shadow.require(tx.cursor, sorted([*written, *read]))
    restarted = {table: column for step in steps for table, column in step.restarted.items()}
    guard.require_access(tx.cursor, tx.database, written, read, restarted)


def _guard_content(tx: Transaction, steps: Sequence[Step]) -> None:
    """Refuse what a check cannot show; exact once the tables are locked."""
    allowed = tx.params.get("allowed_triggers") or []
    guard.require_plain(tx.cursor, tx.database, *tables(steps), allowed)
    deleted = [
        loss
        for step in steps
        for loss in (*((table, None) for table in step.emptied), *step.deleted.items())
    ]
    cascades.require_none(tx.cursor, tx.database, deleted)
    tx.definitions = definition.digests(tx.cursor, tables(steps)[0])


def _plan_on_shadows(tx: Transaction, steps: Sequence[Step]) -> List[Change]:
    _prepare(tx, steps)
    _guard_access(tx, steps)
    _guard_content(tx, steps)
    return _simulate(tx, steps)


def _simulate(tx: Transaction, steps: Sequence[Step]) -> List[Change]:
    """Run the steps on shadow tables, the server refusing every write to a real one."""
    empty, copied = shadowed(steps)
    updated = updated_columns(steps)
    tx.real_only |= shadow.create(tx.cursor, empty, copied, updated)
    tx.execute("SET TRANSACTION READ ONLY")
    return _run_steps(tx, steps)


def _plan_by_executing(session: Connection, tx: Transaction, steps: Sequence[Step]) -> List[Change]:
    """Run the steps on the locked tables: until the commit, what they did is a plan."""
    if tx.params.get("lease"):
        lease.verify(tx.cursor, tx.params["lease"])
    _prepare(tx, steps)
    _guard_access(tx, steps)
    _lock(session, tx, steps)
    _guard_content(tx, steps)
    return _run_steps(tx, steps)


def _apply(
    session: Connection, tx: Transaction, steps: Sequence[Step], observe: Optional[Observer]
) -> dict[str, Any]:
    tx.use_schemas()
    state = _observe(tx, steps)
    replaced = marker.current(tx.cursor)
    session.rollback()
    completed = _completions(state.pending)
    planned = tx.params.get("planned")
    if state.in_place:
        held.require(planned, completed, tx.database)
    with journal.begun(tx.params, completed):
        for marked, uploads in state.pending.items():
            _complete(session, tx, marked, uploads, steps if state.in_place else None)
    if state.in_place:
        return result(completed, in_place=True)

    tx.use_schemas()
    try:
        changes = _plan_by_executing(session, tx, steps)
        held.require(planned, [*completed, *changes], tx.database)
        staged = staged_upload.stage(tx.s3, tx.uploads) if tx.uploads else []
        row = tx.shared.get("marker")
        if row is not None and staged:
            marker.set_pending(tx.cursor, row, staged)
        transaction = commits.named(session)
        real = any(change.changed for change in changes)
        image = _image(tx, steps, replaced) if real else None
        if observe:
            observe(tx)
        entry = journal.begun(tx.params, changes, image, transaction=transaction.number)
    except BaseException:
        _undone(session, tx)
        raise
    with entry:
        answered = _commit(session, tx, transaction)
        if staged:
            _complete_after(session if answered else None, tx, staged, steps)
    _look(tx, steps)
    return result([*completed, *changes], in_place=False, warnings=tx.warnings, **_found(steps))


def _look(tx: Transaction, steps: Sequence[Step]) -> None:
    """Have the steps that only look see what was committed; the run is not failed by one."""
    for step in steps:
        if step.looks:
            try:
                step.found, warnings = _read(step, tx.params)
            except ModuleFailure as error:
                warnings = ["{}: {}".format(step.name, error)]
            tx.warnings += warnings


def _found(steps: Sequence[Step]) -> Dict[str, Any]:
    """Results of steps that only look, by name."""
    return {name: value for step in steps for name, value in step.found.items()}


def _image(
    tx: Transaction,
    steps: Sequence[Step],
    replaced: Optional[Mapping[str, Any]],
) -> Dict[str, Any]:
    """Image of the transaction for undo.

    The run that was in place; the backup that holds the tables, and what they hold now; the objects
    that are about to be replaced, copied beside the backup; what the steps kept (``tx.image``).
    """
    backup = tx.params.get("backup") or {}
    emptied = {table for step in steps for table in step.emptied}
    left = {
        table: fingerprint.of_table(tx.cursor, "public", table)._asdict()
        for table in tables(steps)[0]
        if table != marker.TABLE and (table != "master_grid" or table in emptied)
    }
    return {
        "kind": "database",
        "run": replaced,
        "backup": object_copies.reference(backup),
        "tables": left,
        "objects": [
            object_copies.keep(tx.s3, upload, backup, (tx.params.get("journal") or {}).get("run"))
            for upload in tx.uploads
            if upload.needed
        ],
        **{name: make(tx) for name, make in tx.image.items()},
    }


def _undone(session: Connection, tx: Transaction) -> None:
    """Roll back, and take back the uploads that were staged for the commit."""
    with suppress(psycopg2.Error):
        session.rollback()
    staged_upload.abort(tx.uploads, lambda: tx.s3)


def _commit(session: Connection, tx: Transaction, transaction: commits.Named) -> bool:
    """Commit; whether the session goes on. In doubt the staged uploads stay for the next run."""
    try:
        return commits.commit(session, tx.params, transaction, tx.shared.get("marker"))
    except commits.InDoubt:
        raise
    except BaseException:
        _undone(session, tx)
        raise


def _complete_after(
    session: Optional[Connection],
    tx: Transaction,
    staged: Sequence[staged_upload.Staged],
    steps: Sequence[Step],
) -> None:
    """Complete the uploads of this transaction, on another session when its own was lost (None)."""
    row = tx.shared.get("marker")
    if session is not None:
        _complete(session, tx, row, staged, steps)
        return
    with postgres.connect(tx.params) as other, other.cursor() as cursor:
        _settle(other, cursor)
        _exclude_others(other, cursor, tx.params)
        again = Transaction(cursor, tx.params, check=False)
        _complete(other, again, row, staged, steps)
        tx.warnings += again.warnings


def _run_steps(tx: Transaction, steps: Sequence[Step]) -> List[Change]:
    for step in steps:
        step.guard(tx)
    changes = [
        replace(change, resource="{}: {}".format(step.name, change.resource))
        for step in steps
        for change in step.run(tx)
    ]
    # what is deferred to the commit, which a check does not reach
    tx.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return changes


def _complete(
    session: Connection,
    tx: Transaction,
    row: Optional[int],
    uploads: Sequence[staged_upload.Staged],
    steps: Optional[Sequence[Step]],
) -> None:
    """Complete uploads whose transaction is committed, then take them out of the marker.

    ``steps`` are those of their run, to make lost objects again; None for a run that is over.
    """
    try:
        lost = [upload for upload in uploads if not upload.complete(tx.s3)]
        if lost and steps is not None:
            _regenerate(session, tx, lost, steps)
        elif lost:
            names = ", ".join("s3://{}/{}".format(u.bucket, u.key) for u in lost)
            tx.warnings.append("objects of the run before were never completed: {}".format(names))
    except ModuleFailure as error:
        text = "{}; the database is committed, run again to complete the uploads"
        raise type(error)(text.format(error)) from error
    if row is not None and uploads:
        marker.set_pending(tx.cursor, row, [])
        session.commit()


def _regenerate(
    session: Connection,
    tx: Transaction,
    lost: Sequence[staged_upload.Staged],
    steps: Sequence[Step],
) -> None:
    """Make objects again whose uploads S3 has no more, from the database as the run left it."""
    again = Transaction(tx.cursor, tx.params, check=True, keep_bodies=True)
    session.set_session(isolation_level="REPEATABLE READ")
    try:
        again.use_schemas()
        producing = [step for step in steps if step.produces_objects]
        _prepare(again, producing)
        _simulate(again, producing)
    finally:
        session.rollback()
        session.set_session(isolation_level="DEFAULT")
    made = {(upload.bucket, upload.key): upload for upload in again.uploads}
    for token in lost:
        upload = made.get((token.bucket, token.key))
        if upload is None:
            raise ModuleFailure(
                "s3://{}/{} is missing: its upload is gone from S3, and no step of this run makes "
                "it; run again with a new run_id".format(token.bucket, token.key)
            )
        for staged in staged_upload.stage(tx.s3, [upload]):
            staged.complete(tx.s3)


def _exclude_others(session: Connection, cursor: Cursor, params: Mapping[str, Any]) -> None:
    """Take the lock that two operators cannot have, for as long as the session lasts."""
    try:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_ADVISORY_WAIT,))
        cursor.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        session.commit()
    except psycopg2.errors.LockNotAvailable as error:
        session.rollback()
        name = postgres.database_name(params)
        raise Locked(
            "{}: another run is changing this database{}; wait until it ends".format(
                name, blockers.of_lock(cursor, ADVISORY_LOCK)
            )
        ) from error


def _lock(session: Connection, tx: Transaction, steps: Sequence[Step]) -> None:
    """Lock the tables that the steps write against all writers, those that they read against

    changes, in one order for everybody. Raises Locked.
    """
    written, read = tables(steps)
    try:
        for table in sorted([*written, *read]):
            mode = "SHARE ROW EXCLUSIVE" if table in written else "SHARE"
            statement = _sql.SQL("LOCK TABLE {} IN {} MODE")
            tx.execute(statement.format(_sql.Identifier(table), _sql.SQL(mode)))
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
        session.rollback()
        stays = "stays locked for more than {} s".format(tx.params["lock_timeout"])
        deadlock = isinstance(error, psycopg2.errors.DeadlockDetected)
        raise Locked(
            "{}: table {} {}{}; nothing was changed. Stop that process or run again later".format(
                tx.database,
                table,
                "is locked by a session that waits for us (deadlock)" if deadlock else stays,
                blockers.of_statement(tx.cursor, "LOCK TABLE", [table]),
            )
        ) from error
