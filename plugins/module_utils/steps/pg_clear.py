# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step pg_clear: the tables of a finished run emptied (docs/labeller.md 2.2)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from .. import fingerprint, proof, shadow
from ..errors import InvalidInput
from ..step import Step
from . import availability, used_run
from .f_sites import queue_text

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

#: What clear_db.sh deletes whole; the order of deletion comes from the live foreign keys.
TABLES = [
    "user_maps",
    "accuracy_data",
    "assignment_history",
    "assignment_data",
    "assignment_review",
    "qual_user_maps",
    "qual_accuracy_data",
    "qual_assignment_data",
    "hit_data",
    "scenes_data",
    "machine_maps",
    "kml_data",
]

#: Not every labeller has these; nothing in it writes them (docs/labeller.md 1.1).
OPTIONAL = ["assignment_review", "machine_maps"]

#: Tables that number their rows, by column, and those whose numbers always start at 1 again.
NUMBERED = {
    "kml_data": "gid",
    "machine_maps": "gid",
    "hit_data": "hit_id",
    "assignment_data": "assignment_id",
    "assignment_review": "rid",
    "user_maps": "gid",
    "qual_assignment_data": "assignment_id",
    "qual_user_maps": "gid",
}
RESTARTED = ("kml_data", "machine_maps")

#: system_data at the start of a run, and what to write beside a row that had to be made.
SYSTEM_DATA = {
    "CurQaqcGid": ("0", "gid of the last Q cell that became a HIT"),
    "IterationCounter": ("0", "iteration that the consensus daemon is in"),
    "firstAvailLine": ("1", "next gid of master_grid for the selection of N sites"),
}


class PgClear(Step):
    """Empties the work tables, resets counters and codes; refused unless a backup proves all."""

    name = "pg_clear"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "backup": {"type": "dict"},
        "unprotected": {"type": "bool", "default": False},
        "tables": {"type": "list", "elements": "str", "default": TABLES},
        "optional_tables": {"type": "list", "elements": "str", "default": OPTIONAL},
        "reset_availability": {
            "type": "list",
            "elements": "str",
            "choices": ["I", "Q", "F", "E", "N"],
            "default": ["I", "Q", "F", "E"],
        },
        "restart_sequences": {"type": "bool", "default": False},
        "metrics": {"type": "str", "choices": ["keep", "clear"], "default": "keep"},
        "run_id": {"type": "int"},
        "static_names": {"type": "str"},
    }
    changed: Sequence[str] = ("incoming_names", "master_grid", "system_data")
    updated = availability.UPDATED

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.deleted: Mapping[str, Optional[str]] = {"incoming_names": "NOT processed"}
        if params["metrics"] == "clear":
            self.deleted = {"incoming_names": None, "iteration_metrics": None}
        if params["metrics"] == "clear" or params["run_id"] is not None:
            self.changed = (*self.changed, "iteration_metrics")

    def prepare(self, tx: Transaction) -> None:
        """Raises InvalidInput for tables that are not there or are not cleared this way."""
        wrong = sorted(set(self.params["tables"]) & {*self.changed, "run_marker"})
        if wrong:
            raise InvalidInput("pg_clear does not empty {} whole".format(", ".join(wrong)))
        present = [
            name
            for name in dict.fromkeys(self.params["tables"])
            if name not in self.params["optional_tables"] or shadow.exists(tx.cursor, name)
        ]
        shadow.require(tx.cursor, present)
        self.emptied = _children_first(present, _references(tx, present))
        if "kml_data" in self.emptied:
            self.read = ("kml_data_static",)
        run_id = self.params["run_id"]
        self.drawing = run_id is not None and used_run.is_drawing(
            tx, run_id, self.params["static_names"]
        )
        if self.drawing and self.params["metrics"] == "keep":
            own = "run = {}".format(run_id)
            self.deleted = {
                "incoming_names": "NOT processed OR {}".format(own),
                "iteration_metrics": own,
            }
        numbered = NUMBERED if self.params["restart_sequences"] else RESTARTED
        self.restarted = {name: NUMBERED[name] for name in numbered if name in self.emptied}

    def guard(self, tx: Transaction) -> None:
        """Raises Refused for rows that no backup proves."""
        self.live = {name: fingerprint.of_table(tx.cursor, "public", name) for name in self.emptied}
        unprocessed = tx.value(
            "SELECT EXISTS (SELECT 1 FROM public.incoming_names WHERE NOT processed)"
        )
        clear = self.params["metrics"] == "clear" or self.drawing
        deleted = dict(self.live)
        if unprocessed or clear:
            deleted["incoming_names"] = fingerprint.of_table(tx.cursor, "public", "incoming_names")
        if clear:
            metrics = fingerprint.of_table(tx.cursor, "public", "iteration_metrics")
            deleted["iteration_metrics"] = metrics
        if not self.params["unprotected"]:
            proof.require(tx, self.params["backup"] or tx.params.get("backup") or {}, deleted)

    def run(self, tx: Transaction) -> List[Change]:
        """One change for each table."""
        kml_data = queue_text(tx) if "kml_data" in self.emptied else ""
        gids = {name: _next_gid(tx, name) for name in self.restarted}
        counts = {name: tx.empty(name) for name in self.emptied}
        restarted = {name: _restart(tx, name) for name in gids}
        changes = [
            tx.table_change(
                name,
                "delete",
                "{:,} rows\n{}".format(counts[name], gids.get(name, "")),
                "0 rows\n{}".format(restarted.get(name, "")),
                {"rows_deleted": counts[name]},
                self.live[name].fingerprint,
            )
            for name in self.emptied
            if name != "kml_data"
        ]
        if "kml_data" in self.emptied:
            before = kml_data + gids["kml_data"]
            changes.append(self._refill(tx, before, counts["kml_data"]))
        return [
            *changes,
            self._incoming_names(tx),
            *self._metrics(tx),
            self._system_data(tx),
            *self._master_grid(tx),
        ]

    def _refill(self, tx: Transaction, before: str, deleted: int) -> Change:
        inserted = tx.execute(
            "INSERT INTO kml_data (kml_type, name, hint)"
            " SELECT kml_type, name, hint FROM kml_data_static ORDER BY gid"
        )
        after = queue_text(tx) + _next_gid(tx, "kml_data")
        columns = fingerprint.columns(tx.cursor, "public", "kml_data")
        found = fingerprint.of_columns(tx.cursor, None, "kml_data", columns)
        unchanged = found == self.live["kml_data"]
        return tx.table_change(
            "kml_data",
            "replace",
            before,
            after,
            {"rows_deleted": 0, "rows_inserted": 0}
            if unchanged
            else {"rows_deleted": deleted, "rows_inserted": inserted},
            self.live["kml_data"].fingerprint,
        )

    def _incoming_names(self, tx: Transaction) -> Change:
        text = "SELECT run, processed, count(*) FROM incoming_names GROUP BY 1, 2 ORDER BY 1, 2"

        def described() -> str:
            return "".join(
                "run {}: {:,} {}processed names\n".format(run, n, "" if processed else "not ")
                for run, processed, n in tx.rows(text)
            )

        before = described()
        kept = "processed" if self.params["metrics"] == "keep" else "false"
        deleted = tx.execute(
            "DELETE FROM incoming_names WHERE NOT {} OR run = %s".format(kept), (self._drawn_run,)
        )
        return tx.table_change(
            "incoming_names", "delete", before, described(), {"rows_deleted": deleted}
        )

    def _metrics(self, tx: Transaction) -> List[Change]:
        """Delete the metrics of earlier runs; their processed names, which refer to them, first."""
        if self.params["metrics"] == "keep" and not self.drawing:
            return []
        count = "{:,} rows\n"
        before = tx.value("SELECT count(*) FROM iteration_metrics")
        deleted = tx.execute(
            "DELETE FROM iteration_metrics WHERE %s OR run = %s",
            (self.params["metrics"] == "clear", self._drawn_run),
        )
        return [
            tx.table_change(
                "iteration_metrics", "delete", count.format(before), count.format(before - deleted),
                {"rows_deleted": deleted},
            )
        ]  # fmt: skip

    @property
    def _drawn_run(self) -> Any:
        """The run whose initial drawing is taken out of the tables; None for none."""
        return self.params["run_id"] if self.drawing else None

    def _system_data(self, tx: Transaction) -> Change:
        found: Dict[str, str] = dict(
            tx.rows("SELECT key, value FROM system_data WHERE key = ANY (%s)", (list(SYSTEM_DATA),))
        )
        wanted = {key: value for key, (value, _) in SYSTEM_DATA.items()}
        changed = {key: value for key, value in wanted.items() if found.get(key) != value}
        for key, value in changed.items():
            if key in found:
                tx.execute("UPDATE system_data SET value = %s WHERE key = %s", (value, key))
            else:
                tx.execute(
                    "INSERT INTO system_data (key, value, comment) VALUES (%s, %s, %s)",
                    (key, value, SYSTEM_DATA[key][1]),
                )
        return tx.table_change(
            "system_data", "update", _settings(found), _settings(wanted),
            {"rows_changed": len(changed)},
        )  # fmt: skip

    def _master_grid(self, tx: Transaction) -> List[Change]:
        before = availability.text(tx)
        changed = availability.release(tx, self.params["reset_availability"])
        return availability.change(tx, before, changed)


def _settings(values: Mapping[str, str]) -> str:
    return "".join("{} = {}\n".format(key, value) for key, value in sorted(values.items()))


def _next_gid(tx: Transaction, table: str) -> str:
    """A table's next number, as a line; nothing for a table without a sequence."""
    name = tx.sequence(table, NUMBERED[table])
    if name is None:
        return ""
    value, called = tx.rows(
        _sql.SQL("SELECT last_value, is_called FROM {}").format(_sql.SQL(name))
    )[0]
    return "next {} {:,}\n".format(NUMBERED[table], value + 1 if called else value)


def _restart(tx: Transaction, table: str) -> str:
    name = tx.sequence(table, NUMBERED[table])
    if name is not None:
        tx.restart(name)
    return _next_gid(tx, table)


def _references(tx: Transaction, tables: Sequence[str]) -> List[Tuple[str, str]]:
    """(child, parent) of the foreign keys between two of the tables."""
    return tx.rows(
        """
        SELECT DISTINCT c.relname, p.relname
        FROM pg_constraint f
        JOIN pg_class p ON p.oid = f.confrelid
        JOIN pg_class c ON c.oid = f.conrelid
        WHERE f.contype = 'f' AND c.oid <> p.oid
        AND pg_table_is_visible(p.oid) AND p.relname = ANY (%(tables)s)
        AND pg_table_is_visible(c.oid) AND c.relname = ANY (%(tables)s)
        """,
        {"tables": list(tables)},
    )


def _children_first(tables: Sequence[str], references: Sequence[Tuple[str, str]]) -> List[str]:
    """The tables so that each stands before those it refers to; otherwise as given.

    Raises InvalidInput for tables that refer to each other in a circle.
    """
    order: List[str] = []
    waiting: Dict[str, Set[str]] = {
        table: {child for child, parent in references if parent == table} for table in tables
    }
    while waiting:
        ready = [table for table, children in waiting.items() if children <= set(order)]
        if not ready:
            raise InvalidInput(
                "tables refer to each other in a circle: {}".format(", ".join(waiting))
            )
        order += ready
        for table in ready:
            del waiting[table]
    return order
