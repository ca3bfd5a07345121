"""Areas from GeoJSON: which rings, and which files are none."""

from __future__ import annotations

import itertools
import json
import math
import time
from bisect import bisect_left, bisect_right
from typing import Any

import ghana
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, geography
from hypothesis import given, settings
from hypothesis import strategies as st

SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]


def collection(*geometries: Any, **more: Any) -> bytes:
    features = [{"type": "Feature", "properties": {}, "geometry": g} for g in geometries]
    return json.dumps({"type": "FeatureCollection", "features": features, **more}).encode()


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def test_a_polygon_has_one_part_with_its_holes() -> None:
    hole = [[0.2, 0.2], [0.4, 0.2], [0.4, 0.4], [0.2, 0.2]]
    (part,) = geography.area(collection(polygon(SQUARE, hole)), 1, "f")
    assert part.outer == tuple(map(tuple, SQUARE))
    assert part.holes == (tuple(map(tuple, hole)),)


def test_a_multipolygon_has_several_parts() -> None:
    geometry = {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}
    assert len(geography.area(collection(geometry), 1, "f")) == 2


def test_the_index_counts_rows_from_one() -> None:
    far = [[x + 10, y] for x, y in SQUARE]
    file = collection(polygon(SQUARE), polygon(far))
    assert geography.area(file, 2, "f")[0].outer[0] == (10.0, 0.0)


def test_heights_are_left_out() -> None:
    ring = [[*position, 120.0] for position in SQUARE]
    assert geography.area(collection(polygon(ring)), 1, "f")[0].outer[1] == (1.0, 0.0)


@ghana.needed
def test_the_areas_of_ghana_can_all_be_read() -> None:
    body = ghana.AOIS.read_bytes()
    assert [len(geography.area(body, n, ghana.AOIS.name)) for n in range(1, 17)] == [1] * 16
    with pytest.raises(errors.InvalidInput, match=r"aoi_index 17: .* has 16 areas; give 1 to 16"):
        geography.area(body, 17, ghana.AOIS.name)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "no GeoJSON FeatureCollection|not a GeoJSON FeatureCollection"),
        (b'{"type": "Polygon"}', "not a GeoJSON FeatureCollection"),
        (collection(), "has 0 areas"),
        (collection(None), "feature 1 has no geometry"),
        (collection({"type": "Point", "coordinates": [1, 2]}), "geometry is Point"),
        (collection({"type": "Polygon", "coordinates": []}), "coordinates are empty|no rings"),
        (collection({"type": "Polygon"}), "no rings|are empty"),
        (collection(polygon(SQUARE[:3])), "ring 1 has fewer than four positions"),
        (collection(polygon(SQUARE, SQUARE[:4])), "ring 2 is not closed"),
        (collection(polygon([*SQUARE[:2], [200, 0], SQUARE[0]])), "position 3: .*200.* longitude"),
        (collection(polygon([*SQUARE[:2], ["1", 0], SQUARE[0]])), "position 3"),
        (collection(polygon([*SQUARE[:2], [float("nan"), 0], SQUARE[0]])), "position 3"),
        (collection(polygon([*SQUARE[:2], [True, 0], SQUARE[0]])), "position 3"),
        (collection(polygon([*SQUARE[:2], [10**400, 0], SQUARE[0]])), "position 3: .* longitude"),
        (collection(polygon([*SQUARE[:2], [0, -(10**4000)], SQUARE[0]])), "position 3"),
        (collection(polygon([*SQUARE[:2], [float("inf"), 0], SQUARE[0]])), "position 3"),
        (
            collection(polygon(SQUARE), crs={"properties": {"name": "urn:ogc:def:crs:EPSG::32630"}}),
            "is in urn:ogc:def:crs:EPSG::32630; expected longitude and latitude",
        ),
        (collection(polygon(SQUARE), crs=3), "crs has no name"),
    ],
)  # fmt: skip
def test_what_is_no_area_is_named(body: bytes, problem: str) -> None:
    with pytest.raises(errors.InvalidInput, match=f"^(aoi_index 1: )?s3://b/grid/x.*({problem})"):
        geography.area(body, 1, "s3://b/grid/x")


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["type", "features", "geometry", "coordinates", "crs"]), inner),
).map(lambda document: json.dumps(document).encode()))  # fmt: skip
def test_no_file_makes_a_traceback(body: bytes) -> None:
    with pytest.raises(errors.InvalidInput):
        geography.area(body, 1, "f")


# Which cells are in an area


def box(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def inside(geometry: Any, xs: Any = range(7), ys: Any = range(7)) -> set[tuple[float, float]]:
    """The points of a lattice that are in the area; every span is of its columns only, in order."""
    parts = geography.area(collection(geometry), 1, "f")
    spans = list(geography.spans(parts, list(map(float, xs)), list(map(float, ys))))
    assert spans == sorted(spans)
    found = [(x, y) for y, west, east in spans for x in xs if west <= x <= east]
    assert len(set(found)) == len(found)
    held = geography.boxes(parts)
    assert all(any(w <= x <= e and s <= y <= n for w, e, s, n in held) for x, y in found)
    return set(found)


def test_holes_parts_and_edges() -> None:
    """The outer edge is in the area, the edge of a hole is not."""
    square = {(x, y) for x in range(7) for y in range(7)}
    assert inside(polygon(box(0, 0, 6, 6))) == square
    assert inside(polygon(box(0.5, 0.5, 5.5, 5.5))) == {
        (x, y) for x, y in square if 1 <= x <= 5 and 1 <= y <= 5
    }
    assert inside(polygon(box(0, 0, 6, 6), box(2, 2, 4, 4))) == {
        (x, y) for x, y in square if not (2 <= x <= 4 and 2 <= y <= 4)
    }
    assert inside(polygon(box(0, 0, 6, 6), box(1, 1, 3, 3), box(2, 2, 4, 4), box(5, 0, 6, 6))) == {
        (x, y) for x, y in square
        if x < 5 and not (1 <= x <= 3 and 1 <= y <= 3) and not (2 <= x <= 4 and 2 <= y <= 4)
    }  # fmt: skip
    parts = {"type": "MultiPolygon", "coordinates": [
        [box(-0.5, -0.5, 1.5, 1.5)], [box(3.5, 3.5, 6.5, 6.5), box(4.5, 4.5, 5.5, 5.5)],
        [box(5.6, 5.6, 6.5, 6.5)],
    ]}  # fmt: skip
    assert inside(parts) == {
        (x, y) for x, y in square if (x < 2 and y < 2) or (x > 3 and y > 3 and (x, y) != (5, 5))
    }
    concave = [[0.5, -0.5], [6.5, -0.5], [6.5, 6.5], [3.5, 2.5], [0.5, 6.5], [0.5, -0.5]]
    assert (3, 1) in inside(polygon(concave))
    assert (3, 4) not in inside(polygon(concave))
    diamond = [[0, 3], [3, 0], [6, 3], [3, 6], [0, 3]]
    assert inside(polygon(diamond)) == {(x, y) for x, y in square if abs(x - 3) + abs(y - 3) <= 3}
    assert inside(polygon([[x, 6 - y] for x, y in concave])) == {
        (x, 6 - y) for x, y in inside(polygon(concave))
    }


def winding(ring: list[list[float]], x: float, y: float) -> float | None:
    """How often a ring goes round a point, from the angles; None when it comes near to it."""
    turns = 0.0
    for (ax, ay), (bx, by) in itertools.pairwise(ring):
        ax, ay, bx, by = ax - x, ay - y, bx - x, by - y
        cross, dot = ax * by - ay * bx, ax * bx + ay * by
        length = math.hypot(bx - ax, by - ay)
        if min(math.hypot(ax, ay), math.hypot(bx, by)) < 1e-4 or (
            length and abs(cross) / length < 1e-4 and dot <= 0
        ):
            return None
        turns += math.atan2(cross, dot)
    return round(turns / math.tau)


#: Degrees, to a tenth of a millimetre: products of the smallest numbers would vanish.
degrees = st.floats(-1, 7).map(lambda number: round(number, 9))
positions = st.tuples(degrees, degrees) | st.tuples(
    st.integers(-2, 14).map(lambda n: n / 2), st.integers(-2, 14).map(lambda n: n / 2)
)


@settings(deadline=None)
@given(st.lists(positions, min_size=3, max_size=30), st.lists(positions, min_size=3, max_size=8))
def test_cells_are_inside_as_the_winding_number_says(outer: Any, hole: Any) -> None:
    """Any rings, crossing themselves and each other too."""
    rings = [[list(p) for p in (*ring, ring[0])] for ring in (outer, hole)]
    found = inside(polygon(*rings))
    for x, y in itertools.product(range(7), range(7)):
        round_outer, round_hole = (winding(ring, x, y) for ring in rings)
        if round_outer is not None and round_hole is not None:
            assert ((x, y) in found) == (round_outer != 0 and round_hole == 0), (x, y)


def test_many_parts_are_searched_in_few_boxes() -> None:
    geometry = {"type": "MultiPolygon", "coordinates": [
        [box(n, 0.2, n + 0.5, 0.8)] for n in range(1, 150)
    ]}  # fmt: skip
    parts = geography.area(collection(geometry), 1, "f")
    assert len(geography.boxes(parts)) <= 32
    assert inside(geometry, range(151), [0.5]) == {(n, 0.5) for n in range(1, 150)}


def star(vertices: int, radius: float, depth: float) -> list[list[float]]:
    """Every other vertex nearer to the middle, by ``depth`` of the radius."""
    ring = [
        [r * math.cos(math.tau * n / vertices), r * math.sin(math.tau * n / vertices)]
        for n in range(vertices)
        for r in [radius * (1 - depth * (n % 2))]
    ]
    return [*ring, ring[0]]


def test_a_coastline_of_200_000_vertices_takes_no_more_than_reading_it() -> None:
    """55,000 cells; a test of each cell against each edge took 50 s."""
    axis = [n * 0.005 for n in range(-117, 118)]
    outline = star(200_000, 0.58, 0.001)
    begun = time.process_time()
    parts = geography.area(collection(polygon(outline)), 1, "f")
    read = time.process_time() - begun
    spans = list(geography.spans(parts, axis, axis))
    assert time.process_time() - begun < 10 * read
    sure = {(x, y) for x in axis for y in axis if math.hypot(x, y) < 0.58 * 0.9985}
    covered = sum(bisect_right(axis, east) - bisect_left(axis, west) for _, west, east in spans)
    assert len(sure) <= covered <= 1.01 * len(sure)


def test_an_outline_that_would_take_minutes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geography, "MOST_CROSSINGS", 10_000)
    axis = [n * 0.005 for n in range(-117, 118)]
    parts = geography.area(collection(polygon(star(2_000, 0.58, 0.5))), 1, "f")
    with pytest.raises(errors.InvalidInput, match=r"cross the rows .* than 10,000 times; simplify"):
        list(geography.spans(parts, axis, axis))
