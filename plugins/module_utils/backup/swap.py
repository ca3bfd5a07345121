# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The swap of a restore: live tables emptied and filled, in one transaction.

It empties a live table (TRUNCATE) and fills it from the loaded one, so that its identity, and
with it views, privileges and triggers, stays; renaming tables would not keep them. Foreign keys of
the tables that change are dropped and made again in the same transaction: no order of the tables
can be wrong, nothing cascades into tables that are not restored, and PostgreSQL checks every
reference when it makes them again. The stages are temporary tables: a run that dies leaves nothing.
Before the commit every filled table is fingerprinted: neither a rule nor a trigger changed a row.

An empty live table has nothing to lose or to compare, so its rows are loaded straight into it, in
the same transaction: twice as fast, and just as safe.
"""

from __future__ import annotations

from contextlib import suppress
from typing import (
    TYPE_CHECKING,
    Optional,
    Sequence,
)

from .. import fingerprint, marker, progress, server
from ..errors import InvalidInput, ModuleFailure
from . import catalog
from . import load as loading
from . import manifest as manifests
from .compare import Comparison
from .fit import fitting
from .target import Target, oids

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql

if TYPE_CHECKING:
    from psycopg2.sql import Composed

    from .manifest import SequenceEntry


_FOREIGN_KEY_VIOLATION = "23503"
#: From so many rows on it pays to make indexes after the load instead of row by row.
_REBUILD_ROWS = 20000
#: Memory in kB that the server may take to sort for an index, unless it is set to more.
_SORT_KB = 256 << 10


class Swap:
    """The changes of a comparison, made in its transaction."""

    def __init__(self, found: Comparison) -> None:
        self.found, self.cursor = found, found.cursor

    def apply(self) -> None:
        """Empty and fill the live tables, set the sequences; nothing is committed here."""
        filled = [*self.found.filled.values()]
        keys = catalog.foreign_keys(self.cursor, oids(self.cursor, filled))
        for key in keys:
            self.cursor.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                    catalog.identifier(key.schema, key.table), sql.Identifier(key.name)
                )
            )
        for target in filled:
            with fitting(self.found.origin.label, target):
                self._fill(target)
        for key in keys:
            self._add(key)
        for target in self.found.targets:
            for live, wanted in self.found.sequences[target.name]:
                self._set_sequence(live, wanted)

    def mark(self) -> Optional[int]:
        """Say in the run marker which run the tables are now; its row, None when it says so.

        Nothing is committed here.
        """
        if self.found.run is self.found.marked or self.found.run is None:
            return None
        marker.create(self.cursor)
        return marker.insert(
            self.cursor,
            self.found.run,
            backup_id=self.found.origin.backup_id,
            made_with=self.found.run.get("made_with"),
            applied_at=self.found.run.get("applied_at"),
            how="restored by ",
            table=("runbook", marker.TABLE),
        )

    def _fill(self, target: Target) -> None:
        table = catalog.identifier(*target.place)
        relations = catalog.relations(self.cursor, *target.place)
        triggers = catalog.enabled_triggers(self.cursor, oids(self.cursor, [target]))
        # The rows are as the backup has them: triggers would write what they wrote once already.
        for trigger in triggers:
            self.cursor.execute(trigger.disable)
        self.cursor.execute(sql.SQL("TRUNCATE {}").format(table))
        indexes = []
        if self.found.differences[target.name].after >= _REBUILD_ROWS and len(relations) == 1:
            indexes = catalog.rebuildable_indexes(self.cursor, *target.place)
        for index in indexes:
            self.cursor.execute(index.drop)
        if target.name in self.found.direct:
            total = manifests.total(self.found.origin.tables[target.name])
            with progress.loading(progress.RESTORE, target.name, total):
                self.found.origin.load_into(self.cursor, target.name, table, target.live, "")
        else:
            with progress.step(progress.FILL, target.name):
                self._insert(target, table, relations)
        with progress.step(progress.INDEX, target.name):
            self._rebuild(indexes)
        for trigger in triggers:
            self.cursor.execute(trigger.enable)
        like = self.found.origin.tables[target.name]["fingerprint"]
        with progress.step(progress.COMPARE, target.name):
            filled = fingerprint.of_columns(
                self.cursor, *target.place, target.typed(target.live), like=like
            )
        if filled != self.found.wanted[target.name]:
            raise ModuleFailure(
                "table {} does not hold what backup {} says ({} rows, {}); the transaction "
                "was rolled back".format(target.label, self.found.origin.label, *filled)
            )

    def _rebuild(self, indexes: Sequence[catalog.Index]) -> None:
        if indexes:
            self.cursor.execute(
                "SELECT set_config('maintenance_work_mem', %s, true) WHERE %s > ("
                "SELECT setting::bigint FROM pg_settings WHERE name = 'maintenance_work_mem')",
                (str(_SORT_KB), _SORT_KB),
            )
        for index in indexes:
            for statement in index.create:
                self.cursor.execute(statement)

    def _insert(
        self, target: Target, table: Composed, relations: Sequence[catalog.Relation]
    ) -> None:
        """From the stages, whose fingerprint is the manifest's, all rows as they are."""
        places = {relation.label: (relation.schema, relation.name) for relation in relations}
        overriding = "OVERRIDING SYSTEM VALUE" if self.found.snapshot.version >= 100000 else ""
        rows = 0
        for label, stage in target.stages.items():
            into = table if len(target.stages) == 1 else catalog.identifier(*places[label])
            self.cursor.execute(
                sql.SQL("INSERT INTO {} ({}) {} SELECT {} FROM {}").format(
                    into,
                    catalog.column_list(target.live),
                    sql.SQL(overriding),
                    catalog.column_list(target.backed_up),
                    loading.stage(stage),
                )
            )
            rows += self.cursor.rowcount
        expected = self.found.differences[target.name].after
        if rows != expected:
            raise ModuleFailure(
                "table {}: {} of {} rows were inserted; the transaction was rolled back".format(
                    target.label, rows, expected
                )
            )

    def _add(self, key: catalog.ForeignKey) -> None:
        table, name = catalog.identifier(key.schema, key.table), sql.Identifier(key.name)
        try:
            self.cursor.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                    table, name, sql.SQL(key.definition)
                )
            )
        except psycopg2.Error as error:
            if error.pgcode != _FOREIGN_KEY_VIOLATION:
                raise
            raise InvalidInput(
                "the restored rows do not fit the others (foreign key {} of table {}): {} {}; "
                "restore both tables from the same backup. Nothing was changed".format(
                    key.name,
                    catalog.label(key.schema, key.table),
                    error.diag.message_primary,
                    (error.diag.message_detail or "").rstrip("."),
                )
            ) from error
        if key.comment is not None:
            self.cursor.execute(
                sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                    name, table, sql.Literal(key.comment)
                )
            )

    def _set_sequence(self, live: SequenceEntry, wanted: SequenceEntry) -> None:
        name = catalog.identifier(live["schema"], live["name"])
        server.renew_sequence(self.cursor, name.as_string(self.cursor))
        self.cursor.execute(
            "SELECT setval(%s::regclass, %s, %s)",
            (name.as_string(self.cursor), wanted["last_value"], wanted["is_called"]),
        )
