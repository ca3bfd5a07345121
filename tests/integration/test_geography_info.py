"""The map of a run: the same from the transaction, its check and the module; small for any area."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import geography, transaction
from ansible_collections.labeller.runbook.plugins.module_utils.steps.geography_info import (
    GeographyInfo,
)

if TYPE_CHECKING:
    from labeller_support import Labeller

OBJECTS = {
    "aoi": support.AOI, "aoi_index": 1, "pool": support.POOL, "training_names": support.TRAINING,
}  # fmt: skip


def step(run_id: int = 91, **arguments: Any) -> Any:
    return support.step("geography_info", run_id=run_id, **arguments)


def read(labeller: Labeller, run_id: int = 91, **arguments: Any) -> Any:
    return transaction.read(step(run_id, **{**OBJECTS, **arguments}), labeller.options)["map"]


def covered(found: dict[str, Any]) -> int:
    return sum((last - first + 1) * found["block"] ** 2 for _, first, last, _ in found["pool"])


@pytest.fixture
def applied(labeller: Labeller) -> dict[str, Any]:
    """The map of a regular run that was applied."""
    predicted = support.check(labeller, *support.regular(), step(**OBJECTS))["map"]
    found = support.apply(labeller, *support.regular(), step(**OBJECTS))["map"]
    # The pool's object has no training cells without scenes.
    left_out = len(predicted["training"]) - len(found["training"])
    training = {"training": found["training"], "training_cells": found["training_cells"]}
    assert found == {**predicted, **training}
    assert set(found["training"]) <= set(predicted["training"])
    assert found["training_cells"] == predicted["training_cells"] - left_out
    return dict(found)


def test_it_is_what_the_tables_and_objects_hold(labeller: Labeller, applied: Any) -> None:
    pool = len(labeller.get(support.POOL).splitlines()) - 1
    training = len(labeller.get(support.TRAINING).splitlines()) - 1
    assert applied["area_cells"] == 900
    assert applied["block"] == 1
    # A block around the 30 by 30 cells; neighbours in a row are one run.
    assert (applied["columns"], applied["rows"]) == (32, 32)
    assert {point for ring in applied["outline"] for point in ring} == {
        (8, 8), (248, 8), (248, 248), (8, 248),
    }  # fmt: skip
    assert len(applied["pool"]) < applied["pool_cells"] / 5
    assert applied["pool_cells"] + training == pool
    assert covered(applied) == applied["pool_cells"]
    assert {share for *_, share in applied["pool"]} == {4}
    assert applied["counts"] == [{"usage": "validate", "processed": 0, "open": 50}]
    rows = labeller.sql(
        "SELECT n.name, g.x, g.y FROM incoming_names n JOIN master_grid g ON g.name = n.name"
        " WHERE run = 91 ORDER BY n.name"
    )
    assert [site[2] for site in applied["sites"]] == [name for name, _, _ in rows]
    for site, (_, x, y) in zip(applied["sites"], rows, strict=True):
        assert applied["west"] + (site[0] + 0.5) * 0.005 == pytest.approx(x, abs=0.0026)
        assert applied["north"] - (site[1] + 0.5) * 0.005 == pytest.approx(y, abs=0.0026)
        assert site[3:] == ("validate", 0, False)
    ((corner, *_, end),) = applied["outline"]
    assert corner == end
    assert applied["notes"] == []


def test_the_module_gives_the_same_afterwards(labeller: Labeller, applied: Any) -> None:
    assert read(labeller) == applied
    labeller.sql("UPDATE incoming_names SET processed = true, label = true WHERE run = 91")
    assert read(labeller)["counts"] == [{"usage": "validate", "processed": 50, "open": 0}]


def test_a_check_that_is_not_asked_for_a_map_makes_none(labeller: Labeller) -> None:
    unwanted = step(**OBJECTS, wanted=False)
    assert "map" not in support.check(labeller, *support.regular(), unwanted)
    assert "map" not in support.apply(labeller, *support.regular(), unwanted)


def test_a_real_run_looks_after_its_commit_and_is_not_failed_by_it(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def refuse(self: Any, tx: Any) -> None:
        seen.append(labeller.sql("SELECT 1 FROM runbook.run_marker WHERE run_id = 91") == [(1,)])
        tx.execute("SELECT 1 / 0")

    monkeypatch.setattr(GeographyInfo, "read_state", refuse)
    found = support.apply(labeller, *support.regular(), step(**OBJECTS))
    assert seen == [True]
    assert "map" not in found
    assert ["division by zero" in each for each in found["warnings"]] == [True]


def test_what_is_missing_is_a_note(labeller: Labeller, applied: Any) -> None:
    found = read(labeller, aoi="grid/none", pool="planet/none", training_names=None)
    assert [note.partition(":")[0] for note in found["notes"]] == ["no outline", "no pool"]
    assert (found["outline"], found["area_cells"], found["pool"]) == ([], None, [])
    assert len(found["sites"]) == 50  # the map is of the sites then
    labeller.put(support.POOL, "name,col,row\na,x,1\n")
    assert "invalid input syntax" in read(labeller)["notes"][0]
    assert read(labeller, aoi=None, run_id=4711) is None


@pytest.mark.parametrize(
    ("outline", "cells", "rings"),
    [
        ([[[0.001, 0.001], [0.004, 0.001], [0.004, 0.004], [0.001, 0.004], [0.001, 0.001]]], 1, 1),
        (
            [
                [[0, 0], [0.05, 0], [0.05, 0.05], [0, 0.05], [0, 0]],
                [[0.01, 0.01], [0.04, 0.01], [0.04, 0.04], [0.01, 0.04], [0.01, 0.01]],
            ],
            64,
            2,
        ),
        ([[[0, 0], [6, 0], [6, 6], [0, 6], [0, 0]]], 1_440_000, 1),
    ],
)
def test_areas_of_one_cell_with_a_hole_and_very_large(
    labeller: Labeller, outline: Any, cells: int, rings: int
) -> None:
    # Its corner is one of a cell.
    west, south = geography.X_MIN + 3000 * 0.005, geography.Y_MAX - 6000 * 0.005
    shifted = [[[west + x, south + y] for x, y in ring] for ring in outline]
    geometry = {"type": "Polygon", "coordinates": shifted}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    labeller.put(support.AOI, json.dumps({"type": "FeatureCollection", "features": [feature]}))
    rows = "".join(
        f"c{column}_{row},{column},{row}\n"
        for column in range(3000, 3000 + min(cells, 300))
        for row in range(5900, 5999)
        if (column + row) % 3
    )
    labeller.put(support.POOL, "name,col,row\n" + rows)
    found = read(labeller)
    assert found["area_cells"] == cells
    assert len(found["outline"]) == rings
    assert max(found["columns"], found["rows"]) <= 66 * found["block"]
    assert len(json.dumps(found)) < 150_000
    if cells > 10_000:
        assert found["block"] == 19
        assert {share for *_, share in found["pool"]} <= {1, 2, 3}


def test_an_outline_of_very_many_points_is_rounded(labeller: Labeller) -> None:
    west, south = geography.X_MIN + 15, geography.Y_MAX - 30
    teeth = [[west + n * 1e-4, south + (n % 2) * 0.1] for n in range(20_000)]
    ring = [*teeth, [west + 2, south + 2], [west, south + 2], teeth[0]]
    feature = {
        "type": "Feature",
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    labeller.put(support.AOI, json.dumps({"type": "FeatureCollection", "features": [feature]}))
    found = read(labeller)
    assert 3 < sum(map(len, found["outline"])) <= 3000


def test_a_large_grid_is_not_read(labeller: Labeller, applied: Any) -> None:
    labeller.sql(
        "INSERT INTO master_grid (id, x, y, name, fwts, avail) SELECT n, 20, 20, 'ZZ' || n, 1, 'T'"
        " FROM generate_series(1000000, 1100000) AS n"
    )
    labeller.sql("ANALYZE")
    scanned = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'master_grid'"
    # A session that ends reports what it has read.
    before = labeller.sql(scanned)
    read(labeller)
    assert labeller.sql(scanned) == before
