# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step scene_catalog: the scenes of a run's cells (docs/labeller.md 2.3.5, 2.4.6, 2.4.8)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List

from .. import inputs
from ..errors import InvalidInput
from ..step import Step

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.sql import Composable

    from ..change import Change
    from ..step import Transaction

#: Columns of the full catalogue, and how they are read.
CATALOG = {
    "cell_id": "integer",
    "scene_id": "text",
    "season": "text",
    "global_col": "integer",
    "global_row": "integer",
    "url": "text",
    "tms_url": "text",
    "date_time": "timestamp with time zone",
    "provider": "text",
}
COLUMNS = ", ".join(CATALOG)

FILE = (
    'SELECT cell_id, scene_id, global_col AS col, global_row AS "row", season, url AS uri'
    " FROM scenes_data ORDER BY cell_id, season, provider"
)
#: Keys that several rows of the catalogue have.
SEVERAL = (
    "SELECT cell_id, season FROM runbook_scenes"
    " GROUP BY provider, cell_id, season HAVING count(*) > 1"
)

#: Deletes all but one of the rows that are the same in all columns.
COPIES = (
    "DELETE FROM runbook_scenes a USING runbook_scenes b WHERE a.ctid > b.ctid"
    " AND a.provider = b.provider AND a.cell_id = b.cell_id AND a.season = b.season"
    " AND ROW(a.*) IS NOT DISTINCT FROM ROW(b.*)"
)

SCENES = "SELECT season, count(*) FROM scenes_data GROUP BY season ORDER BY season"


class SceneCatalog(Step):
    """scenes_data gets the catalogue's rows of the area, of static cells and of static names."""

    name = "scene_catalog"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "catalog": {"type": "str", "required": True},
        "image_catalog": {"type": "str"},
        "aoi": {"type": "str"},
        "aoi_index": {"type": "int", "default": 1},
        "static_names": {"type": "str"},
    }
    produces_objects = True
    changed = ("scenes_data",)
    read = ("kml_data_static", "master_grid")

    def prepare(self, tx: Transaction) -> None:
        """Raises InvalidInput for objects that are missing or not what they must be."""
        params = self.params
        self.area = inputs.area(tx, params["aoi"], params["aoi_index"]) if params["aoi"] else None
        self.static = inputs.names(tx, params["static_names"])
        self.catalog = "s3://{}/{}".format(tx.bucket, params["catalog"])
        self.rows = inputs.Csv(tx, params["catalog"], "runbook_catalog", CATALOG, ["provider"])
        self.rows.fetch()
        tx.execute("CREATE TEMPORARY TABLE runbook_wanted (cell_id integer) ON COMMIT DROP")
        tx.execute(
            "CREATE TEMPORARY TABLE runbook_scenes ({}) ON COMMIT DROP".format(
                ", ".join("{} {}".format(*column) for column in CATALOG.items())
            )
        )

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput when the catalogue lacks the area or contradicts itself."""
        if self.area:
            self.area.fill(tx)
        inputs.require_in_grid(tx, self.static, "static training names")
        self._select(tx)
        self._verify(tx)
        before = self._text(tx)
        with inputs.blamed(self.catalog):
            inserted = tx.execute(
                "INSERT INTO scenes_data ({0}) SELECT {0} FROM runbook_scenes n WHERE NOT EXISTS"
                " (SELECT 1 FROM scenes_data s WHERE s.provider = n.provider"
                " AND s.cell_id = n.cell_id AND s.season = n.season)"
                " ORDER BY cell_id, season, provider".format(COLUMNS)
            )
        after = self._text(tx) if inserted else before
        changes = [
            tx.table_change("scenes_data", "insert", before, after, {"rows_inserted": inserted})
        ]
        if self.params["image_catalog"]:
            changes.append(tx.upload(self.params["image_catalog"], _sql.SQL(FILE)))
        return changes

    def _area(self) -> Composable:
        """The query of the area's cells; without an area, of none."""
        if self.area is None:
            return _sql.SQL("SELECT NULL::integer AS id WHERE false")
        return _sql.SQL("SELECT id FROM {}").format(self.area.table)

    def _select(self, tx: Transaction) -> None:
        """Fill runbook_wanted and runbook_scenes."""
        tx.execute(
            _sql.SQL(
                "INSERT INTO runbook_wanted SELECT id FROM ({area}) AS area UNION"
                " SELECT g.id FROM master_grid g JOIN kml_data_static s ON s.name = g.name UNION"
                " SELECT g.id FROM master_grid g JOIN ({static}) n ON n.name::bpchar = g.name"
            ).format(area=self._area(), static=self.static)
        )
        tx.execute("ANALYZE runbook_wanted")
        self.rows.load(inputs.near(tx, "cell_id", _sql.SQL("TABLE runbook_wanted")))
        tx.execute(
            "INSERT INTO runbook_scenes ({0}) SELECT {1}, coalesce(provider, 'planet')"
            " FROM runbook_catalog JOIN runbook_wanted USING (cell_id)".format(
                COLUMNS, COLUMNS.replace(", provider", "")
            )
        )
        tx.execute("ANALYZE runbook_scenes (provider, cell_id, season)")

    def _verify(self, tx: Transaction) -> None:
        found = tx.value(
            _sql.SQL("SELECT EXISTS (SELECT 1 FROM runbook_scenes WHERE cell_id IN ({}))").format(
                self._area()
            )
        )
        if self.area and not found:
            raise InvalidInput(
                "{} has no scene of {}; is it this area's catalogue?".format(
                    self.catalog, self.area.name
                )
            )
        self._refuse(
            tx,
            "has a season other than GS and OS",
            "SELECT cell_id, season FROM runbook_scenes"
            " WHERE season IS NULL OR season NOT IN ('GS', 'OS')",
        )
        if tx.rows(SEVERAL + " LIMIT 1"):
            tx.execute(COPIES)
            self._refuse(tx, "has several scenes for the same provider, cell and season", SEVERAL)
        differs = " OR ".join(
            "s.{0} IS DISTINCT FROM n.{0}".format(column)
            for column in CATALOG
            if column not in ("provider", "cell_id", "season")
        )
        self._refuse(
            tx,
            "contradicts scenes_data, which has other values (pg_clear empties it)",
            "SELECT n.cell_id, n.season FROM runbook_scenes n JOIN scenes_data s ON"
            " s.provider = n.provider AND s.cell_id = n.cell_id AND s.season = n.season"
            " WHERE {}".format(differs),
        )

    def _refuse(self, tx: Transaction, problem: str, query: str) -> None:
        """Raise InvalidInput with the first cells and seasons that ``query`` gives, if any."""
        rows: List[Any] = tx.rows(
            "SELECT cell_id, season, count(*) OVER () FROM ({}) AS q ORDER BY 1, 2 LIMIT 3".format(
                query
            )
        )
        if rows:
            cells = "; ".join("cell_id {}, season {}".format(cell, s) for cell, s, _ in rows)
            raise InvalidInput(
                "{} {}: {} such, first {}".format(self.catalog, problem, rows[0][2], cells)
            )

    def _text(self, tx: Transaction) -> str:
        rows = tx.rows(SCENES)
        lines = "".join("{}: {:,} scenes\n".format(season, count) for season, count in rows)
        return lines or "0 scenes\n"
