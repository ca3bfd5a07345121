# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Areas of interest: one row of a GeoJSON file, and the grid cells whose centres lie in it.

A cell belongs to an area when its centre is inside a polygon and in none of its holes. PostgreSQL's
built-in types decide; they take a point within a millionth of a degree of an edge as on the
edge. The rule there: on the outer edge is in, on the edge of a hole is out. Areas drawn along cell
borders, as the study's are, never meet it.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

from .errors import InvalidInput

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.sql import Composed

#: Upper left corner and size of the raster's cells, degrees (reference 2.12).
X_MIN, Y_MAX, CELL = -17.541, 37.540, 0.005

_LONGITUDE_LATITUDE = ("CRS84", "EPSG::4326", "EPSG:4326")

Ring = Tuple[Tuple[float, float], ...]


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
                    where, number, json.dumps(position)[:60]
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
            isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            for value in position[:2]
        )
        and abs(position[0]) <= 180
        and abs(position[1]) <= 90
    )


def polygon(ring: Ring) -> str:
    """A ring as PostgreSQL's text of a polygon; every digit of the numbers is kept."""
    return "({})".format(",".join("({!r},{!r})".format(x, y) for x, y in ring))


def bounds(ring: Ring) -> Tuple[float, float, float, float]:
    """Smallest and largest x, smallest and largest y."""
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    return min(xs), max(xs), min(ys), max(ys)


def cells(parts: Sequence[Part]) -> Composed:
    """The condition that a row of master_grid, by its x and y, lies in the area."""
    return _sql.SQL("({})").format(_sql.SQL(" OR ").join(_inside(part) for part in parts))


def _inside(part: Part) -> Composed:
    # The comparison of numbers comes first and leaves few cells to the polygon.
    west, east, south, north = bounds(part.outer)
    condition = _sql.SQL(
        "(x BETWEEN {} AND {} AND y BETWEEN {} AND {} AND {}::polygon @> point(x, y)"
    ).format(*map(_sql.Literal, (west, east, south, north, polygon(part.outer))))
    for hole in part.holes:
        condition += _sql.SQL(" AND NOT {}::polygon @> point(x, y)").format(
            _sql.Literal(polygon(hole))
        )
    return condition + _sql.SQL(")")


def column_row() -> Tuple[str, str]:
    """SQL of a cell's raster column and row, 0-based, from x and y (reference 2.12)."""
    return (
        "trunc((x + {}) / {})::integer".format(-X_MIN, CELL),
        "trunc(({} - y) / {})::integer".format(Y_MAX, CELL),
    )
