"""The map of a report: every kind of cell by its own shape, all that is counted, never too long."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.steps import geography_info
from test_loop_page import AT, of_turn
from test_render import PLANNED
from test_report import NASTY, Parsed, reported

from runbook.events.model import Event, Status, TaskResult
from runbook.events.redaction import Redactor
from runbook.events.render.report import loop, maps, markdown, page

USAGES = ("train", "validate", "holdout")


def described(size: int = 20, **changes: Any) -> dict[str, Any]:
    """A result of geography_info, of an area of 400 cells or of a wider one."""
    sites = [
        (2 + 2 * n, 3, f"GH{n}", usage, n % 3, processed)
        for n, (usage, processed) in enumerate(itertools.product(USAGES, (True, False)))
    ]
    return {
        "west": -1.15, "north": 9.9, "cell": 0.005, "columns": size + 2, "rows": size + 2, "block": 1,
        "outline": [[(8, 8), (8 * size, 8), (8 * size, 8 * size), (8, 8 * size), (8, 8)]],
        "area_cells": 400, "pool": [(row, 1, size, 4) for row in range(1, size + 1)],
        "pool_cells": 396, "training": [(5, 5)], "training_cells": 3, "quality": [(7, 7, "Q")],
        "quality_cells": 2, "sites": sites,
        "counts": [{"usage": usage, "processed": 1, "open": 1} for usage in USAGES],
        "notes": [], **changes,
    }  # fmt: skip


def largest() -> dict[str, Any]:
    """As many cells of every kind as geography_info ever returns, and the outline's most points."""
    side = geography_info.BLOCKS
    places = [(n % side + 1, n // side + 1) for n in range(geography_info.SITES)]
    blocks = [(y, x, x, (x + y) % 4 + 1) for y in range(1, side + 1) for x in range(1, side + 1)]
    return described(
        side * 10,
        block=10,
        pool=blocks,
        outline=[[(n % 640 * 8, n) for n in range(geography_info.POINTS)]],
        training=places[: geography_info.PLACES],
        quality=[(*place, "Q") for place in places[:110]],
        sites=[
            (*place, f"GH{n:07}", USAGES[n % 3], n % 30, n % 2) for n, place in enumerate(places)
        ],
    )


def of(found: Any) -> maps.Map:
    drawn = maps.drawn(found, "Map")
    assert drawn
    return drawn


def with_map(found: Any) -> list[Event]:
    step = TaskResult("h", "Reset", "pg_transaction", Status.CHANGED, map=found, at=AT)
    return [*PLANNED[:-1], step, PLANNED[-1]]


def test_kinds_differ_by_shape_and_open_sites_by_class() -> None:
    drawn = of(described())
    layers = {layer.name: layer for layer in drawn.layers}
    assert [name for name in layers if "site" not in layers[name].classes] == [
        "area, its outline", "cell of the pool", "static training cell", "quality cell (Q, I)",
    ]  # fmt: skip
    marks = [layer.mark for layer in drawn.layers if "open" not in layer.classes]
    assert len(set(marks[1:])) == len(marks[1:]) == 6
    for usage in USAGES:
        done, left = layers[f"{usage}, processed"], layers[f"{usage}, open"]
        assert done.mark == left.mark
        assert done.path.count("M") == left.path.count("M") == 1
        assert left.classes == f"site {usage} open"


def test_the_tables_have_the_same_cells() -> None:
    drawn = of(described())
    assert drawn.rows[0] == ("area, by its outline", "400", "", "")
    assert ("sites to train", "2", "1", "1") in drawn.rows
    assert drawn.sites[0] == ("GH0", "-1.1375", "9.8825", "train", "0", "processed")
    assert drawn.notes == [
        "2 static training cells lie outside of the map",
        "1 quality cells lie outside of the map",
    ]
    text = page.page(reported(with_map(described())))
    assert text.index("Where the sites would lie") < text.index("<h2>Warnings")
    for said in (text, markdown.markdown(reported(with_map(described())))):
        assert "sites to train" in said


def test_scale_and_axes() -> None:
    drawn = of(described())
    length, said = drawn.bar
    assert said == "2 km"
    north, south = (float(place) for place, _ in (drawn.upward[-1], drawn.upward[0]))
    degrees = float(drawn.upward[-1][1][:-2]) - float(drawn.upward[0][1][:-2])
    assert float(length) == pytest.approx((south - north) / (degrees * maps.DEGREE) * 2, rel=0.01)
    assert [name for _, name in drawn.across] == ["1.10°W", "1.05°W"]
    assert all(name.endswith("°N") for _, name in drawn.upward)


@pytest.mark.parametrize(
    "found",
    [
        described(1),
        described(outline=[], area_cells=None, pool=[], pool_cells=None, training_cells=None),
        described(sites=[], counts=[], pool_cells=0, pool=[]),
        described(west=-0.01, north=0.01),
        described(notes=[NASTY * 100], sites=[(1, 1, NASTY, NASTY, 1, True)]),
        largest(),
    ],
)
def test_any_map_is_drawn(found: Any) -> None:
    text = page.page(reported(with_map(found)))
    assert "script" not in Parsed(text).elements
    for path in re.findall(r' d="([^"]*)"', text):
        assert re.fullmatch(r"[MLHVhvmlazZ0-9. -]+", path)


def test_a_number_that_is_masked_is_left_out() -> None:
    found = described(
        west=-1.15, outline=[[(8, 8), (1234, 8), (8, 90), (8, 8)]], training=[(1234, 1)]
    )
    (event,) = [event for event in with_map(found) if isinstance(event, TaskResult) and event.map]
    assert maps.drawn(Redactor(["-1.15"]).event(event).map, "Map") is None
    hidden = Redactor(["1234"]).event(event)
    assert hidden.map["training"] == [["********", 1]]
    assert "static training cell" not in [layer.name for layer in of(hidden.map).layers]


def test_reports_with_the_largest_maps_stay_below_half_a_megabyte() -> None:
    after = "".join(f"line {number} of many\n" for number in range(290))
    diff = [{"before_header": "f", "after_header": "f", "before": "", "after": after}]
    changed = TaskResult("h", "Write", "m", Status.CHANGED, changed=True, diff=diff, at=AT)
    events = [replace(changed, task=f"Write {number}") for number in range(50)]
    mapped = with_map(largest())
    found = reported([*mapped[:-1], *mapped[-2:-1], *events, mapped[-1]])
    assert (len(found.maps), found.maps_left) == (1, 1)
    assert len(page.page(found).encode()) < 500_000
    states = {f"h{number}": of_turn() for number in range(16)}
    places = {host: {"map": largest()} for host in states}
    fleet = loop.content("t", AT, states, {}, geographies=places)
    assert [each.map is not None for each in fleet.instances] == [True] + [False] * 15
    assert "ask for this host alone" in fleet.instances[1].fact("map")
    assert len(page.loop_page(fleet).encode()) < 500_000


def test_a_map_that_cannot_be_made_says_why() -> None:
    failed = {"msg": "permission denied for table incoming_names", "failed": True}
    (instance,) = loop.content("t", AT, {"h": of_turn()}, {}, geographies={"h": failed}).instances
    assert instance.fact("map") == "none: permission denied for table incoming_names"
    assert not loop.instance("h", of_turn(), {"skipped": True}).fact("map")
