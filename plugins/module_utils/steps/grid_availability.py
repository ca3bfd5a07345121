# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step grid_availability: the codes of training and quality cells (docs/labeller.md 2.3)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping

from .. import inputs
from ..errors import Refused
from ..step import Step
from ..undo import record
from . import availability

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

_RANGES = """
    INSERT INTO runbook_undone SELECT gid, %(old)s, %(new)s, %(number)s
    FROM (SELECT split_part(r, '-', 1) AS first, nullif(split_part(r, '-', 2), '') AS last
          FROM unnest(%(gids)s::text[]) AS r) AS ranges,
    generate_series(first::integer, coalesce(last, first)::integer) AS gid
"""
#: Cells with a code that the run neither found nor gave, and how many there are.
_MOVED = """
    SELECT gid, avail, count(*) OVER () FROM master_grid g JOIN (
        SELECT gid, array_agg(old) || array_agg(new) AS codes FROM runbook_undone GROUP BY gid
    ) u USING (gid) WHERE NOT g.avail = ANY (u.codes) ORDER BY gid LIMIT 3
"""
_BEFORE = """
    SELECT u.gid, g.avail AS old, u.old AS code FROM (
        SELECT DISTINCT ON (gid) gid, old FROM runbook_undone ORDER BY gid, number
    ) u JOIN master_grid g ON g.gid = u.gid
"""
STATIC = "SELECT name, kml_type FROM kml_data_static WHERE kml_type IN ('I', 'Q')"


class GridAvailability(Step):
    """Cells of kml_data_static get their type as code; other cells with I or Q become free.

    With ``state: undone`` the cells that a run changed get the codes that they had before it.
    """

    name = "grid_availability"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "state": {"type": "str", "choices": ["present", "undone"], "default": "present"},
        **record.ARGUMENTS,
    }
    changed = ("master_grid",)
    updated = availability.UPDATED

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        undone = params["state"] == "undone"
        # Uploads of the run that its death left pending: they are put back after this step.
        self.settles = undone
        self.read = () if undone else ("kml_data_static",)

    def prepare(self, tx: Transaction) -> None:
        """Raises what ``record.of`` does."""
        if self.params["state"] == "undone":
            self.cells = record.of({**tx.params, **self.params}).cells
            tx.execute(
                "CREATE TEMPORARY TABLE runbook_undone (gid integer, old character(1),"
                " new character(1), number integer) ON COMMIT DROP"
            )

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for a static name that is not in the grid; Refused (``_undo``)."""
        if self.params["state"] == "undone":
            return self._undo(tx)
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

    def _undo(self, tx: Transaction) -> List[Change]:
        """Raises Refused for cells that got another code since."""
        if not self.cells:  # or the whole grid would be counted
            return []
        for number, each in enumerate(self.cells):
            tx.execute(_RANGES, {**each, "number": number, "gids": each["gids"].split(",")})
        tx.execute("ANALYZE runbook_undone")
        moved = tx.rows(_MOVED)
        if moved and "grid" not in self.params["force"]:
            raise Refused(
                "{}: the availability of {:,} cells of master_grid was changed after the run, "
                "first {}; nothing was changed. --force-step grid gives them the codes that "
                "they had before the run".format(
                    tx.database,
                    moved[0][2],
                    ", ".join("gid {} to {}".format(gid, code) for gid, code, _ in moved),
                )
            )
        before = availability.text(tx)
        return availability.change(tx, before, availability.mark(tx, _sql.SQL(_BEFORE)))
