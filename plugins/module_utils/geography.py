# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Areas of interest: one row of a GeoJSON file, and the grid cells whose centres lie in it.

A cell belongs to an area when its centre is inside a polygon and in none of its holes. A point
within a millionth of a degree of an edge is on the edge. The rule there: on the outer edge is in,
on the edge of a hole is out. Areas drawn along cell borders, as the study's are, never meet it.

The cells are found by rows: an edge is looked at once for each row of cells that it crosses, not
once for each cell, so that an outline of any number of vertices costs little more than reading it.
"""

from __future__ import annotations

import json
import reprlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, DefaultDict, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from .errors import InvalidInput

#: Upper left corner and size of the raster's cells, degrees (docs/labeller.md 7.1).
X_MIN, Y_MAX, CELL = -17.541, 37.540, 0.005

_LONGITUDE_LATITUDE = ("CRS84", "EPSG::4326", "EPSG:4326")

#: Degrees; a point nearer to an edge is on it.
_NEAR = 1e-6

#: Pairs of an edge and a row that it crosses, about twenty seconds; outlines of real areas have
#: less than a hundredth of it.
MOST_CROSSINGS = 20_000_000

#: How many boxes the search for cells is narrowed to.
_BOXES = 32

Ring = Tuple[Tuple[float, float], ...]
#: West, east, south, north.
Box = Tuple[float, float, float, float]
#: Columns from the first to before the second, by number.
_Range = Tuple[int, int]


@dataclass(frozen=True)
class Part:
    """One polygon of an area: its outer ring and its holes, longitude and latitude."""

    outer: Ring
    holes: Tuple[Ring, ...]


def area(body: bytes, index: int, name: str) -> List[Part]:
    """The polygons of row ``index`` (1-based) of the GeoJSON file ``name``.

    Raises InvalidInput, naming the file and the place in it, for what is no such file or row.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("{} is not JSON: {}".format(name, error)) from error
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or document.get("type") != "FeatureCollection":
        raise InvalidInput("{} is not a GeoJSON FeatureCollection".format(name))
    _check_reference_system(document, name)
    if not 1 <= index <= len(features):
        raise InvalidInput(
            "aoi_index {}: {} has {} areas; give 1 to {}".format(
                index, name, len(features), len(features)
            )
        )
    where = "{}: feature {}".format(name, index)
    feature = features[index - 1]
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict):
        raise InvalidInput("{} has no geometry".format(where))
    return _parts(geometry, where)


def _check_reference_system(document: Any, name: str) -> None:
    system = document.get("crs")
    if system is None:
        return
    try:
        given = str(system["properties"]["name"])
    except (KeyError, TypeError) as error:
        raise InvalidInput("{}: crs has no name".format(name)) from error
    if not given.endswith(_LONGITUDE_LATITUDE):
        raise InvalidInput(
            "{} is in {}; expected longitude and latitude (CRS84)".format(name, given)
        )


def _parts(geometry: Any, where: str) -> List[Part]:
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise InvalidInput(
            "{}: geometry is {}; expected Polygon or MultiPolygon".format(where, kind)
        )
    polygons = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise InvalidInput("{}: coordinates are empty".format(where))
    parts = []
    for number, rings in enumerate(polygons, 1):
        if not isinstance(rings, list) or not rings:
            raise InvalidInput("{}: polygon {} has no rings".format(where, number))
        closed = [
            _ring(ring, "{}: polygon {}, ring {}".format(where, number, n))
            for n, ring in enumerate(rings, 1)
        ]
        parts.append(Part(closed[0], tuple(closed[1:])))
    return parts


def _ring(ring: Any, where: str) -> Ring:
    if not isinstance(ring, list) or len(ring) < 4:
        raise InvalidInput("{} has fewer than four positions".format(where))
    positions = []
    for number, position in enumerate(ring, 1):
        if not _is_position(position):
            raise InvalidInput(
                "{}, position {}: {} is no longitude and latitude in degrees".format(
                    where, number, reprlib.repr(position)[:60]
                )
            )
        positions.append((float(position[0]), float(position[1])))
    if positions[0] != positions[-1]:
        raise InvalidInput("{} is not closed".format(where))
    return tuple(positions)


def _is_position(position: Any) -> bool:
    return (
        isinstance(position, list)
        and len(position) >= 2
        and all(
            isinstance(value, (int, float)) and not isinstance(value, bool)
            for value in position[:2]
        )
        # Neither holds for NaN and infinities; an integer of any size can be compared.
        and abs(position[0]) <= 180
        and abs(position[1]) <= 90
    )


def boxes(parts: Sequence[Part]) -> List[Box]:
    """A few boxes that hold all parts; neighbours share one when there are many parts."""
    each = sorted(_bounds(part.outer) for part in parts)
    size = -(-len(each) // _BOXES)
    return [
        (
            min(west for west, _, _, _ in group) - _NEAR,
            max(east for _, east, _, _ in group) + _NEAR,
            min(south for _, _, south, _ in group) - _NEAR,
            max(north for _, _, _, north in group) + _NEAR,
        )
        for group in (each[n : n + size] for n in range(0, len(each), size))
    ]


def _bounds(ring: Ring) -> Box:
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    return min(xs), max(xs), min(ys), max(ys)


def spans(
    parts: Sequence[Part], xs: Sequence[float], ys: Sequence[float]
) -> Iterator[Tuple[float, float, float]]:
    """Where cells in the area are: y, and the first and last x of a run of columns.

    ``xs`` and ``ys`` are the distinct coordinates of the cells' centres, in order; so are the
    results, and no two runs of a row share a column. Raises InvalidInput for an outline that
    crosses too many rows to be an area's.
    """
    crossings = [0]
    inside: DefaultDict[int, Set[_Range]] = defaultdict(set)
    for part in parts:
        holes: DefaultDict[int, Set[_Range]] = defaultdict(set)
        for hole in part.holes:
            for row, ranges in _covered(hole, xs, ys, crossings).items():
                holes[row] |= ranges
        for row, ranges in _covered(part.outer, xs, ys, crossings).items():
            inside[row] |= _without(ranges, _union(holes[row])) if row in holes else ranges
    for row in sorted(inside):
        for first, end in _union(inside[row]):
            yield ys[row], xs[first], xs[end - 1]


def _covered(
    ring: Ring, xs: Sequence[float], ys: Sequence[float], crossings: List[int]
) -> Dict[int, Set[_Range]]:
    """By row, the columns in a ring or on it."""
    # What the winding number changes by at a column, and columns near an edge.
    turns: DefaultDict[int, DefaultDict[int, int]] = defaultdict(lambda: defaultdict(int))
    covered: DefaultDict[int, Set[_Range]] = defaultdict(set)
    for (x0, y0), (x1, y1) in zip(ring, ring[1:]):  # noqa: RUF007 pairwise needs Python 3.10
        low, high = (y0, y1) if y0 < y1 else (y1, y0)
        rows = range(bisect_left(ys, low - _NEAR), bisect_right(ys, high + _NEAR))
        crossings[0] += len(rows)
        if crossings[0] > MOST_CROSSINGS:
            raise InvalidInput(
                "the outline goes up and down too often: its edges cross the rows of the grid "
                "more than {:,} times; simplify it".format(MOST_CROSSINGS)
            )
        slope = (x1 - x0) / (y1 - y0) if y0 != y1 else 0.0
        for row in rows:
            y = ys[row]
            if y0 == y1:
                west, east = (x0, x1) if x0 < x1 else (x1, x0)
            else:
                a = x0 + (min(max(y - _NEAR, low), high) - y0) * slope
                b = x0 + (max(min(y + _NEAR, high), low) - y0) * slope
                west, east = (a, b) if a < b else (b, a)
            first, end = bisect_left(xs, west - _NEAR), bisect_right(xs, east + _NEAR)
            if first < end:
                covered[row].add((first, end))
            if (y0 <= y) != (y1 <= y):
                turns[row][bisect_left(xs, x0 + (y - y0) * slope)] += 1 if y0 < y1 else -1
    for row, changes in turns.items():
        winding, start = 0, 0
        for column in sorted(changes):
            if winding and start < column:
                covered[row].add((start, column))
            winding, start = winding + changes[column], column
    return covered


def _union(ranges: Iterable[_Range]) -> List[_Range]:
    """Ranges that neither overlap nor touch, in order."""
    found: List[_Range] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((first, end))
    return found


def _without(ranges: Iterable[_Range], holes: Sequence[_Range]) -> Set[_Range]:
    """The ranges without the ``holes``, which are in order and do not overlap."""
    found = set()
    number = 0
    for first, end in _union(ranges):
        start = first
        while number < len(holes) and holes[number][1] <= start:
            number += 1
        for hole_first, hole_end in holes[number:]:
            if hole_first >= end:
                break
            found.add((start, hole_first))
            start = hole_end
        found.add((start, end))
    return {(start, end) for start, end in found if start < end}


def place(longitude: float, latitude: float) -> Tuple[float, float]:
    """A point's raster column and row, 0-based, with the part of the cell."""
    return (longitude - X_MIN) / CELL, (Y_MAX - latitude) / CELL


def column_row() -> Tuple[str, str]:
    """SQL of a cell's raster column and row, 0-based, from x and y (docs/labeller.md 7.1)."""
    return (
        "trunc((x + {}) / {})::integer".format(-X_MIN, CELL),
        "trunc(({} - y) / {})::integer".format(Y_MAX, CELL),
    )
