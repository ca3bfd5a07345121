"""Cells of the grid that areas hold (engine/runbook/sandbox/grid.py)."""

from __future__ import annotations

import json

import ghana
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import InvalidInputError
from runbook.sandbox import grid
from runbook.sandbox.seed import Geography


def cells(runs: list[grid.Run]) -> set[tuple[int, int]]:
    return {(row, column) for row, first, last in runs for column in range(first, last + 1)}


@ghana.needed
def test_ghana_has_the_cells_that_its_data_page_says() -> None:
    geography = Geography(ghana.AOIS.read_bytes())
    counts = [grid.count(runs) for runs in geography.area_runs]
    assert (counts[0], counts[2], sum(counts)) == (77_700, 50_100, 811_600)
    assert geography.cells == 811_600, "the areas do not overlap, and nothing else is in the grid"


@given(st.integers(0, 1300), st.integers(0, 1400), st.integers(1, 20), st.integers(1, 20))
def test_a_rectangle_of_tiles_holds_its_cells(
    column: int, row: int, width: int, height: int
) -> None:
    runs = list(grid.rectangle(column, row, width, height).runs())
    assert [run.row for run in runs] == list(range(row * 10, (row + height) * 10))
    assert {(run.first, run.last) for run in runs} == {(column * 10, (column + width) * 10 - 1)}


def test_a_hole_is_left_out_and_a_second_polygon_taken_in() -> None:
    outer, hole = grid.rectangle(300, 500, 3, 3).rings[0], grid.rectangle(301, 501, 1, 1).rings[0]
    other = grid.rectangle(310, 500, 1, 1).rings[0]
    geometry = {"type": "MultiPolygon", "coordinates": [[outer, hole], [other]]}
    [area] = grid.parse(json.dumps({"features": [{"geometry": geometry}]}).encode(), "f")
    found = cells(list(area.runs()))
    assert len(found) == 900 - 100 + 100
    assert (5015, 3015) not in found
    assert (5005, 3105) in found


runs = st.lists(
    st.builds(lambda row, first, length: grid.Run(row, first, first + length),
              st.integers(0, 3), st.integers(0, 30), st.integers(0, 8))
)  # fmt: skip


@given(runs)
def test_union_holds_each_cell_once_in_raster_order(some: list[grid.Run]) -> None:
    merged = grid.union(some)
    assert cells(merged) == cells(some)
    assert grid.count(merged) == len(cells(some))
    assert merged == sorted(merged)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "areas.geojson"),
        (b"\xff\xfe", "areas.geojson"),
        (b"[]", "FeatureCollection"),
        (b'{"features": []}', "no features"),
        (b'{"features": [{"geometry": null}]}', "feature 1"),
        (b'{"features": [{"geometry": {"type": "Point", "coordinates": [0, 1]}}]}', "feature 1"),
        (b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 1], [1, 1]]]}}]}', "close"),
        ((b'{"features": [{"geometry": {"type": "Polygon", "coordinates": '
         b'[[[500000, 1], [500001, 1], [500001, 2], [500000, 1]]]}}]}'), "degrees"),
        ((b'{"features": [{"geometry": {"type": "Polygon", "coordinates": '
         b'[[[0, 1], [NaN, 1], [1, 2], [0, 1]]]}}]}'), "degrees"),
        ((b'{"features": [{"geometry": {"type": "Polygon", "coordinates": '
         b'[[[-170, -80], [170, -80], [170, 80], [-170, 80], [-170, -80]]]}}]}'), "too large"),
        ((b'{"features": [{"geometry": {"type": "Polygon", "coordinates": '
         b'[[[0, 1], [0.01, 1], [0.01, 1.01], [0, 1]]]}}]}'), "no area holds 500 cells"),
    ],
)  # fmt: skip
def test_what_is_no_area_is_refused_by_name(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Geography(content, "areas.geojson")
