# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A step of a transaction, and what it works with: the session, the inputs, the outputs.

A step names its tables without a schema. When applied they are the real ones; in check mode
``shadow`` puts temporary copies before them on the search path, and the server holds the
transaction read only, so the same statements see and give what they will when applied.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence

from . import aws, definition, postgres, server, shadow, staged_upload
from .change import Change
from .errors import InvalidInput

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable

#: What every step that is a module of its own takes besides the step's arguments.
COMMON_ARGUMENTS: dict[str, Any] = {
    **postgres.POSTGRES_ARGUMENTS,
    **aws.AWS_ARGUMENTS,
    "bucket": {"type": "str"},
    "lease": {"type": "int"},
    "allowed_triggers": {"type": "list", "elements": "str", "default": []},
}


class Step:
    """One part of a transaction. A subclass says which tables it needs and does its work in run.

    ``emptied`` tables lose all rows (``Transaction.empty``) before anything else reads them,
    ``changed`` ones are written, ``read`` ones only read. ``deleted`` are those of the changed ones
    that lose rows, with the condition of these rows (None for all), in the order of the deletion.
    ``updated`` has those of the changed ones whose rows stay, with the only columns that get other
    values. ``restarted`` tables number their rows, in this column, from 1 again.
    ``produces_objects``: it stages uploads, and may be run again later for them alone.
    ``settles``: its transaction first completes the uploads that a crash left pending.
    ``looks``: it changes nothing; its module is ``read_state``, which a real run calls after the
    commit. ``found`` is what it adds to the result of the transaction.
    """

    name: ClassVar[str]
    ARGUMENTS: ClassVar[Dict[str, Any]] = {}
    produces_objects: ClassVar[bool] = False
    settles: bool = False
    emptied: Sequence[str] = ()
    changed: Sequence[str] = ()
    read: Sequence[str] = ()
    deleted: Mapping[str, Optional[str]] = MappingProxyType({})
    updated: Mapping[str, Sequence[str]] = MappingProxyType({})
    restarted: Mapping[str, str] = MappingProxyType({})
    looks: ClassVar[bool] = False
    found: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def in_place(self, tx: Transaction) -> bool:  # noqa: ARG002
        """Whether the whole chain is done already and must not run again."""
        return False

    def read_state(self, tx: Transaction) -> Mapping[str, Any]:
        """The result of the step's module for ``state: read``."""
        raise NotImplementedError

    def prepare(self, tx: Transaction) -> None:
        """Read inputs into temporary tables; before any lock, with no look at the tables."""

    def guard(self, tx: Transaction) -> None:
        """Refuse, from the real tables as they are before the first step, or return."""

    def run(self, tx: Transaction) -> List[Change]:
        """Do it, with SQL that is the same in check mode: no DDL, no TRUNCATE, no sequence DDL."""
        raise NotImplementedError


class Transaction:
    """The context of a step: the session, the inputs and outputs of this transaction."""

    def __init__(
        self, cursor: Cursor, params: Mapping[str, Any], *, check: bool, keep_bodies: bool = False
    ) -> None:
        self.cursor = cursor
        self.params = params
        self.check = check
        self._keep_bodies = keep_bodies or not check
        self.database = postgres.database_name(params)
        self.uploads: List[staged_upload.Upload] = []
        self.shared: Dict[Any, Any] = {}
        #: What undoing the steps needs beside a backup, computed before the commit.
        self.image: Dict[str, Callable[[Transaction], Any]] = {}
        self.warnings: List[str] = []
        self.real_only: set[str] = set()
        self.definitions: Dict[str, str] = {}
        self._s3: Any = None

    @property
    def s3(self) -> Any:
        """The S3 client, made when first needed."""
        if self._s3 is None:
            self._s3 = aws.client("s3", self.params)
        return self._s3

    @property
    def bucket(self) -> str:
        """The bucket of the step's keys."""
        if not self.params["bucket"]:
            raise InvalidInput("bucket is missing: this step reads and writes S3 objects")
        return str(self.params["bucket"])

    def use_schemas(self) -> None:
        """Look tables up in labeller's and runbook's schemas, until the transaction ends.

        In check mode temporary tables come first, as they do where a search path does not name
        ``pg_temp``.
        """
        last = "" if self.check else ", pg_temp"
        self.execute("SET LOCAL search_path = " + shadow.SEARCH_PATH + last)

    def execute(self, statement: Any, params: Any = None) -> int:
        """Run a statement; gives the number of rows it touched."""
        self.cursor.execute(statement, params)
        return int(self.cursor.rowcount)

    def rows(self, statement: Any, params: Any = None) -> List[Any]:
        """All rows of a query; for small answers only."""
        self.cursor.execute(statement, params)
        return self.cursor.fetchall()

    def value(self, statement: Any, params: Any = None) -> Any:
        """The first column of the first row."""
        return self.rows(statement, params)[0][0]

    def source(self, table: str) -> Composable:
        """Where a table's rows are best read: the real table, or its shadow.

        The real one while the shadow is made empty in advance, or is a view without changes yet.
        """
        if table in self.real_only:
            return shadow.real(self.cursor, table)
        return _sql.Identifier(table)

    def empty(self, table: str) -> int:
        """Delete all rows of a table; gives how many there were."""
        statement = _sql.SQL("SELECT count(*) FROM {}").format(self.source(table))
        count = self.value(statement) if table in self.real_only else None
        self.real_only.discard(table)
        deleted = self.execute(_sql.SQL("DELETE FROM {}").format(_sql.Identifier(table)))
        return deleted if count is None else int(count)

    def sequence(self, table: str, column: str) -> Optional[str]:
        """The sequence that gives a column its default, as a regclass text; None without one."""
        return shadow.sequence(self.cursor, table, column)

    def restart(self, sequence_name: str) -> None:
        """Let a sequence (``sequence``) begin with 1 again; a rollback undoes it.

        Shadows are temporary, and the DDL of ``renew_sequence`` on them would be refused.
        """
        if not self.check:
            server.renew_sequence(self.cursor, sequence_name)
        self.execute("SELECT setval(%s::regclass, 1, false)", (sequence_name,))

    def table_change(
        self,
        table: str,
        action: str,
        before: str,
        after: str,
        counts: Mapping[str, int],
        fingerprint: str = "",
    ) -> Change:
        """A change of a table; rows that were replaced by as many others show as such.

        Its fingerprint is of the table's definition, too.
        """
        touched = sum(counts.values())
        if touched and before == after:
            after = "{}{:,} rows replaced\n".format(after, touched)
        change = Change(self.resource(table), action, before, after, counts, fingerprint)
        read = change.plan()["before_fingerprint"]
        return replace(change, fingerprint=read + definition.MARK + self.definitions.get(table, ""))

    def resource(self, what: str) -> str:
        """How diffs and plans name a table of this database."""
        return "{} ({})".format(what, self.database)

    def upload(self, key: str, query: Composable) -> Change:
        """Stage the result of a query as a CSV object with a header."""
        statement = _sql.SQL("COPY ({}) TO STDOUT WITH (FORMAT csv, HEADER)").format(query)
        body = staged_upload.Body(keep=self._keep_bodies)
        self.cursor.copy_expert(statement, body)
        upload = staged_upload.Upload(self.bucket, key, body.finished(int(self.cursor.rowcount)))
        self.uploads.append(upload)
        return upload.change(self.s3)


def tables(steps: Sequence[Step]) -> tuple[List[str], List[str]]:
    """The tables that the steps write, and those that they only read."""
    written = {table for step in steps for table in (*step.emptied, *step.changed)}
    read = {table for step in steps for table in step.read} - written
    return sorted(written), sorted(read)


def shadowed(steps: Sequence[Step]) -> tuple[List[str], List[str]]:
    """Which tables need a shadow: those that may start empty, and those that need their rows.

    A table may start empty when the first step that has to do with it empties it.
    """
    empty: List[str] = []
    copied: List[str] = []
    seen: set[str] = set()
    written, _ = tables(steps)
    for step in steps:
        for table in step.emptied:
            if table not in seen:
                empty.append(table)
                seen.add(table)
        for table in (*step.changed, *step.read):
            if table not in seen and table in written:
                copied.append(table)
            seen.add(table)
    return empty, copied


def updated_columns(steps: Sequence[Step]) -> Dict[str, List[str]]:
    """The tables of which no step changes more than declared columns, with all these columns."""
    columns: Dict[str, List[str]] = {}
    whole = {
        table for step in steps for table in (*step.emptied, *step.changed)
        if table not in step.updated
    }  # fmt: skip
    for step in steps:
        for table, names in step.updated.items():
            if table in step.changed and table not in whole:
                columns[table] = [*dict.fromkeys([*columns.get(table, []), *names])]
    return columns
