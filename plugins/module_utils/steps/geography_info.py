# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step geography_info: where an area, its pool and a run's sites lie, for the map of a report.

Reads little of a large grid: the outline and the pool come from their objects, or from the steps
before it in the same transaction; cells are looked up by name. The pool is counted in blocks of
cells, so that a map has the same size whatever the area's.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Optional, Sequence, Tuple

from .. import geography, inputs
from ..errors import ModuleFailure
from ..step import Step

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.sql import Composable

    from ..change import Change
    from ..step import Transaction

#: Most blocks across or down an area, and most sites and other cells of a kind on its map.
BLOCKS, SITES, PLACES = 64, 3000, 2000
#: Most points of the outline, which is rounded to this part of a block.
POINTS, PART = 3000, 4
#: Parts of a cell that the outline's numbers count, and a part of one that is nothing.
CELL_PARTS, HAIR = 8, 0.01

#: First column and row of a map, and before which it ends.
Frame = Tuple[int, int, int, int]
Point = Tuple[int, int]

_PLACE = '{} AS col, {} AS "row"'.format(*geography.column_row())
_SITES = (
    "SELECT n.name::text, {}, n.usage::text, n.iteration, n.processed FROM incoming_names n"
    " LEFT JOIN master_grid g ON g.name = n.name::bpchar"
    " WHERE n.run = %s ORDER BY n.iteration DESC, n.name"
).format(_PLACE)
_QUALITY = (
    "SELECT {}, s.kml_type::text FROM kml_data_static s"
    " JOIN master_grid g ON g.name = s.name::bpchar ORDER BY s.name"
).format(_PLACE)
#: Runs of blocks in a row that have the same share of their cells in the pool, in quarters.
_POOL = """
    WITH blocks AS (
        SELECT (col - {west}) / {size} AS x, ("row" - {north}) / {size} AS y,
               ceil(4.0 * count(*) / ({size} * {size}))::integer AS share
        FROM {pool} AS pool
        WHERE col >= {west} AND col < {east} AND "row" >= {north} AND "row" < {south}
        GROUP BY 1, 2
    ), numbered AS (
        SELECT x, y, share, x - row_number() OVER (PARTITION BY y, share ORDER BY x) AS run
        FROM blocks
    )
    SELECT y, min(x), max(x), share FROM numbered GROUP BY y, share, run ORDER BY 1, 2
"""


class GeographyInfo(Step):
    """Returns the map of a run; changes nothing, and no missing object makes it fail."""

    name = "geography_info"
    looks = True
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "run_id": {"type": "int", "required": True},
        "wanted": {"type": "bool", "default": True},
        "aoi": {"type": "str"},
        "aoi_index": {"type": "int"},
        "pool": {"type": "str"},
        "training_names": {"type": "str"},
    }
    read: Sequence[str] = ("incoming_names", "kml_data_static", "master_grid")

    def run(self, tx: Transaction) -> List[Change]:
        """Describe what the steps before it would make; what they have made, after the commit."""
        if tx.check:
            self.found = self.read_state(tx)
        return []

    def read_state(self, tx: Transaction) -> Dict[str, Any]:
        """The map, as the module returns it."""
        if not self.params["wanted"]:
            return {}
        notes: List[str] = []
        sites = tx.rows(_SITES, (self.params["run_id"],))
        parts = self._outline(tx, notes)
        within = _frame(parts, [(column, row) for _, column, row, *_ in sites])
        if within is None:
            return {"map": None}
        west, north, east, south = within
        size = max(-(-max(east - west, south - north) // BLOCKS), 1)
        west, north, east, south = frame = (west - size, north - size, east + size, south + size)
        pool, training = self._cells(tx, notes)
        quality = tx.rows(_QUALITY)
        unit = size * CELL_PARTS // PART or 1
        found: Dict[str, Any] = {
            "west": round(geography.X_MIN + west * geography.CELL, 6),
            "north": round(geography.Y_MAX - north * geography.CELL, 6),
            "cell": geography.CELL,
            "columns": east - west,
            "rows": south - north,
            "block": size,
            "outline": _rings(parts, frame, unit),
            "area_cells": _count(parts, frame, notes),
            "pool": _blocks(tx, pool, frame, size),
            "pool_cells": _size(tx, pool),
            "training": _inside(_places(tx, training), frame)[:PLACES],
            "training_cells": _size(tx, training),
            "quality": _inside(quality, frame)[:PLACES],
            "quality_cells": len(quality),
            "sites": _sites(sites, frame)[:SITES],
            "counts": _counts(sites),
            "notes": notes,
        }
        return {"map": found}

    def _outline(self, tx: Transaction, notes: List[str]) -> Sequence[geography.Part]:
        if not self.params["aoi"] or not self.params["aoi_index"]:
            return []
        try:
            return inputs.area(tx, self.params["aoi"], self.params["aoi_index"]).parts
        except ModuleFailure as error:
            notes.append("no outline: {}".format(error))
            return []

    def _cells(
        self, tx: Transaction, notes: List[str]
    ) -> Tuple[Optional[Composable], Optional[Composable]]:
        """The tables of the pool and of the static training cells, None of what is not known."""
        if "pool" in tx.shared:
            return _sql.SQL("runbook_pool"), _sql.SQL("runbook_training")
        pool = self._loaded(tx, "pool", notes)
        if pool is None or not self.params["training_names"]:
            return pool, None
        names = self._loaded(tx, "training_names", notes)
        if names is None:
            return pool, None
        both = _sql.SQL(
            "(SELECT p.* FROM {} p WHERE {} (SELECT 1 FROM {} t WHERE t.name = p.name))"
        )
        return (
            both.format(pool, _sql.SQL("NOT EXISTS"), names),
            both.format(pool, _sql.SQL("EXISTS"), names),
        )

    def _loaded(self, tx: Transaction, what: str, notes: List[str]) -> Optional[Composable]:
        """A temporary table of a run's object, which lists names and, of the pool, places."""
        if not self.params[what]:
            return None
        table = "runbook_map_{}".format(what)
        columns = {"name": "text"}
        if what == "pool":
            columns.update(col="integer", row="integer")
        tx.execute("SAVEPOINT runbook_map")
        try:
            inputs.Csv(tx, self.params[what], table, columns).load()
        except ModuleFailure as error:
            tx.execute("ROLLBACK TO SAVEPOINT runbook_map")
            notes.append("no {}: {}".format(what.replace("_", " "), error))
            return None
        return _sql.Identifier(table)


def _frame(parts: Sequence[geography.Part], cells: Sequence[Any]) -> Optional[Frame]:
    """The frame of the area, or of the cells where there is no outline; None without either."""
    places = [geography.place(*point) for part in parts for point in part.outer]
    places = places or [(c + 0.5, r + 0.5) for c, r in cells if c is not None]
    if not places:
        return None
    columns, rows = [column for column, _ in places], [row for _, row in places]
    # An edge that is a hair off the border of a cell is on it.
    return (
        math.floor(min(columns) + HAIR),
        math.floor(min(rows) + HAIR),
        math.ceil(max(columns) - HAIR),
        math.ceil(max(rows) - HAIR),
    )


def _rings(parts: Sequence[geography.Part], frame: Frame, unit: int) -> List[List[Point]]:
    """The outline's rings in parts of a cell from the frame's corner, rounded to ``unit`` or more.

    Points that rounding makes equal are one; rings that it makes a point or a line are left out.
    """
    while True:
        rings = [
            _rounded(ring, frame, unit) for part in parts for ring in (part.outer, *part.holes)
        ]
        rings = [ring for ring in rings if len(set(ring)) > 2]
        if sum(map(len, rings)) <= POINTS:
            return rings
        unit *= 2


def _rounded(ring: geography.Ring, frame: Frame, unit: int) -> List[Point]:
    found: List[Point] = []
    for longitude, latitude in ring:
        column, row = geography.place(longitude, latitude)
        point = (
            round((column - frame[0]) * CELL_PARTS / unit) * unit,
            round((row - frame[1]) * CELL_PARTS / unit) * unit,
        )
        if not found or point != found[-1]:
            found.append(point)
    return found


def _count(parts: Sequence[geography.Part], frame: Frame, notes: List[str]) -> Optional[int]:
    """How many cells' centres the outline holds, whether or not the grid has these cells."""
    if not parts:
        return None
    west, north, east, south = frame
    half, cell = 0.5, geography.CELL
    xs = [geography.X_MIN + (column + half) * cell for column in range(west, east)]
    ys = [geography.Y_MAX - (row + half) * cell for row in range(south - 1, north - 1, -1)]
    try:
        return sum(
            round((last - first) / cell) + 1 for _, first, last in geography.spans(parts, xs, ys)
        )
    except ModuleFailure as error:
        notes.append("cells not counted: {}".format(error))
        return None


def _blocks(
    tx: Transaction, pool: Optional[Composable], frame: Frame, size: int
) -> List[Tuple[int, int, int, int]]:
    if pool is None:
        return []
    west, north, east, south = frame
    values = {"west": west, "north": north, "east": east, "south": south, "size": size}
    literals = {name: _sql.Literal(value) for name, value in values.items()}
    return tx.rows(_sql.SQL(_POOL).format(pool=pool, **literals))


def _size(tx: Transaction, table: Optional[Composable]) -> Optional[int]:
    if table is None:
        return None
    return int(tx.value(_sql.SQL("SELECT count(*) FROM {} AS cells").format(table)))


def _places(tx: Transaction, table: Optional[Composable]) -> List[Any]:
    if table is None:
        return []
    query = 'SELECT col, "row" FROM {} AS cells ORDER BY "row", col'
    return tx.rows(_sql.SQL(query).format(table))


def _inside(cells: Sequence[Any], frame: Frame) -> List[Any]:
    """Those of the cells that a map shows, their places counted from its corner."""
    west, north, east, south = frame
    return [
        (column - west, row - north, *rest)
        for column, row, *rest in cells
        if column is not None and west <= column < east and north <= row < south
    ]


def _sites(sites: Sequence[Any], frame: Frame) -> List[Any]:
    """Column, row, name, usage, iteration and whether it is processed, of the newest first."""
    return _inside([(column, row, name, *rest) for name, column, row, *rest in sites], frame)


def _counts(sites: Sequence[Any]) -> List[Dict[str, Any]]:
    """All sites of a run by usage: processed ones and open ones."""
    counted = Counter((usage, processed) for *_, usage, _, processed in sites)
    return [
        {"usage": usage, "processed": counted[usage, True], "open": counted[usage, False]}
        for usage in sorted({usage for usage, _ in counted})
    ]
