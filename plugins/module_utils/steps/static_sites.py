# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step static_sites: the static training names as a run's sites (docs/labeller.md 2.3.5)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Sequence

from .. import inputs
from ..errors import InvalidInput
from . import availability
from .f_sites import FSites

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction


class StaticSites(FSites):
    """Registers the names of a CSV, all for training, as iteration 0 of the run."""

    name = "static_sites"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "run_id": {"type": "int", "required": True},
        "aoi_index": {"type": "int", "required": True},
        "static_names": {"type": "str", "required": True},
    }
    changed: Sequence[str] = (*FSites.changed, "master_grid")
    read: Sequence[str] = ()
    updated = availability.UPDATED

    def _check_arguments(self) -> None:
        self._at_least(run_id=0, aoi_index=1)
        if not self.params["static_names"]:
            raise InvalidInput(
                "static_names is empty, and the static training names are all the sites of this "
                "run; name their CSV (incoming_names_static_path)"
            )

    def _draw(self, tx: Transaction) -> None:
        """Fill runbook_drawn with the names in the file's order, each once."""
        inputs.require_in_grid(tx, self.static, "static training names")
        tx.execute(
            _sql.SQL(
                "INSERT INTO runbook_drawn SELECT row_number() OVER (ORDER BY place), name, 'train'"
                " FROM (SELECT name, min(place) AS place FROM"
                " (SELECT name, row_number() OVER () AS place FROM ({}) AS listed) AS numbered"
                " GROUP BY name) AS names"
            ).format(self.static)
        )

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for names that the grid lacks, and for quality and training cells."""
        changes = super().run(tx)
        before = availability.text(tx)
        marked = availability.mark(
            tx,
            _sql.SQL(
                "SELECT g.gid, g.avail AS old, 'F'::bpchar AS code"
                " FROM runbook_drawn d JOIN master_grid g ON g.name = d.name::bpchar"
            ),
        )
        return [*changes, *availability.change(tx, before, marked)]
