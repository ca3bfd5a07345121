"""The areas of the Ghana study, a file that comes beside the project, not in it."""

from __future__ import annotations

from pathlib import Path

import pytest

AOIS = Path(__file__).resolve().parents[3] / "shared" / "data" / "ghana_aois.geojson"

needed = pytest.mark.skipif(not AOIS.exists(), reason=f"needs {AOIS.name} in ../shared/data")
