"""Places and ticks of what a report draws."""

from __future__ import annotations

import math
from collections.abc import Callable

#: From a value to its place in the SVG.
Scale = Callable[[float], float]


def distance(span: float, ticks: int) -> float:
    """The distance of at most so many ticks: 1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(span / ticks))
    return next(power * n for n in (1, 2, 5, 10) if span / (power * n) <= ticks)


def digits(step: float) -> int:
    """How many decimals a tick's number needs."""
    return max(-math.floor(math.log10(step)), 0)


def at(value: float) -> str:
    """A place for an attribute of SVG."""
    return f"{value:.1f}".removesuffix(".0")
