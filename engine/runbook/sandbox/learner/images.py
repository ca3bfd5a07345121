"""GeoTIFFs as labeller and learner write them (docs/labeller.md 5.4.3, 7.2)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from runbook.sandbox.grid import CELL, NORTH, WEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: GeoKeyDirectory of longitude and latitude in WGS 84, pixels as areas.
_GEO_KEYS = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)


def write(pixels: NDArray[Any], column: int, row: int, cells: int = 1) -> bytes:
    """A one-band GeoTIFF of ``cells`` x ``cells`` cells from (``column``, ``row``)."""
    step = CELL * cells / pixels.shape[0]
    corner = (0.0, 0.0, 0.0, WEST + column * CELL, NORTH - row * CELL, 0.0)
    tags = [
        (33550, "d", 3, (step, step, 0.0), True),
        (33922, "d", 6, corner, True),
        (34735, "H", len(_GEO_KEYS), _GEO_KEYS, True),
    ]
    file = io.BytesIO()
    tifffile.imwrite(
        file, pixels, photometric="minisblack", extratags=tags, metadata=None, software=False
    )
    return file.getvalue()


def read(content: bytes) -> NDArray[np.uint8]:
    """The pixels of a one-band image of small numbers."""
    return np.asarray(tifffile.imread(io.BytesIO(content)), dtype=np.uint8)
