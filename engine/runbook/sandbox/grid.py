"""The cells of the 0.005 degree grid that areas of interest hold (docs/labeller.md 1.1, 7.1).

Column and row are counted from the upper left corner of the learner's layout. A cell belongs to an
area when its centre lies inside, by the even-odd rule over all rings, so that holes and
multipolygons come out right. The modules have a parser and a rule of their own
(``plugins/module_utils/geography.py``): the engine imports nothing of the collection, and the
sandbox is what they are tested with.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from runbook.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WEST, NORTH, CELL = -17.541, 37.540, 0.005
#: Cells along the side of a 0.05 degree tile.
TILE = 10

#: More than any country needs; beyond it the sandbox would fill the disk.
MAXIMUM_CELLS = 5_000_000

Ring = list[tuple[float, float]]


class Run(NamedTuple):
    """Cells ``first`` to ``last`` (columns, both included) of a row."""

    row: int
    first: int
    last: int


@dataclass(frozen=True)
class Area:
    """One AOI: its rings, in longitude and latitude."""

    rings: list[Ring]

    def runs(self) -> Iterator[Run]:
        """Its cells, from the top row down and from west to east."""
        latitudes = [y for ring in self.rings for _, y in ring]
        top = math.floor((NORTH - max(latitudes)) / CELL)
        bottom = math.ceil((NORTH - min(latitudes)) / CELL)
        for row in range(top, bottom + 1):
            crossings = sorted(self._crossings(NORTH - (row + 0.5) * CELL))
            for west, east in zip(crossings[::2], crossings[1::2], strict=True):
                first = math.ceil((west - WEST) / CELL - 0.5)
                last = math.ceil((east - WEST) / CELL - 0.5) - 1
                if first <= last:
                    yield Run(row, first, last)

    def _crossings(self, y: float) -> Iterator[float]:
        """Where the parallel ``y`` meets the rings' edges."""
        for ring in self.rings:
            for (x1, y1), (x2, y2) in itertools.pairwise(ring):
                if (y1 > y) != (y2 > y):
                    yield x1 + (y - y1) * (x2 - x1) / (y2 - y1)


def union(runs: Iterable[Run]) -> list[Run]:
    """The same cells, each once, in raster order."""
    rows: defaultdict[int, list[Run]] = defaultdict(list)
    for run in runs:
        rows[run.row].append(run)
    merged: list[Run] = []
    for row in sorted(rows):
        for run in sorted(rows[row]):
            last = merged[-1] if merged else None
            if last and last.row == row and run.first <= last.last + 1:
                merged[-1] = Run(row, last.first, max(last.last, run.last))
            else:
                merged.append(run)
    return merged


def count(runs: Iterable[Run]) -> int:
    """Number of cells."""
    return sum(run.last - run.first + 1 for run in runs)


def parse(geojson: bytes, name: str) -> list[Area]:
    """The areas of a GeoJSON FeatureCollection of polygons and multipolygons.

    Raises InvalidInputError, naming the file and the feature.
    """
    try:
        document = json.loads(geojson)
        features = document["features"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInputError(f"{name}: not a GeoJSON FeatureCollection ({error})") from error
    if not isinstance(features, list) or not features:
        raise InvalidInputError(f"{name}: the FeatureCollection holds no features")
    return [_area(each, f"{name}: feature {i}") for i, each in enumerate(features, 1)]


def _area(feature: Any, where: str) -> Area:
    try:
        geometry = feature["geometry"]
        kind, coordinates = geometry["type"], geometry["coordinates"]
        polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}[kind]
        rings = [
            [(float(point[0]), float(point[1])) for point in ring]
            for polygon in polygons
            for ring in polygon
        ]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise InvalidInputError(f"{where}: expected a Polygon or MultiPolygon ({error})") from error
    if not rings or any(len(ring) < 4 or ring[0] != ring[-1] for ring in rings):
        raise InvalidInputError(f"{where}: a ring must close and have at least four positions")
    if not all(-180 <= x <= 180 and -90 <= y <= 90 for ring in rings for x, y in ring):
        raise InvalidInputError(f"{where}: positions must be longitude and latitude in degrees")
    area = sum(max(x for x, _ in r) - min(x for x, _ in r) for r in rings)
    height = max(y for r in rings for _, y in r) - min(y for r in rings for _, y in r)
    if area * height / CELL**2 > 20 * MAXIMUM_CELLS:
        raise InvalidInputError(f"{where}: too large for a sandbox")
    return Area(rings)


def rectangle(column: int, row: int, width: int, height: int) -> Area:
    """An area of whole tiles; ``column`` and ``row`` of its upper left tile, size in tiles."""
    west, north = WEST + column * TILE * CELL, NORTH - row * TILE * CELL
    east, south = west + width * TILE * CELL, north - height * TILE * CELL
    corners = [(west, north), (east, north), (east, south), (west, south), (west, north)]
    return Area([[(round(x, 3), round(y, 3)) for x, y in corners]])


def geojson(areas: list[Area]) -> bytes:
    """The areas as a FeatureCollection in the form of the labeller's AOI object."""
    features = [
        {
            "type": "Feature",
            "properties": {"aois": number},
            "geometry": {"type": "Polygon", "coordinates": area.rings},
        }
        for number, area in enumerate(areas, 1)
    ]
    return json.dumps({"type": "FeatureCollection", "name": "aois", "features": features}).encode()
