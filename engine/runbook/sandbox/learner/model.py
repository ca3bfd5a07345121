"""The learner's model: ridge regression on random Fourier features of standardised input.

numpy alone; it learns what a random forest would on these data, within a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Number of random features.
WIDTH = 600

#: Of their frequencies; smaller is smoother.
SCALE = 0.18

PENALTY = 30.0


@dataclass(frozen=True)
class Model:
    """A trained classifier of pixels."""

    mean: Array
    deviation: Array
    frequencies: Array
    phases: Array
    weights: Array

    def probability(self, features: Array) -> Array:
        """That a pixel is in a field, for each row of ``features``."""
        return np.clip(self._lift(features) @ self.weights, 0.0, 1.0)

    def _lift(self, features: Array) -> Array:
        standard = (features - self.mean) / self.deviation
        waves = np.cos(standard @ self.frequencies + self.phases)
        return np.hstack([waves, np.ones((len(features), 1))])


def train(features: Array, labels: NDArray[np.bool_], seed: int) -> Model:
    """A model of labelled pixels; both classes weigh the same, as in the real learner."""
    random = np.random.default_rng(seed)
    frequencies = random.normal(0, SCALE, (features.shape[1], WIDTH))
    phases = random.uniform(0, 2 * np.pi, WIDTH)
    deviation = features.std(axis=0)
    empty = Model(
        features.mean(axis=0), np.where(deviation > 0, deviation, 1.0), frequencies, phases,
        np.zeros(0),
    )  # fmt: skip
    lifted = empty._lift(features)  # noqa: SLF001
    share = labels.mean()
    weight = np.where(labels, 0.5 / share, 0.5 / (1 - share))[:, None]
    matrix = lifted.T @ (lifted * weight) + PENALTY * np.eye(lifted.shape[1])
    weights = np.linalg.solve(matrix, lifted.T @ (weight[:, 0] * labels))
    return Model(empty.mean, empty.deviation, frequencies, phases, weights)
