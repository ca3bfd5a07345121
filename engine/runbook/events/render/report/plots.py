"""Plots of a report: what is drawn, as numbers and texts, and where it is in the SVG.

A plot's table has the same numbers. Series differ by mark and dashes as well as by colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook.events.render.report.scale import at, digits, distance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runbook.events.render.report.scale import Scale

#: Size of the SVG in its own units, and of what is inside the axes.
WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 388, 12, 178
#: Most ticks of an axis.
TICKS = 5
#: The outlines of marks, as relative SVG paths.
MARKS = {"dot": "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z", "square": "m-3.5-3.5h7v7h-7z"}


@dataclass(frozen=True)
class Line:
    """Values by place on the x axis; None is a gap. ``mark``: ``dot``, ``square`` or ``bar``."""

    name: str
    mark: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Plot:
    """A plot and its table. ``limits`` are thresholds by name; ``names`` of places on the x axis.

    ``place``: how the x axis is called. ``top``: the least upper end of the y axis.
    """

    title: str
    description: str
    place: str
    lines: Sequence[Line]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    limits: Sequence[tuple[str, float]] = ()
    names: Sequence[tuple[float, str]] = ()
    top: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """A plot's geometry, texts for SVG attributes.

    ``paths``: by class of the style sheet, ``line`` and ``mark`` with the number of the line.
    """

    across: Sequence[tuple[str, str]]
    upward: Sequence[tuple[str, str]]
    limits: Sequence[tuple[str, str]]
    paths: Sequence[tuple[str, str]]


def drawn(plot: Plot) -> Drawn:
    """Where everything in a plot is. Values that are no finite numbers are gaps."""
    places = [x for line in plot.lines for x, _ in line.points] or [0.0]
    values = [y for line in plot.lines for _, y in line.points if y is not None]
    values = [y for y in values if math.isfinite(y)] + [y for _, y in plot.limits]
    bars = any(line.mark == "bar" for line in plot.lines)
    west, east = min(places) - bars / 2, max(places) + bars / 2
    step = _step(max([*values, plot.top, 0.0]) - min([*values, 0.0]), whole=bars)
    south = math.floor(min([*values, 0.0]) / step) * step
    north = max(math.ceil(max([*values, plot.top, 0.0]) / step), 1) * step

    def x(value: float) -> float:
        share = (value - west) / (east - west) if east > west else 0.5
        return LEFT + share * (RIGHT - LEFT)

    def y(value: float) -> float:
        return BOTTOM - (value - south) / (north - south) * (BOTTOM - TOP)

    ticks = [south + n * step for n in range(round((north - south) / step) + 1)]
    names = plot.names or [(value, f"{value:g}") for value in _few(sorted(set(places)))]
    return Drawn(
        across=[(at(x(value)), name) for value, name in names],
        upward=[(at(y(value)), f"{value:,.{digits(step)}f}") for value in ticks],
        limits=[(at(y(value)), name) for name, value in plot.limits],
        paths=list(_paths(plot.lines, x, y)),
    )


def _paths(lines: Sequence[Line], x: Scale, y: Scale) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines):
        runs = [[(x(place), y(value)) for place, value in run] for run in _runs(line.points)]
        points = [point for run in runs for point in run]
        if line.mark == "bar":
            width, zero = max((x(1) - x(0)) * 0.8, 1), at(y(0))
            bars = (f"M{at(a - width / 2)} {zero}V{at(b)}h{at(width)}V{zero}z" for a, b in points)
            yield f"m{number} column", "".join(bars)
            continue
        joined = ("M" + "L".join(f"{at(a)} {at(b)}" for a, b in run) for run in runs)
        yield f"m{number} line", "".join(joined)
        yield f"m{number} mark", "".join(f"M{at(a)} {at(b)}{MARKS[line.mark]}" for a, b in points)


def _runs(
    points: Sequence[tuple[float, float | None]],
) -> Iterator[list[tuple[float, float]]]:
    """The points without gaps between them, in order."""
    run: list[tuple[float, float]] = []
    for place, value in points:
        if value is not None and math.isfinite(value):
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _step(span: float, *, whole: bool) -> float:
    """The distance of ticks: 1, 2 or 5 times a power of ten."""
    if not span > 0:
        return 1.0
    found = distance(span, TICKS)
    return max(found, 1.0) if whole else found


def _few(values: Sequence[float]) -> Sequence[float]:
    """At most twice as many values as ticks of the other axis, evenly chosen."""
    every = max(math.ceil(len(values) / (2 * TICKS)), 1)
    return values[::every]
