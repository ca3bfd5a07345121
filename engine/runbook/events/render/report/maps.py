"""The map of a report: what the module geography_info returned, as SVG paths and as a table.

Kinds of cells differ by shape as well as by colour; a processed site is filled, an open one is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook.events.render.report.scale import at, digits, distance
from runbook.events.render.report.texts import LINES, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runbook.events.render.report.scale import Scale

#: The longest side of what is drawn, in the SVG's own units, and what is around it.
LONGEST, LEFT, RIGHT, TOP, BOTTOM = 420, 56, 12, 10, 50
#: Kilometres of a degree of latitude.
DEGREE = 111.32
#: With so many cells of a kind geography_info may have left out more.
MOST = 2_000
#: Most ticks of an axis.
TICKS = 4
#: The shape of a kind as a relative SVG path around its place; the last two are lines.
SHAPES = {
    "train": "m0-5l4.5 8.5h-9z",
    "validate": "m-4-4h8v8h-8z",
    "holdout": "m0-5.5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
    "training": "m-3.5 0h7m-3.5-3.5v7",
    "quality": "m-3-3l6 6m0-6l-6 6",
}
NUMBERS = (
    "west", "north", "cell", "columns", "rows", "block",
    "area_cells", "pool_cells", "training_cells", "quality_cells",
)  # fmt: skip
USAGES = ("train", "validate", "holdout")


@dataclass(frozen=True)
class Layer:
    """A kind of cells: its classes in the style sheet, its path, and its mark in the legend."""

    name: str
    classes: str
    path: str
    mark: str


@dataclass(frozen=True)
class Map:
    """A map, ready for a template. ``across`` and ``upward``: places and texts of the axes.

    ``bar``: length of the scale's bar, and its text. ``rows`` count every kind, ``sites`` list the
    newest ones; ``more`` are not in that list. ``notes`` say what is missing.
    """

    title: str
    description: str
    width: float
    height: float
    layers: Sequence[Layer]
    across: Sequence[tuple[str, str]]
    upward: Sequence[tuple[str, str]]
    bar: tuple[str, str]
    rows: Sequence[Sequence[str]]
    sites: Sequence[Sequence[str]]
    more: int
    notes: Sequence[str]

    @property
    def characters(self) -> int:
        """How long its paths are."""
        return sum(len(layer.path) for layer in self.layers)

    header = ("Cells", "All", "Processed", "Open")
    site_header = ("Site", "Longitude", "Latitude", "Use", "Iteration", "State")


def drawn(found: Mapping[str, Any], title: str) -> Map | None:
    """The map of what geography_info returned; None when a number of it is masked as a secret."""
    counted = [each[state] for each in found["counts"] for state in ("processed", "open")]
    if not _are_numbers([*counted, *(found[name] or 0 for name in NUMBERS)]):
        return None
    columns, rows, cell = int(found["columns"]), int(found["rows"]), float(found["cell"])
    middle = found["north"] - rows * cell / 2
    narrow = max(math.cos(math.radians(middle)), 0.1)
    unit: float = LONGEST / max(columns * narrow, rows)

    def x(column: float) -> float:
        return LEFT + column * narrow * unit

    def y(row: float) -> float:
        return TOP + row * unit

    sites = [site for site in found["sites"] if _are_numbers(site[:2])]
    listed = [_site(found, site) for site in sites[:LINES]]
    total = sum(each["processed"] + each["open"] for each in found["counts"])
    return Map(
        title=visible(title),
        description=_description(found, total),
        width=x(columns) + RIGHT,
        height=y(rows) + BOTTOM,
        layers=list(_layers(found, sites, x, y)),
        across=_degrees(found["west"], columns, cell, x, "EW"),
        upward=_degrees(found["north"], -rows, cell, y, "NS"),
        bar=_bar(x(columns) - LEFT, unit / (cell * DEGREE)),
        rows=list(_counted(found)),
        sites=listed,
        more=total - len(listed),
        notes=[visible(note, 500) for note in [*_undrawn(found, total), *found["notes"]]],
    )


def _layers(
    found: Mapping[str, Any], sites: Sequence[Sequence[Any]], x: Scale, y: Scale
) -> Iterator[Layer]:
    """The layers from below to above; none for a kind without cells."""
    eighth = 8
    rings = [
        "L".join(
            f"{at(x(a / eighth))} {at(y(b / eighth))}" for a, b in ring if _are_numbers((a, b))
        )
        for ring in found["outline"]
    ]
    if rings:
        square = "M2 1h12v10h-12z"
        yield Layer("area, its outline", "area", "".join(f"M{ring}z" for ring in rings), square)
    size = found["block"]
    for share in (1, 2, 3, 4):
        blocks = [run[:3] for run in found["pool"] if run[3] == share and _are_numbers(run)]
        if blocks:
            edge = (found["columns"] - size, found["rows"] - size)
            yield Layer(_share(share, size), f"pool s{share}", _runs(blocks, size, edge, x, y),
                        "M2 1h12v10h-12z")  # fmt: skip
    for kind, name in (("training", "static training cell"), ("quality", "quality cell (Q, I)")):
        cells = [cell[:2] for cell in found[kind] if _are_numbers(cell[:2])]
        if cells:
            yield Layer(name, f"cells {kind}", _marks(cells, kind, x, y), f"M8 6{SHAPES[kind]}")
    for usage in USAGES:
        for processed, word in ((True, "processed"), (False, "open")):
            cells = [s[:2] for s in sites if (s[3], bool(s[5])) == (usage, processed)]
            if cells:
                yield Layer(f"{usage}, {word}", f"site {usage} {word}",
                            _marks(cells, usage, x, y), f"M8 6{SHAPES[usage]}")  # fmt: skip


def _share(share: int, size: int) -> str:
    if size == 1:
        return "cell of the pool"
    part = ["", "up to 1/4", "up to 1/2", "up to 3/4", "more than 3/4"][share]
    return f"{part} of {size} × {size} cells in the pool"


def _runs(
    blocks: Sequence[Sequence[int]], size: int, edge: tuple[int, int], x: Scale, y: Scale
) -> str:
    """Blocks as rectangles, cut at the eastern and the southern edge of the area."""
    return "".join(
        f"M{at(x(first * size))} {at(y(row * size))}H{at(x(min((last + 1) * size, edge[0])))}"
        f"V{at(y(min((row + 1) * size, edge[1])))}H{at(x(first * size))}z"
        for row, first, last in blocks
    )


def _marks(cells: Sequence[Sequence[int]], kind: str, x: Scale, y: Scale) -> str:
    shape = SHAPES[kind]
    return "".join(f"M{at(x(c + 0.5))} {at(y(r + 0.5))}{shape}" for c, r in cells)


def _site(found: Mapping[str, Any], site: Sequence[Any]) -> Sequence[str]:
    column, row, name, usage, iteration, processed = site
    longitude = found["west"] + (column + 0.5) * found["cell"]
    latitude = found["north"] - (row + 0.5) * found["cell"]
    place = (f"{longitude:.4f}", f"{latitude:.4f}")
    state = "processed" if processed else "open"
    return (visible(str(name)), *place, str(usage), str(iteration), state)


def _counted(found: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, key in (
        ("area, by its outline", "area_cells"),
        ("pool", "pool_cells"),
        ("static training", "training_cells"),
        ("quality (Q, I), in the whole grid", "quality_cells"),
    ):
        if found[key] is not None:
            yield name, f"{found[key]:,}", "", ""
    for each in found["counts"]:
        done, left = each["processed"], each["open"]
        yield f"sites to {each['usage']}", f"{done + left:,}", f"{done:,}", f"{left:,}"


def _undrawn(found: Mapping[str, Any], total: int) -> Iterator[str]:
    """Cells that are counted but not drawn."""
    for name, shown, count in (
        ("sites", found["sites"], total),
        ("static training cells", found["training"], found["training_cells"] or 0),
        ("quality cells", found["quality"], found["quality_cells"]),
    ):
        if count > len(shown):
            why = "are too many to be drawn" if len(shown) >= MOST else "lie outside of the map"
            yield f"{count - len(shown):,} {name} {why}"


def _description(found: Mapping[str, Any], total: int) -> str:
    east = found["west"] + found["columns"] * found["cell"]
    south = found["north"] - found["rows"] * found["cell"]
    said = f"{total:,} sites"
    if found["pool_cells"] is not None:
        said += f" of a pool of {found['pool_cells']:,} cells"
    return (
        f"{said}, between {_degree(found['west'], 'EW')} and {_degree(east, 'EW')}, "
        f"{_degree(south, 'NS')} and {_degree(found['north'], 'NS')}"
    )


def _degrees(
    corner: float, count: int, cell: float, scale: Scale, signs: str
) -> Sequence[tuple[str, str]]:
    """Ticks at whole parts of a degree from the corner on; a negative ``count`` goes down."""
    low, high = sorted((corner, corner + count * cell))
    step = distance(high - low, TICKS)
    first = math.ceil(low / step)
    values = [n * step for n in range(first, math.floor(high / step) + 1)]
    return [
        (at(scale(abs(value - corner) / cell)), _degree(value, signs, digits(step)))
        for value in values
    ]


def _degree(value: float, signs: str, decimals: int = 3) -> str:
    return f"{abs(value):.{decimals}f}°{signs[value < 0] if value else ''}"


def _bar(width: float, kilometre: float) -> tuple[str, str]:
    """At most a third of the width, 1, 2 or 5 times a power of ten of kilometres."""
    most = width / 3 / kilometre
    power = 10.0 ** math.floor(math.log10(most))
    length = next(power * n for n in (5, 2, 1) if power * n <= most)
    return at(length * kilometre), f"{length:g} km"


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether a place is one; a value that looks like a secret is masked, and is no number then."""
    return all(isinstance(value, int | float) for value in values)
