# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step f_pool: the pool that F sites are drawn from (docs/labeller.md 2.4).

The learner reads only rows that carry its run's number (docs/labeller.md 5.3.2), and the static
names carry that of the drawing that labelled them. So each run writes a list of its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List

from .. import geography, inputs
from ..errors import InvalidInput
from ..step import Step
from . import availability

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

#: What the learner reads by position (docs/labeller.md 5.2.2), in the spelling of Python's csv.
TRAINING = (
    "SELECT name, {run} AS run, 0 AS iteration, 'True' AS processed, 'train' AS usage,"
    " 'True' AS label FROM runbook_training WHERE id IN ({paired}) AND name IN ({trains})"
    " ORDER BY gid"
)

#: Cells that have scenes of both seasons.
PAIRED = (
    "SELECT cell_id FROM scenes_data WHERE season = 'GS'"
    " INTERSECT SELECT cell_id FROM scenes_data WHERE season = 'OS'"
)

FILE = (
    "SELECT name, col, \"row\", name || '_' || col || '_' || \"row\" AS name_col_row"
    " FROM ({}) AS cells ORDER BY gid"
)

#: The cells that are F afterwards.
FOUND = "SELECT gid FROM runbook_pool UNION ALL SELECT gid FROM runbook_training"


class FPool(Step):
    """Availability F, and the files of pool, training names, and quality and training cells."""

    name = "f_pool"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "aoi": {"type": "str", "required": True},
        "aoi_index": {"type": "int", "required": True},
        "static_names": {"type": "str"},
        "pool": {"type": "str", "required": True},
        "qs": {"type": "str", "required": True},
        "training_names": {"type": "str"},
        "run_id": {"type": "int"},
    }
    produces_objects = True
    changed = ("master_grid",)
    updated = availability.UPDATED
    read = ("kml_data_static", "scenes_data")

    def prepare(self, tx: Transaction) -> None:
        """Raises InvalidInput for objects that are missing or not what they must be."""
        if self.params["training_names"]:
            if self.params["run_id"] is None:
                raise InvalidInput("run_id is missing; training_names needs it")
            if self.params["training_names"] == self.params["static_names"]:
                raise InvalidInput(
                    "static_names and training_names are the same object, {}; the run's own list "
                    "would replace the one it is made of: give that another name "
                    "(incoming_names_static_path)".format(self.params["static_names"])
                )
        self.area = inputs.area(tx, self.params["aoi"], self.params["aoi_index"])
        self.static = inputs.names(tx, self.params["static_names"])
        self.trains = inputs.training_names(tx, self.params["static_names"])
        for table in ("runbook_pool", "runbook_training"):
            tx.execute(
                _sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP").format(
                    _sql.Identifier(table), self.area.table
                )
            )
        tx.execute("CREATE TEMPORARY TABLE runbook_codes (gid integer, old char) ON COMMIT DROP")
        tx.shared["pool"] = "runbook_pool"

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for an area without cells or without scenes of both seasons."""
        self.area.fill(tx)
        inputs.require_in_grid(tx, self.static, "static training names")
        self._find(tx)
        before = availability.text(tx)
        changed = availability.release(tx, ["F"], "gid NOT IN ({})".format(FOUND))
        tx.execute(
            _sql.SQL(
                "INSERT INTO runbook_codes SELECT g.gid, g.avail FROM master_grid g JOIN"
                " (SELECT gid FROM {} UNION SELECT gid FROM runbook_training) c ON c.gid = g.gid"
            ).format(self.area.table)
        )
        tx.execute("ANALYZE runbook_codes")
        changed += availability.mark(
            tx,
            _sql.SQL(
                "SELECT gid, old, 'F'::bpchar AS code FROM runbook_codes"
                " WHERE old IS DISTINCT FROM 'F' AND gid IN ({})".format(FOUND)
            ),
        )
        # Training cells too: the learner leaves out names that its pool lacks.
        listed = _sql.SQL(
            "SELECT * FROM runbook_pool UNION ALL SELECT * FROM runbook_training WHERE id IN ({})"
        ).format(_sql.SQL(PAIRED))
        quality = _sql.SQL(
            "SELECT a.* FROM {} a JOIN runbook_codes c ON c.gid = a.gid"
            " WHERE c.old IN ('I', 'Q') AND a.gid NOT IN ({found})"
        ).format(self.area.table, found=_sql.SQL(FOUND))
        return [
            *availability.change(tx, before, changed),
            tx.upload(self.params["pool"], _sql.SQL(FILE).format(listed)),
            tx.upload(self.params["qs"], _sql.SQL(FILE).format(quality)),
            *self._training_names(tx),
        ]

    def _training_names(self, tx: Transaction) -> List[Change]:
        """The run's own list of training names; a warning counts those that cannot train."""
        if not self.params["training_names"]:
            return []
        query = _sql.SQL(TRAINING).format(
            run=_sql.Literal(self.params["run_id"]), paired=_sql.SQL(PAIRED), trains=self.trains
        )
        unlabelled, unseen = tx.rows(
            _sql.SQL(
                "SELECT count(*) FILTER (WHERE name NOT IN ({trains})),"
                " count(*) FILTER (WHERE name IN ({trains}) AND id NOT IN ({paired}))"
                " FROM runbook_training"
            ).format(trains=self.trains, paired=_sql.SQL(PAIRED))
        )[0]
        if unlabelled or unseen:
            tx.warnings.append(
                "s3://{}/{}: {:,} of its names will not train: {:,} have no row with usage train "
                "and a true label, {:,} no scenes of both seasons. Nothing is to be done unless "
                "they should train: then correct the list, or the catalogue".format(
                    tx.bucket, self.params["static_names"], unlabelled + unseen, unlabelled, unseen
                )
            )
        return [tx.upload(self.params["training_names"], query)]

    def _find(self, tx: Transaction) -> None:
        """Fill runbook_training with the cells of the static names, runbook_pool with the pool."""
        tx.execute(
            _sql.SQL(
                "INSERT INTO runbook_training SELECT g.gid, g.id, g.name, {}, {} FROM master_grid g"
                " WHERE g.name IN (SELECT name::bpchar FROM ({}) AS n)"
            ).format(*map(_sql.SQL, geography.column_row()), self.static)
        )
        clash = tx.rows(
            "SELECT t.name, s.kml_type, count(*) OVER () FROM runbook_training t"
            " JOIN kml_data_static s ON s.name = t.name ORDER BY 1 LIMIT 3"
        )
        if clash:
            raise InvalidInput(
                "static training names: {} are quality or training cells in kml_data_static, "
                "which a name cannot be at the same time: {}".format(
                    clash[0][2], ", ".join("{} ({})".format(n, kind) for n, kind, _ in clash)
                )
            )
        pool = tx.execute(
            _sql.SQL(
                "INSERT INTO runbook_pool SELECT a.* FROM {} a JOIN ({}) p ON p.cell_id = a.id"
                " WHERE NOT EXISTS (SELECT 1 FROM kml_data_static s WHERE s.name = a.name)"
                " AND a.gid NOT IN (SELECT gid FROM runbook_training)"
            ).format(self.area.table, _sql.SQL(PAIRED))
        )
        if not pool:
            raise InvalidInput(
                "{}: none of its {:,} cells, training and quality cells aside, has scenes of both "
                "seasons in scenes_data".format(self.area.name, self.area.count)
            )
        tx.execute("ANALYZE runbook_pool")
