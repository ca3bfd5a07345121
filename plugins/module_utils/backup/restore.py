# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tables from S3: verified, loaded beside the live ones, compared, swapped in one transaction.

The swap empties a live table (TRUNCATE) and fills it from the loaded one, so that its identity, and
with it views, privileges and triggers, stays; renaming tables would not keep them. Foreign keys of
the tables that change are dropped and made again in the same transaction: no order of the tables
can be wrong, nothing cascades into tables that are not restored, and PostgreSQL checks every
reference when it makes them again. The stages are temporary tables: a run that dies leaves nothing.
Before the commit every filled table is fingerprinted: neither a rule nor a trigger changed a row.

An empty live table has nothing to lose or to compare, so its rows are loaded straight into it, in
the same transaction: twice as fast, and just as safe.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .. import change, fingerprint, guard, held, lease, marker, postgres, progress, server
from ..errors import InvalidInput, ModuleFailure, Refused, Stale
from ..fingerprint import Column
from ..s3 import Bucket
from . import catalog, source
from . import load as loading
from . import manifest as manifests
from . import origin as origins
from .difference import Difference, between
from .make import Wanted, fingerprints
from .target import Target, mappings, pairs

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql

if TYPE_CHECKING:
    from psycopg2.sql import Composable, Composed

    from ..fingerprint import Fingerprint
    from .manifest import SequenceEntry, TableEntry

_NOT_NULL_VIOLATION, _FOREIGN_KEY_VIOLATION, _CHECK_VIOLATION = "23502", "23503", "23514"
#: From so many rows on it pays to make indexes after the load instead of row by row.
_REBUILD_ROWS = 20000
#: Memory in kB that the server may take to sort for an index, unless it is set to more.
_SORT_KB = 256 << 10
_VERBS = {"appear": "appears", "vanish": "vanishes", "differ": "differs"}


def restored(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
    """The live tables hold what the backup holds; those that do already are left alone."""
    if check_mode:
        return _restored(params, check_mode)
    with lease.held(params):
        return _restored(params, check_mode)


def _restored(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
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
        guard.require_comparable(
            snapshot.cursor, postgres.database_name(params), list(snapshot.places.values())
        )
        restore = _Restore(params, snapshot, origin)
        restore.add(
            [(name, snapshot.places[table], mapping[name]) for name, table in into.items()],
            check_mode,
        )
        snapshot.begin("ACCESS SHARE" if check_mode else "SHARE ROW EXCLUSIVE", readonly=check_mode)
        restore.compare(check_mode)
        restore.guard()
        restore.hold()
        if check_mode:
            restore.check_constraints()
            restore.check_references()
            restore.check_run(staged=True)
        elif restore.in_place:
            restore.check_run(staged=False)
        else:
            restore.swap()
            restore.check_run(staged=False)
            restore.mark()
            session.commit()
    return change.result(
        restore.changes(),
        backup_id=origin.backup_id,
        in_place=restore.in_place,
        tables={name: found._asdict() for name, found in restore.differences.items()},
    )


class _Restore:
    def __init__(
        self, params: Mapping[str, Any], snapshot: source.Snapshot, origin: origins.Origin
    ) -> None:
        self.params, self.snapshot, self.origin = params, snapshot, origin
        self.cursor = snapshot.cursor
        self.targets: List[Target] = []
        self.differences: Dict[str, Difference] = {}
        self._replaced: Set[str] = set()
        self._direct: Set[str] = set()
        self._seen: Dict[str, TableEntry] = {}
        self._copies: Dict[str, str] = {}
        self._live: Dict[str, Fingerprint] = {}
        self._wanted: Dict[str, Fingerprint] = {}
        self._sequences: Dict[str, List[Tuple[SequenceEntry, SequenceEntry]]] = {}
        self._references: List[catalog.Reference] = []
        self._marked: Optional[Dict[str, Any]] = None
        self._run: Optional[Mapping[str, Any]] = None

    @property
    def in_place(self) -> bool:
        """Whether tables, sequences and run marker are as the restore leaves them."""
        return not self.differences and self._run is self._marked

    def add(
        self,
        wanted: Sequence[Tuple[str, Tuple[str, str], Mapping[str, Any]]],
        check_mode: bool,
    ) -> None:
        """The tables to restore, where and with which mapping; before the transaction begins."""
        places = [place for _, place, _ in wanted]
        for place in places:
            if places.count(place) > 1:
                raise InvalidInput(
                    "two tables are to be restored into {}".format(catalog.label(*place))
                )
        live = catalog.describe_all(self.cursor, places)
        relations = catalog.relations_all(self.cursor, places)
        for name, place, mapping in wanted:
            self._add_target(name, mapping, live[place], relations[place])
            if check_mode:
                self._add_copy(self.targets[-1])

    def _add_target(
        self,
        name: str,
        mapping: Mapping[str, Any],
        live: TableEntry,
        relations: List[catalog.Relation],
    ) -> None:
        place = (live["schema"], live["name"])
        entry = self.origin.tables[name]
        where = "table {}".format(catalog.label(*place))
        columns = pairs(entry, live, mapping, where)
        labels = [catalog.label(*place)]
        if live["kind"] == "table" and len(relations) > 1:
            labels = [relation.label for relation in relations]
            self._check_children(relations, live)
        renamed = dict(columns)
        query = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(
                    sql.Identifier(renamed[column["name"]]), sql.Identifier(column["name"])
                )
                if column["name"] in renamed
                else sql.SQL("NULL::text AS {}").format(sql.Identifier(column["name"]))
                for column in entry["columns"]
            ),
            catalog.identifier(*place),
        )
        names = [column["name"] for column in entry["columns"]]
        stages = {
            label: "runbook_stage_{}_{}".format(len(self.targets), number)
            for number, label in enumerate(labels)
        }
        for stage in stages.values():
            loading.create_stage(self.cursor, stage, names, query)
        types = {column["name"]: column["type"] for column in live["columns"]}
        kinds = [types[into] for _, into in columns]
        self.targets.append(Target(name, place, columns, kinds, stages))
        self._seen[name] = live

    def _add_copy(self, target: Target) -> None:
        """An empty copy of a table with constraints that the rows of the backup may break.

        Those that the table had when it was backed up hold for its rows. A copy is made for others,
        and of tables of which all columns are restored. It has other names of indexes.
        """
        live, entry = self._seen[target.name], self.origin.tables[target.name]
        known = {*entry["definition"], *(c["name"] for c in entry["columns"] if c["not_null"])}
        needed = [line for line in live["definition"] if " FOREIGN KEY (" not in line]
        needed += [
            name for name, column in ((c["name"], c) for c in live["columns"]) if column["not_null"]
        ]
        whole = len(target.columns) == len(live["columns"]) and len(target.stages) == 1
        if whole and not known.issuperset(needed):
            self._copies[target.name] = "runbook_copy_{}".format(len(self.targets))
            generated = " INCLUDING GENERATED" if self.snapshot.version >= 120000 else ""
            self.cursor.execute(
                sql.SQL(
                    "CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING CONSTRAINTS INCLUDING INDEXES{})"
                ).format(
                    loading.stage(self._copies[target.name]),
                    catalog.identifier(*target.place),
                    sql.SQL(generated),
                )
            )

    def _check_children(self, relations: List[catalog.Relation], live: TableEntry) -> None:
        own = {column["name"] for column in live["columns"]}
        for relation in relations:
            found = {
                column.name
                for column in fingerprint.columns(self.cursor, relation.schema, relation.name)
            }
            if found - own:
                raise InvalidInput(
                    "table {} inherits from {} and has more columns ({}), which the backup of the "
                    "parent does not hold: back up and restore {} by its own name".format(
                        relation.label,
                        catalog.label(live["schema"], live["name"]),
                        ", ".join(sorted(found - own)),
                        relation.label,
                    )
                )

    def compare(self, check_mode: bool) -> None:
        """Load what differs beside the live tables, hold it against the manifest, count.

        What goes into an empty table is loaded too when a check wants to follow its foreign keys.
        """
        self._marked = marker.saved(self.cursor)
        self._run = self._run_after()
        if check_mode:
            self._references = catalog.references(self.cursor, self._oids(self.targets))
        followed = {place for key in self._references for place in (key.place, key.to)}
        if check_mode and self.params["run"]:
            followed |= {("public", name) for name in marker.RUN_TABLES}
        self._live = fingerprints(
            self.snapshot,
            {
                target.name: Wanted(
                    target.place,
                    target.typed(target.live),
                    self.origin.tables[target.name]["fingerprint"],
                )
                for target in self.targets
            },
            self.params,
        )
        described = catalog.describe_all(self.cursor, [target.place for target in self.targets])
        for target in self.targets:
            now = described[target.place]
            if now["columns"] != self._seen[target.name]["columns"]:
                raise Stale("table {} was altered meanwhile; run it again".format(target.label))
            entry = self.origin.tables[target.name]
            whole = len(target.columns) == len(entry["columns"])
            live = self._live[target.name]
            known = (entry["rows"], entry["fingerprint"])
            empty = not live.rows and len(target.stages) == 1
            staged_for_check = target.place in followed or target.name in self._copies
            if whole and entry["fingerprint"] and empty and not staged_for_check:
                self._direct.add(target.name)
            elif not whole or live != known:
                with progress.loading(progress.RESTORE, target.name, manifests.total(entry)):
                    self.origin.load(self.cursor, target.name, target.stages)
                staged = self._stage_fingerprint(target, manifests.columns(entry))
                if entry["fingerprint"] and staged != known:
                    raise ModuleFailure(
                        "backup {}, table {}: its rows do not have the fingerprint of the manifest "
                        "({} rows, {}; expected {}, {}); the database was not changed".format(
                            self.origin.label, target.name, *staged, *known
                        )
                    )
            self._sequences[target.name] = self._moved_sequences(target, now)
            wanted = self._wanted[target.name] = self._fingerprint_after(target)
            if live == wanted:
                if self._sequences[target.name]:
                    self.differences[target.name] = Difference(live.rows, live.rows, 0, 0, 0)
            else:
                self._replaced.add(target.name)
                with progress.step(progress.COMPARE, target.name):
                    self.differences[target.name] = self._difference(target, live.rows)

    def guard(self) -> None:
        """Refuse what the swap would meet in the tables that change, in a check as in an apply."""
        where = postgres.database_name(self.params)
        guard.require_restorable(
            self.cursor,
            where,
            [target.place for target in self.targets if target.name in self._replaced],
            [
                (live["schema"], live["name"])
                for moved in self._sequences.values()
                for live, _ in moved
            ],
            self.params["allowed_triggers"],
        )
        if self._run is not self._marked and self._run is not None:
            upgraded = not marker.has_column(self.cursor, "made_with")
            guard.require_marker(self.cursor, where, upgraded=upgraded)

    def hold(self) -> None:
        """Raise Stale unless the restore is the one that was planned; before anything changes."""
        where = postgres.database_name(self.params)
        held.require(self.params["planned"], self.changes(), where)

    def _run_after(self) -> Optional[Mapping[str, Any]]:
        """The run that the tables are after the restore; the marked one itself where it stays.

        What the parameters say, else what the backup says, if it is this instance's own. Tables
        that are only in part restored are a run only if both parts are the same one.
        """
        if self.params["run"]:
            said = dict(self.params["run"], applied_at=None, made_with={})
            return self._marked if self._marked and marker.is_same(self._marked, said) else said
        places = {("public", name) for name in marker.RUN_TABLES}
        replaced = places & {target.place for target in self.targets}
        run = self.origin.run if self.params["same_instance"] else None
        same = marker.is_same(self._marked, run) and (
            not run or not self._marked or run["applied_at"] == self._marked["applied_at"]
        )
        if not replaced or same:
            return self._marked
        if run is not None and replaced == places:
            return run
        return self._marked if not marker.is_run(self._marked) else marker.RESTORED

    def _fingerprint_after(self, target: Target) -> Fingerprint:
        """What a table holds after the restore: by the manifest, or else by its stages."""
        entry = self.origin.tables[target.name]
        if entry["fingerprint"] and len(target.columns) == len(entry["columns"]):
            return fingerprint.Fingerprint(entry["rows"], entry["fingerprint"])
        return self._stage_fingerprint(target, target.typed(target.backed_up))

    def _stage_fingerprint(self, target: Target, columns: Sequence[Column]) -> Fingerprint:
        parts = []
        like = self.origin.tables[target.name]["fingerprint"]
        for stage in target.stages.values():
            with progress.step(progress.COMPARE, target.name):
                parts.append(
                    fingerprint.of_columns(self.cursor, loading.STAGES, stage, columns, like=like)
                )
        return fingerprint.combine(parts)

    def _moved_sequences(
        self, target: Target, live: TableEntry
    ) -> List[Tuple[SequenceEntry, SequenceEntry]]:
        """The live sequences whose values differ from the backup's: live and wanted.

        Restored into a table of another name, only its own: its defaults may draw from others'.
        """
        renamed, origin = dict(target.columns), self.origin.tables[target.name]
        sequences = live["sequences"]
        if target.place != (origin["schema"], origin["name"]):
            own = catalog.owned_sequences(self.cursor, *target.place)
            sequences = {label: entry for label, entry in sequences.items() if label in own}
        found = []
        for name, wanted in origin["sequences"].items():
            for label, entry in sequences.items():
                same = (
                    renamed.get(wanted["column"]) == entry["column"]
                    if wanted["column"]
                    else label == name
                )
                values = (entry["last_value"], entry["is_called"])
                if same and values != (wanted["last_value"], wanted["is_called"]):
                    found.append((entry, wanted))
        return found

    def _difference(self, target: Target, before: int) -> Difference:
        if target.name in self._direct:
            rows = self.origin.tables[target.name]["rows"]
            return Difference(0, rows, rows, 0, 0)
        return between(self.cursor, target, before)

    def check_constraints(self) -> None:
        """Refuse, in a check, rows that the constraints of their table would refuse."""
        for target in self.targets:
            if target.name in self._replaced and target.name in self._copies:
                with self._fitting(target):
                    self.cursor.execute(
                        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
                            loading.stage(self._copies[target.name]),
                            catalog.column_list(target.live),
                            catalog.column_list(target.backed_up),
                            loading.stage(next(iter(target.stages.values()))),
                        )
                    )

    @contextmanager
    def _fitting(self, target: Target) -> Iterator[None]:
        """Raise InvalidInput for rows that a constraint refuses, of the table or of a copy of it.

        The names of the indexes and of the relation are not those of the table in a copy.
        """
        try:
            yield
        except psycopg2.IntegrityError as error:
            diagnosis = error.diag
            key = re.match(r"Key (\(.*?\))", diagnosis.message_detail or "")
            if error.pgcode == _NOT_NULL_VIOLATION:
                broken = "column {} may not be null".format(diagnosis.column_name)
            elif error.pgcode == _CHECK_VIOLATION:
                broken = "they violate check constraint {}".format(diagnosis.constraint_name)
            else:
                broken = "they violate a unique or exclusion constraint{}".format(
                    " on {}".format(key.group(1)) if key else ""
                )
            raise InvalidInput(
                "the rows of backup {} do not fit table {} as it is now: {}; nothing was changed. "
                "Alter the table, or restore the others only".format(
                    self.origin.label, target.label, broken
                )
            ) from error

    def check_references(self) -> None:
        """Refuse, in a check, what the foreign keys would refuse when the swap makes them again.

        Not those of one partition of a table that is restored as a whole.
        """
        after = {target.place: target for target in self.targets if target.name in self._replaced}
        for key in self._references:
            if not {key.place, key.to} & after.keys():
                continue
            referring = self._rows_after(key.place, key.columns, after)
            known = self._rows_after(key.to, key.to_columns, after)
            if referring is None or known is None:
                continue
            columns, others = (
                [sql.SQL("{}.{}").format(sql.SQL(side), sql.Identifier(name)) for name in names]
                for side, names in (("r", key.columns), ("k", key.to_columns))
            )
            self.cursor.execute(
                sql.SQL(
                    "SELECT count(*), min(ROW({})::text) FROM ({}) AS r WHERE {}"
                    " AND NOT EXISTS (SELECT FROM ({}) AS k WHERE {})"
                ).format(
                    sql.SQL(", ").join(columns),
                    referring,
                    sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(c) for c in columns),
                    known,
                    sql.SQL(" AND ").join(
                        sql.SQL("{} = {}").format(*pair) for pair in zip(columns, others)
                    ),
                )
            )
            count, example = self.cursor.fetchone() or (0, "")
            if count:
                raise InvalidInput(
                    "the restored rows do not fit the others (foreign key {} of table {}): {} "
                    "would refer to what is not in table {}, for instance {} {}; restore both "
                    "tables from the same backup".format(
                        key.name,
                        catalog.label(*key.place),
                        _rows(count),
                        catalog.label(*key.to),
                        ", ".join(key.columns),
                        example,
                    )
                )

    def check_run(self, *, staged: bool) -> None:
        """Refuse when the tables, as the restore leaves them, are not the run that was said.

        ``staged``: the new rows are beside the live tables, not yet in them.
        """
        if not self.params["run"]:
            return
        after = {target.place: target for target in self.targets if target.name in self._replaced}
        tables = {}
        for name, columns in marker.USED.items():
            place = ("public", name)
            rows = self._rows_after(place, columns, after) if staged and place in after else None
            if rows is not None:
                tables[name] = sql.SQL("({})").format(rows)
        found = marker.inconsistencies(self.cursor, self.params["run"], tables)
        if found:
            raise Refused(
                "{}: the restored tables are not {}: {}. Nothing was changed".format(
                    postgres.database_name(self.params),
                    marker.text(self.params["run"]),
                    "; ".join(found),
                )
            )

    def mark(self) -> None:
        """Say in the run marker which run the tables are now; nothing is committed here."""
        if self._run is self._marked or self._run is None:
            return
        marker.create(self.cursor)
        marker.insert(
            self.cursor,
            self._run,
            backup_id=self.origin.backup_id,
            made_with=self._run.get("made_with"),
            applied_at=self._run.get("applied_at"),
            how="restored by ",
            table=("runbook", marker.TABLE),
        )

    def _rows_after(
        self, place: Tuple[str, str], columns: Sequence[str], after: Mapping[Any, Target]
    ) -> Optional[Composable]:
        """Columns of a table as the restore leaves it; None where a check does not know them.

        A foreign key sees the rows of the table alone, without those of tables that inherit from
        it, but all rows of a partitioned one.
        """
        if place in after:
            return self._staged(after[place], place, columns)
        staged = {label: target for target in after.values() for label in target.stages}
        relations = catalog.relations(self.cursor, *place)
        own = [found for found in relations if (found.schema, found.name) == place]
        parts: List[Composable] = []
        for found in own or relations:
            label = catalog.label(found.schema, found.name)
            if label in staged:
                part = self._staged(staged[label], (found.schema, found.name), columns)
            elif catalog.is_part_of(self.cursor, found.oid, [*after]):
                part = None  # which rows of a partitioned table go into one partition
            else:
                part = sql.SQL("SELECT {} FROM ONLY {}").format(
                    catalog.column_list(columns), catalog.identifier(found.schema, found.name)
                )
            if part is None:
                return None
            parts.append(part)
        return sql.SQL(" UNION ALL ").join(parts) if parts else None

    def _staged(
        self, target: Target, place: Tuple[str, str], columns: Sequence[str]
    ) -> Optional[Composable]:
        """Columns of the rows that go into a table; None when one of them gets its default."""
        backed_up = {live: name for name, live in target.columns}
        if not set(columns) <= set(backed_up):
            return None
        return sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(sql.Identifier(backed_up[name]), sql.Identifier(name))
                for name in columns
            ),
            loading.stage(target.stages[catalog.label(*place)]),
        )

    def swap(self) -> None:
        """Empty and fill the live tables, set the sequences; nothing is committed here."""
        rows = [target for target in self.targets if target.name in self._replaced]
        oids = self._oids(rows)
        keys = catalog.foreign_keys(self.cursor, oids)
        for key in keys:
            self.cursor.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                    catalog.identifier(key.schema, key.table), sql.Identifier(key.name)
                )
            )
        for target in rows:
            with self._fitting(target):
                self._fill(target)
        for key in keys:
            self._add(key)
        for target in self.targets:
            for live, wanted in self._sequences[target.name]:
                self._set_sequence(live, wanted)

    def _oids(self, targets: Sequence[Target]) -> List[int]:
        """The oids of live tables and of all that hold their rows."""
        places = [target.place for target in targets]
        relations = catalog.relations_all(self.cursor, places)
        own = [oid for oid, _, _ in catalog.oids_of(self.cursor, places)]
        return own + [relation.oid for found in relations.values() for relation in found]

    def _fill(self, target: Target) -> None:
        table = catalog.identifier(*target.place)
        relations = catalog.relations(self.cursor, *target.place)
        triggers = catalog.enabled_triggers(self.cursor, self._oids([target]))
        # The rows are as the backup has them: triggers would write what they wrote once already.
        for trigger in triggers:
            self.cursor.execute(trigger.disable)
        self.cursor.execute(sql.SQL("TRUNCATE {}").format(table))
        indexes = []
        if self.differences[target.name].after >= _REBUILD_ROWS and len(relations) == 1:
            indexes = catalog.rebuildable_indexes(self.cursor, *target.place)
        for index in indexes:
            self.cursor.execute(index.drop)
        if target.name in self._direct:
            total = manifests.total(self.origin.tables[target.name])
            with progress.loading(progress.RESTORE, target.name, total):
                self.origin.load_into(self.cursor, target.name, table, target.live, "")
        else:
            with progress.step(progress.FILL, target.name):
                self._insert(target, table, relations)
        with progress.step(progress.INDEX, target.name):
            self._rebuild(indexes)
        for trigger in triggers:
            self.cursor.execute(trigger.enable)
        like = self.origin.tables[target.name]["fingerprint"]
        with progress.step(progress.COMPARE, target.name):
            filled = fingerprint.of_columns(
                self.cursor, *target.place, target.typed(target.live), like=like
            )
        if filled != self._wanted[target.name]:
            raise ModuleFailure(
                "table {} does not hold what backup {} says ({} rows, {}); the transaction "
                "was rolled back".format(target.label, self.origin.label, *filled)
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
        overriding = "OVERRIDING SYSTEM VALUE" if self.snapshot.version >= 100000 else ""
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
        expected = self.differences[target.name].after
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

    def changes(self) -> List[change.Change]:
        """A change for every table, whether it differs or not."""
        found = []
        where = postgres.database_name(self.params)
        for target in self.targets:
            live = self._live[target.name]
            difference = self.differences.get(
                target.name, Difference(live.rows, live.rows, 0, 0, 0)
            )
            before, after = _rows(difference.before) + "\n", _rows(difference.after) + "\n"
            for plural, one in _VERBS.items():
                count = getattr(difference, plural)
                if count:
                    after += "{} {}\n".format(_rows(count), one if count == 1 else plural)
            for sequence, wanted in self._sequences[target.name]:
                before += _sequence_line(sequence, sequence)
                after += _sequence_line(sequence, wanted)
            found.append(
                change.Change(
                    resource="{} table {}".format(where, target.label),
                    action="restore",
                    before=before,
                    after=after,
                    counts={
                        "rows_{}".format(key): value for key, value in difference._asdict().items()
                    },
                    fingerprint="{} to {}".format(
                        live.fingerprint, self._wanted[target.name].fingerprint
                    ),
                )
            )
        if self._run is not self._marked:
            found.append(
                change.Change(
                    resource="{} run marker".format(where),
                    action="insert",
                    before=_marked_line(self._marked),
                    after=_marked_line(self._run),
                    counts={"rows_inserted": 1},
                )
            )
        return found


def _rows(count: int) -> str:
    return "{} {}".format(count, "row" if count == 1 else "rows")


def _marked_line(run: Optional[Mapping[str, Any]]) -> str:
    """A run in words, with the time, which distinguishes it from another of the same number."""
    applied = run.get("applied_at") if run else None
    return "{}{}\n".format(marker.text(run), ", applied {}".format(applied) if applied else "")


def _sequence_line(named: SequenceEntry, value: SequenceEntry) -> str:
    return "sequence {} at {}{}\n".format(
        catalog.label(named["schema"], named["name"]),
        value["last_value"],
        "" if value["is_called"] else " (not used)",
    )
