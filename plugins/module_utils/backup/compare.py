# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of a restore: tables loaded beside the live ones, compared, counted."""

from __future__ import annotations

from contextlib import suppress
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .. import change, fingerprint, guard, held, marker, postgres, privileges, progress
from ..errors import InvalidInput, ModuleFailure, Refused, Stale
from ..fingerprint import Column
from . import catalog, source
from . import load as loading
from . import manifest as manifests
from . import origin as origins
from .chunks import Wanted, fingerprints
from .difference import Difference, between, rows_text
from .target import Target, oids, pairs

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql

if TYPE_CHECKING:
    from ..fingerprint import Fingerprint
    from .manifest import SequenceEntry, TableEntry


_VERBS = {"appear": "appears", "vanish": "vanishes", "differ": "differs"}


class Comparison:
    """The live tables beside what the backup holds of them, and the changes between the two."""

    def __init__(
        self, params: Mapping[str, Any], snapshot: source.Snapshot, origin: origins.Origin
    ) -> None:
        self.params, self.snapshot, self.origin = params, snapshot, origin
        self.cursor = snapshot.cursor
        self.targets: List[Target] = []
        self.differences: Dict[str, Difference] = {}
        self.replaced: Set[str] = set()
        self.direct: Set[str] = set()
        self._seen: Dict[str, TableEntry] = {}
        self.copies: Dict[str, str] = {}
        self.live: Dict[str, Fingerprint] = {}
        self.wanted: Dict[str, Fingerprint] = {}
        self.sequences: Dict[str, List[Tuple[SequenceEntry, SequenceEntry]]] = {}
        self.references: List[catalog.Reference] = []
        self.marked: Optional[Dict[str, Any]] = None
        self.run: Optional[Mapping[str, Any]] = None

    @property
    def in_place(self) -> bool:
        """Whether tables, sequences and run marker are as the restore leaves them."""
        return not self.differences and self.run is self.marked

    @property
    def filled(self) -> Dict[Tuple[str, str], Target]:
        """The targets whose rows change, by their place."""
        return {target.place: target for target in self.targets if target.name in self.replaced}

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
            self.copies[target.name] = "runbook_copy_{}".format(len(self.targets))
            generated = " INCLUDING GENERATED" if self.snapshot.version >= 120000 else ""
            self.cursor.execute(
                sql.SQL(
                    "CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING CONSTRAINTS INCLUDING INDEXES{})"
                ).format(
                    loading.stage(self.copies[target.name]),
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
        self.marked = marker.saved(self.cursor)
        self.run = self._run_after()
        if check_mode:
            self.references = catalog.references(self.cursor, oids(self.cursor, self.targets))
        followed = {place for key in self.references for place in (key.place, key.to)}
        if check_mode and self.params["run"]:
            followed |= {("public", name) for name in marker.RUN_TABLES}
        self.live = fingerprints(
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
            live = self.live[target.name]
            known = (entry["rows"], entry["fingerprint"])
            empty = not live.rows and len(target.stages) == 1
            staged_for_check = target.place in followed or target.name in self.copies
            if whole and entry["fingerprint"] and empty and not staged_for_check:
                self.direct.add(target.name)
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
            self.sequences[target.name] = self._moved_sequences(target, now)
            wanted = self.wanted[target.name] = self._fingerprint_after(target)
            if live == wanted:
                if self.sequences[target.name]:
                    self.differences[target.name] = Difference(live.rows, live.rows, 0, 0, 0)
            else:
                self.replaced.add(target.name)
                with progress.step(progress.COMPARE, target.name):
                    self.differences[target.name] = self._difference(target, live.rows)

    def guard(self) -> None:
        """Refuse what the swap would meet in the tables that change, in a check as in an apply."""
        where = postgres.database_name(self.params)
        guard.require_restorable(
            self.cursor,
            where,
            [*self.filled],
            [
                (live["schema"], live["name"])
                for moved in self.sequences.values()
                for live, _ in moved
            ],
            self.params["allowed_triggers"],
        )
        if self.run is not self.marked and self.run is not None:
            upgraded = not marker.has_column(self.cursor, "made_with")
            privileges.require_marker(self.cursor, where, upgraded=upgraded)

    def require_left(self) -> None:
        """Raise Refused for tables that differ from the backup and from each state in ``left``.

        Without that option any state is accepted.
        """
        if self.params["left"] is None:
            return
        moved = []
        for target in self.filled.values():
            states = self.params["left"].get(target.label, [])
            if not any(self._holds(target, state) for state in states):
                rows = rows_text(self.live[target.name].rows)
                left = " or ".join(rows_text(state["rows"]) for state in states)
                same = any(state["rows"] == self.live[target.name].rows for state in states)
                text = "{}, with other content" if same else "{}, not {}"
                moved.append("table {} has {}".format(target.label, text.format(rows, left)))
        if moved:
            raise Refused(
                "{}: tables were changed after the run: {}; nothing was changed. --force-step "
                "tables replaces their rows by those of backup {} nevertheless".format(
                    postgres.database_name(self.params), "; ".join(moved), self.origin.label
                )
            )

    def require_proof(self) -> None:
        """Raise Refused unless the option ``backup``, a manifest, holds the rows to be replaced."""
        backup = self.params["backup"] or {}
        if not backup or backup.get("planned"):
            return
        lost = [
            target.label
            for target in self.filled.values()
            if self.live[target.name].rows
            and not self._holds(target, backup["tables"].get(target.label))
        ]
        if lost:
            raise Refused(
                "{}: rows were written after backup {} was made, which does not hold them: {}; "
                "nothing was changed by this step. Run the same command again".format(
                    postgres.database_name(self.params), backup["backup_id"], ", ".join(lost)
                )
            )

    def _holds(self, target: Target, state: Optional[Mapping[str, Any]]) -> bool:
        """Whether a table's rows are those of a state, its count and fingerprint."""
        if state is None:
            return False
        live, like = self.live[target.name], state["fingerprint"]
        if live.fingerprint.partition(":")[0] != like.partition(":")[0]:
            columns = target.typed(target.live)
            live = fingerprint.of_columns(self.cursor, *target.place, columns, like=like)
        return (live.rows, live.fingerprint) == (state["rows"], like)

    def hold(self) -> None:
        """Raise Stale unless the restore is the one that was planned; before anything changes."""
        where = postgres.database_name(self.params)
        held.require(self.params.get("planned"), self.changes(), where)

    def _run_after(self) -> Optional[Mapping[str, Any]]:
        """The run that the tables are after the restore; the marked one itself where it stays.

        What the parameters say, else what the backup says, if it is this instance's own. Tables
        that are only in part restored are a run only if both parts are the same one.
        """
        if self.params["run"]:
            said = dict(self.params["run"], applied_at=None, made_with={})
            return self.marked if self.marked and marker.is_same(self.marked, said) else said
        places = {("public", name) for name in marker.RUN_TABLES}
        replaced = places & {target.place for target in self.targets}
        run = self.origin.run if self.params["same_instance"] else None
        same = marker.is_same(self.marked, run) and (
            not run or not self.marked or run["applied_at"] == self.marked["applied_at"]
        )
        if not replaced or same:
            return self.marked
        if run is not None and replaced == places:
            return run
        return self.marked if not marker.is_run(self.marked) else marker.RESTORED

    def _fingerprint_after(self, target: Target) -> Fingerprint:
        """The rows of a table after the restore: by the manifest, or else by its stages."""
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
        if target.name in self.direct:
            rows = self.origin.tables[target.name]["rows"]
            return Difference(0, rows, rows, 0, 0)
        return between(self.cursor, target, before)

    def changes(self) -> List[change.Change]:
        """A change for every table, whether it differs or not."""
        found = []
        where = postgres.database_name(self.params)
        for target in self.targets:
            live = self.live[target.name]
            difference = self.differences.get(
                target.name, Difference(live.rows, live.rows, 0, 0, 0)
            )
            before, after = rows_text(difference.before) + "\n", rows_text(difference.after) + "\n"
            for plural, one in _VERBS.items():
                count = getattr(difference, plural)
                if count:
                    after += "{} {}\n".format(rows_text(count), one if count == 1 else plural)
            for sequence, wanted in self.sequences[target.name]:
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
                        live.fingerprint, self.wanted[target.name].fingerprint
                    ),
                )
            )
        if self.run is not self.marked:
            found.append(
                change.Change(
                    resource="{} run marker".format(where),
                    action="insert",
                    before=_marked_line(self.marked),
                    after=_marked_line(self.run),
                    counts={"rows_inserted": 1},
                )
            )
        return found


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
