"""The synthetic country that the sandbox's mappers map and its learner learns.

Every 0.005 degree cell has fields (the truth that mappers draw, more or less well) and an image of
two seasons with four bands each. How fields look differs from place to place, smoothly: a model
trained on cells of one place is wrong in another, so the learner gains from the sites that it asks
for. All follows from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: Pixels along the side of a cell (docs/labeller.md 7.2).
SIZE = 200

#: Four bands in each of two seasons.
BANDS = 8

WAVES = 9
#: Cells over which the look of fields changes to its opposite and back.
WAVELENGTH = 25.0

#: How much fields differ from the ground; in which bands, and to which side, varies.
CONTRAST = 3.0

NOISE = 1.0

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rectangle:
    """A field, in pixels from the cell's upper left corner; right and bottom are outside it."""

    left: int
    top: int
    right: int
    bottom: int

    def moved(self, shift: tuple[int, int]) -> Rectangle:
        """The same, moved and cut at the cell's edges; may be empty."""
        dx, dy = shift
        edges = (self.left + dx, self.top + dy, self.right + dx, self.bottom + dy)
        return Rectangle(*(min(max(edge, 0), SIZE) for edge in edges))


def mask(fields: list[Rectangle]) -> Mask:
    """The pixels that are in a field."""
    pixels = np.zeros((SIZE, SIZE), dtype=np.bool_)
    for field in fields:
        pixels[field.top : field.bottom, field.left : field.right] = True
    return pixels


@dataclass(frozen=True)
class Landscape:
    """The country of one seed."""

    seed: int

    @cached_property
    def _waves(self) -> tuple[Array, Array]:
        """Directions (per cell) and phases of the waves that the look is made of."""
        random = np.random.default_rng([self.seed, 1])
        angles = random.uniform(0, 2 * np.pi, WAVES)
        lengths = WAVELENGTH * random.uniform(0.7, 1.6, WAVES)
        directions = np.stack([np.cos(angles), np.sin(angles)]) * (2 * np.pi / lengths)
        return directions, random.uniform(0, 2 * np.pi, WAVES)

    @cached_property
    def _mixing(self) -> tuple[Array, Array]:
        """How the waves make the ground's colours and the fields' difference from them."""
        random = np.random.default_rng([self.seed, 2])
        return random.normal(0, 0.5, (WAVES, BANDS)), random.normal(0, 0.6, (WAVES, BANDS))

    def look(self, column: int, row: int) -> tuple[Array, Array]:
        """Mean of each band outside fields, and how much fields differ, at a cell."""
        directions, phases = self._waves
        waves = np.sin(np.array([column, row]) @ directions + phases)
        ground, contrast = self._mixing
        difference = waves @ contrast
        return waves @ ground, CONTRAST * difference / np.linalg.norm(difference)

    def fields(self, column: int, row: int) -> list[Rectangle]:
        """The true fields of a cell."""
        random = np.random.default_rng([self.seed, 3, column, row])
        found = []
        for _ in range(int(random.integers(3, 9))):
            width, height = random.integers(25, 90, 2)
            left, top = random.integers(0, SIZE - width), random.integers(0, SIZE - height)
            found.append(Rectangle(int(left), int(top), int(left + width), int(top + height)))
        return found

    def features(self, column: int, row: int, pixels: NDArray[np.int64]) -> Array:
        """The learner's 24 features of some ``pixels`` (indices into the flattened image).

        Value, mean of 11x11 and standard deviation of 5x5 pixels, of each band
        (docs/labeller.md 5.2.4).
        """
        random = np.random.default_rng([self.seed, 4, column, row])
        truth = mask(self.fields(column, row))
        ground, contrast = self.look(column, row)
        inside = truth.reshape(-1)[pixels][:, None]
        wide, narrow = (share[:, None] for share in _shares(truth, pixels, (11, 5)))
        size = (len(pixels), BANDS)
        values = ground + contrast * inside + random.normal(0, NOISE, size)
        means = ground + contrast * wide + random.normal(0, NOISE / 3, size)
        spread = np.abs(contrast) * np.sqrt(narrow * (1 - narrow)) + np.abs(
            random.normal(NOISE, NOISE / 5, size)
        )
        return np.hstack([values, means, spread])


def _shares(truth: Mask, pixels: NDArray[np.int64], sides: tuple[int, ...]) -> list[Array]:
    """For each side, the share of field pixels in the squares of that side around ``pixels``."""
    reach = max(sides) // 2
    padded = np.pad(truth, ((reach + 1, reach), (reach + 1, reach)), mode="edge").astype(np.int32)
    padded[0, :] = padded[:, 0] = 0
    total = padded.cumsum(0).cumsum(1)
    y, x = pixels // SIZE + reach, pixels % SIZE + reach
    shares = []
    for side in sides:
        low, high = -(side // 2), side // 2 + 1
        inside = (
            total[y + high, x + high] - total[y + low, x + high]
            - total[y + high, x + low] + total[y + low, x + low]
        )  # fmt: skip
        shares.append(inside / side**2)
    return shares
