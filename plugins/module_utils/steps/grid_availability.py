# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step grid_availability: the codes of training and quality cells (docs/labeller.md 2.3)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, List

from .. import inputs
from ..transaction import Step
from . import availability

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..transaction import Transaction

STATIC = "SELECT name, kml_type FROM kml_data_static WHERE kml_type IN ('I', 'Q')"


class GridAvailability(Step):
    """Cells of kml_data_static get their type as code; other cells with I or Q become free."""

    name = "grid_availability"
    changed = ("master_grid",)
    updated = availability.UPDATED
    read = ("kml_data_static",)

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for a static name that is not in the grid."""
        inputs.require_in_grid(tx, _sql.SQL(STATIC), "kml_data_static")
        before = availability.text(tx)
        freed = availability.release(
            tx, ["I", "Q"], "NOT EXISTS (SELECT 1 FROM ({}) s WHERE s.name = g.name)".format(STATIC)
        )
        marked = availability.mark(
            tx,
            _sql.SQL(
                "SELECT g.gid, g.avail AS old, s.kml_type AS code"
                " FROM ({}) s JOIN master_grid g ON g.name = s.name".format(STATIC)
            ),
        )
        return availability.change(tx, before, freed + marked)
