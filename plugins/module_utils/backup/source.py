# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A database at one moment: one exported snapshot that several connections read."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from contextlib import contextmanager, nullcontext, suppress
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from .. import postgres, server
from ..errors import Locked, Refused, Unreachable
from . import catalog

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

Task = Callable[["Connection"], None]
#: A backup takes as long as it takes, and must see all rows or fail.
_SETTINGS = {
    "statement_timeout": "0",
    **server.PATIENT,
    "row_security": "off",
}

#: What servers say of a snapshot that is gone, since 16 and before.
_NO_SNAPSHOT = ("42704", "22023")


@contextmanager
def exclusively(
    params: Mapping[str, Any], bucket: str, root: str, leased: Optional[Connection] = None
) -> Iterator[None]:
    """While inside, no other run writes or prunes backups of this database below ``root``.

    An advisory lock of the server: it goes with the connection, however the process ends. That is
    the one that keeps the lease, if there is one.
    """
    key = hashlib.sha256("{}/{}".format(bucket, root).encode()).digest()
    number = int.from_bytes(key[:8], "big", signed=True)
    with nullcontext(leased) if leased else postgres.connect(params) as session:
        if not leased:
            session.autocommit = True
        cursor = session.cursor()
        server.apply_settings(cursor, _SETTINGS)
        if not postgres.value(cursor, "SELECT pg_try_advisory_lock(%s)", (number,)):
            raise Locked(
                "another backup of {} to s3://{}/{} is running; wait for its end".format(
                    postgres.database_name(params), bucket, root
                )
            )
        yield
        cursor.execute("SELECT 1")  # a lost connection has lost the lock: better a clear error


class Snapshot:
    """The tables named, locked, as they are at one moment; several connections may read it.

    Made with the catalogue read and nothing locked; ``begin`` locks and fixes the moment.
    """

    def __init__(
        self, params: Mapping[str, Any], session: Connection, names: Sequence[str]
    ) -> None:
        self.params = params
        self.session = session
        self.cursor: Cursor = session.cursor()
        session.autocommit = True
        server.apply_settings(self.cursor, _SETTINGS)
        self.places: Dict[str, Tuple[str, str]] = catalog.resolve(self.cursor, names)
        self.version = server.version(session)
        self.encoding = str(self.one("SELECT getdatabaseencoding()"))
        self.snapshot = ""

    @classmethod
    @contextmanager
    def of(cls, params: Mapping[str, Any], names: Sequence[str]) -> Iterator[Snapshot]:
        """A snapshot of the database that ``params`` names; gone at the end of the block."""
        with postgres.connect(params) as session:
            snapshot = cls(params, session, names)
            snapshot._require_whole()
            snapshot.begin("ACCESS SHARE", readonly=True)
            yield snapshot

    def _require_whole(self) -> None:
        """Refuse a server that is set to read over damaged pages: their rows would be left out."""
        setting = self.one(
            "SELECT name FROM pg_settings WHERE setting = 'on'"
            " AND name IN ('zero_damaged_pages', 'ignore_checksum_failure') ORDER BY 1 LIMIT 1"
        )
        if setting:
            raise Refused(
                "{}: {} is on, so rows of damaged pages would be missing without an error; nothing "
                "was changed. Set it off; see which tables are damaged with pg_amcheck".format(
                    postgres.database_name(self.params), setting
                )
            )

    def begin(self, mode: str, *, readonly: bool) -> None:
        """Begin the transaction: first locks, then the moment.

        The other way round, an ALTER TABLE between the two that rewrites would show the old moment
        an empty table.
        """
        self.session.set_session(
            isolation_level="REPEATABLE READ", readonly=readonly, autocommit=False
        )
        for place in sorted(set(self.places.values())):
            self.cursor.execute(
                sql.SQL("LOCK TABLE {} IN {} MODE").format(
                    catalog.identifier(*place), sql.SQL(mode)
                )
            )
        self.snapshot = str(self.one("SELECT pg_export_snapshot()"))

    def one(self, query: str) -> Any:
        """The single value that a query gives."""
        return postgres.value(self.cursor, query)

    def lsn(self) -> str:
        """Where the write-ahead log stood (``0/1A2B3C``)."""
        old = self.session.server_version < 100000  # the functions have other names
        if self.one("SELECT pg_is_in_recovery()"):
            call = "pg_last_xlog_replay_location" if old else "pg_last_wal_replay_lsn"
        else:
            call = "pg_current_xlog_location" if old else "pg_current_wal_lsn"
        return str(self.one("SELECT {}()".format(call)))

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Another connection that sees the same moment."""
        with postgres.connect(self.params) as session:
            cursor = session.cursor()
            session.autocommit = True
            server.apply_settings(cursor, _SETTINGS)
            session.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
            try:
                cursor.execute("SET TRANSACTION SNAPSHOT %s", (self.snapshot,))
            except psycopg2.Error as error:
                if error.pgcode not in _NO_SNAPSHOT:
                    raise
                raise Unreachable(
                    "{}: the session that held the snapshot was lost, as by a restart of the "
                    "server; run it again".format(postgres.database_name(self.params))
                ) from error
            yield session


def in_parallel(tasks: Sequence[Task], jobs: int, opened: Callable[[], Any]) -> None:
    """Run all tasks, each on one of up to ``jobs`` connections of its own thread.

    ``opened()`` is a context manager that gives a connection. The first failure stops everything:
    running statements are cancelled, no further task begins, and it is raised.
    """
    if not tasks:
        return
    count = min(jobs, len(tasks))
    pool = _Pool(tasks, opened, count)
    for number in range(count):
        threading.Thread(target=pool.work, daemon=True, name="backup-{}".format(number)).start()
    # Not by joining them: before Python 3.13 a join that is interrupted takes its thread for ended.
    try:
        pool.idle.wait()
    except BaseException:  # Ctrl-C
        pool.stop()
        pool.idle.wait(10)
        raise
    if pool.failures:
        raise pool.failures[0]


class _Pool:
    """Tasks that wait, and what the threads that do them share."""

    def __init__(self, tasks: Sequence[Task], opened: Callable[[], Any], threads: int) -> None:
        self._opened = opened
        self._waiting = deque(tasks)
        self._sessions: List[Connection] = []
        self._stopped = threading.Event()
        self._working = [True] * threads
        self.idle = threading.Event()
        self.failures: List[BaseException] = []

    def work(self) -> None:
        """The work of one thread: tasks, on one connection, until there are none."""
        try:
            with self._opened() as session:
                self._sessions.append(session)
                while not self._stopped.is_set():
                    try:
                        task = self._waiting.popleft()
                    except IndexError:
                        return
                    task(session)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self.failures.append(error)
            self.stop()
        finally:
            self._working.pop()
            if not self._working:
                self.idle.set()

    def stop(self) -> None:
        """Begin no further task, and cancel the statements that run."""
        self._stopped.set()
        for session in list(self._sessions):
            with suppress(psycopg2.Error):  # it is over or lost already
                session.cancel()
