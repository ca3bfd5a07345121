# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step geography: another grid, static list and reference fields (docs/labeller.md 2.7)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping, Sequence, Tuple

from .. import fingerprint, inputs, proof, shadow
from ..errors import InvalidInput
from ..step import Step
from . import availability
from .run_marker import RunMarker

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

#: The tables and the columns that their objects bring; one that a table lacks is not read.
TABLES: Dict[str, Tuple[str, ...]] = {
    "master_grid": ("id", "x", "y", "name", "fwts", "avail", "date"),
    "kml_data_static": ("kml_type", "name", "hint"),
    "qaqcfields": ("name", "category", "geom_clean"),
}

#: Columns that an object may lack.
OPTIONAL = ("date", "hint")

#: Columns that change after the load.
LIVELY = ("avail",)

#: What makes a grid and a static list unusable, by what to say.
PROBLEMS = {
    "names are there twice": "SELECT name FROM new_master_grid GROUP BY name HAVING count(*) > 1",
    "names have another cell's id": (
        "SELECT name FROM new_master_grid WHERE id IN"
        " (SELECT id FROM new_master_grid GROUP BY id HAVING count(*) > 1)"
    ),
    "cells have no id, x, y, name, fwts or avail": (
        "SELECT coalesce(name::text, id::text, 'unnamed') FROM new_master_grid"
        " WHERE NOT (ROW(id, x, y, name, fwts, avail) IS NOT NULL)"
    ),
    "cells are not on the earth": (
        "SELECT name FROM new_master_grid"
        " WHERE NOT (x BETWEEN -180 AND 180 AND y BETWEEN -90 AND 90)"
    ),
    "cells have an availability that labeller does not know": (
        "SELECT name FROM new_master_grid WHERE avail NOT IN ({})".format(
            ", ".join("'{}'".format(code) for code in availability.MEANING)
        )
    ),
    "static sites are no type I or Q": (
        "SELECT name FROM new_kml_data_static WHERE kml_type IS NULL OR kml_type NOT IN ('I', 'Q')"
    ),
    "static sites are there twice": (
        "SELECT name FROM new_kml_data_static GROUP BY name HAVING count(*) > 1"
    ),
    "static sites are not in the grid": (
        "SELECT name FROM new_kml_data_static s WHERE NOT EXISTS"
        " (SELECT 1 FROM new_master_grid g WHERE g.name = s.name::bpchar)"
    ),
    "reference fields are of no static site": (
        "SELECT name FROM new_qaqcfields q WHERE NOT EXISTS"
        " (SELECT 1 FROM new_kml_data_static s WHERE s.name = q.name)"
    ),
}


class Geography(Step):
    """Replaces the three tables, deletes all incoming_names, and ends the run that is in place."""

    name = "geography"
    settles = True
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "state": {"type": "str", "choices": ["present", "read"], "default": "present"},
        "backup": {"type": "dict"},
        "grid": {"type": "str", "required": True},
        "reference_grid": {"type": "str", "required": True},
        "static_sites": {"type": "str", "required": True},
        "reference_fields": {"type": "str", "required": True},
    }
    emptied = ("incoming_names", *TABLES)
    restarted: Mapping[str, str] = dict.fromkeys(TABLES, "gid")

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.marker = RunMarker(
            {
                "state": "present",
                "mode": "geography",
                "aoi_name": "",
                "aoi_index": 0,
                "run_id": 0,
                "follows": False,
                "replaced_run": "",
                "made_with": None,
            }
        )
        self.changed = self.marker.changed

    def in_place(self, tx: Transaction) -> bool:
        """Whether the tables hold the objects' rows, whatever has become of the availability."""
        self._load(tx)
        return all(self._same(tx, table) for table in TABLES)

    def read_state(self, tx: Transaction) -> Dict[str, Any]:
        """The result of ``state: read``."""
        return {"in_place": self.in_place(tx)}

    def prepare(self, tx: Transaction) -> None:
        """Raises InvalidInput for objects that are missing or that no labeller could work with."""
        self._load(tx)
        self.marker.prepare(tx)

    def guard(self, tx: Transaction) -> None:
        """Raises Refused for rows that no backup proves."""
        live = {name: fingerprint.of_table(tx.cursor, "public", name) for name in self.emptied}
        proof.require(tx, self.params["backup"] or tx.params.get("backup") or {}, live)

    def run(self, tx: Transaction) -> List[Change]:
        """One change for each table."""
        changes = self.marker.run(tx)
        for table in self.emptied:
            deleted = tx.empty(table)
            inserted = self._insert(tx, table) if table in TABLES else 0
            changes.append(
                tx.table_change(
                    table,
                    "replace",
                    "{:,} rows\n".format(deleted),
                    "{:,} rows\n".format(inserted),
                    {"rows_deleted": deleted, "rows_inserted": inserted},
                )
            )
        availability.forget(tx)
        return changes

    def _columns(self, tx: Transaction, table: str) -> Dict[str, str]:
        """The columns to load, with their types in the live table."""
        shadow.require(tx.cursor, [table])
        live = fingerprint.columns(tx.cursor, "public", table)
        return {column.name: column.type for column in live if column.name in TABLES[table]}

    def _load(self, tx: Transaction) -> None:
        """Read the objects into temporary tables new_TABLE, once in a transaction."""
        if tx.value("SELECT to_regclass('pg_temp.new_qaqcfields') IS NOT NULL"):
            return
        keys: Dict[str, Sequence[str]] = {
            "master_grid": (self.params["grid"], self.params["reference_grid"]),
            "kml_data_static": (self.params["static_sites"],),
            "qaqcfields": (self.params["reference_fields"],),
        }
        for table, objects in keys.items():
            columns = self._columns(tx, table)
            optional = [column for column in OPTIONAL if column in columns]
            for number, key in enumerate(objects):
                part = "new_{}_{}".format(table, number)
                try:
                    inputs.Csv(tx, key, part, columns, optional).load()
                except psycopg2.InternalError as error:  # PostGIS, of a geometry
                    raise InvalidInput(
                        "s3://{}/{}: {}".format(tx.bucket, key, error.diag.message_primary)
                    ) from error
            tx.execute(
                "CREATE TEMPORARY TABLE new_{0} ON COMMIT DROP AS {1}".format(
                    table,
                    " UNION ALL ".join(
                        "(SELECT {2} FROM new_{0}_{1} ORDER BY ctid)".format(
                            table, number, ", ".join(map('"{}"'.format, columns))
                        )
                        for number, _ in enumerate(objects)
                    ),
                )
            )
            tx.execute("ANALYZE new_{}".format(table))
        self._verify(tx)

    def _verify(self, tx: Transaction) -> None:
        for problem, query in PROBLEMS.items():
            rows = tx.rows(
                "SELECT name, count(*) OVER () FROM ({}) AS q (name) LIMIT 5".format(query)
            )
            if rows:
                raise InvalidInput(
                    "geography: {:,} {}: {}{}".format(
                        rows[0][1], problem, ", ".join(str(name).strip() for name, _ in rows),
                        ", ..." if rows[0][1] > len(rows) else "",
                    )
                )  # fmt: skip

    def _same(self, tx: Transaction, table: str) -> bool:
        columns = [
            fingerprint.Column(*column)
            for column in self._columns(tx, table).items()
            if column[0] not in LIVELY
        ]
        there = fingerprint.of_columns(tx.cursor, "public", table, columns)
        return there == fingerprint.of_columns(tx.cursor, None, "new_" + table, columns)

    def _insert(self, tx: Transaction, table: str) -> int:
        """The new rows in the objects' order, numbered from 1."""
        self._restart(tx, table)
        statement = _sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2} ORDER BY {2}.ctid")
        return tx.execute(
            statement.format(
                _sql.Identifier(table),
                _sql.SQL(", ").join(map(_sql.Identifier, self._columns(tx, table))),
                _sql.Identifier("new_{}".format(table)),
            )
        )

    def _restart(self, tx: Transaction, table: str) -> None:
        name = tx.sequence(table, "gid")
        if name is not None:
            tx.restart(name)
