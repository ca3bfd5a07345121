"""Areas from GeoJSON: which rings, and which files are none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, geography
from hypothesis import given
from hypothesis import strategies as st

SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "ghana_aois.geojson"


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


def test_the_areas_of_ghana_can_all_be_read() -> None:
    body = DATA.read_bytes()
    assert [len(geography.area(body, n, DATA.name)) for n in range(1, 17)] == [1] * 16
    with pytest.raises(errors.InvalidInput, match=r"aoi_index 17: .* has 16 areas; give 1 to 16"):
        geography.area(body, 17, DATA.name)


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


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_a_polygons_text_keeps_every_digit(x: float, y: float) -> None:
    numbers = re.findall(r"[^(),]+", geography.polygon(((x, y),)))
    assert [float(number) for number in numbers] == [x, y]
