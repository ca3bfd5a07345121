"""The content of a new sandbox: the labeller database and the bucket, all from one seed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook.errors import InvalidInputError
from runbook.sandbox import grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg2.extensions import connection, cursor

HERE = Path(__file__).parent

#: The grid of a sandbox without given AOIs, in tiles; wider than the areas in it.
REGION = grid.rectangle(326, 550, 22, 25)
AREAS = [
    grid.rectangle(328, 553, 8, 10),
    grid.rectangle(340, 552, 6, 10),
    grid.rectangle(327, 566, 7, 8),
    grid.rectangle(337, 565, 9, 6),
]
#: Of an area that the old run can have worked in.
MINIMUM_CELLS = 500


class Geography:
    """The areas and the cells of a sandbox; from ``geojson`` (of file ``name``), or its own."""

    def __init__(self, geojson: bytes | None = None, name: str = "") -> None:
        areas = AREAS if geojson is None else grid.parse(geojson, name)
        self.geojson = grid.geojson(areas) if geojson is None else geojson
        self.area_runs = [list(area.runs()) for area in areas]
        region = [] if geojson else REGION.runs()
        self.runs = grid.union([*region, *(run for runs in self.area_runs for run in runs)])
        self.cells = grid.count(self.runs)
        if self.cells > grid.MAXIMUM_CELLS:
            raise InvalidInputError(
                f"{name}: {self.cells} cells are too many for a sandbox "
                f"(at most {grid.MAXIMUM_CELLS})"
            )
        large = [n for n, runs in enumerate(self.area_runs, 1) if grid.count(runs) >= MINIMUM_CELLS]
        if not large:
            raise InvalidInputError(
                f"{name}: no area holds {MINIMUM_CELLS} cells of {grid.CELL} degrees or more"
            )
        #: The area of the old run: the second, where there is one.
        self.old_aoi = large[1] if len(large) > 1 else large[0]


def fill_database(
    session: connection, geography: Geography, seed: int, bucket: str, catalogue: Path
) -> str:
    """Make and fill the labeller database as its owner; commits.

    The full scene catalogue goes to the CSV file ``catalogue``; gives the CSV of static names.
    """
    with session, session.cursor() as open_cursor:
        open_cursor.execute((HERE / "labeller.sql").read_text())
        open_cursor.execute(
            "SELECT set_config('runbook.seed', %s, false), set_config('runbook.bucket', %s, false),"
            " set_config('runbook.old_aoi', %s, false), set_config('TimeZone', 'UTC', false)",
            (str(seed), bucket, str(geography.old_aoi)),
        )
        _load_runs(open_cursor, geography)
        open_cursor.execute((HERE / "seed.sql").read_text())
        with catalogue.open("wb") as file:
            _copy_out(open_cursor, "SELECT * FROM catalogue ORDER BY cell_id, season", file)
        names = io.BytesIO()
        _copy_out(
            open_cursor,
            "SELECT name, 0 AS run, 0 AS iteration, true AS processed, 'train' AS usage,"
            " true AS label FROM training ORDER BY name",
            names,
        )
        open_cursor.execute("ANALYZE")
    return names.getvalue().decode()


def _load_runs(open_cursor: cursor, geography: Geography) -> None:
    open_cursor.execute(
        'CREATE TEMPORARY TABLE runs ("row" integer, first integer, last integer);'
        'CREATE TEMPORARY TABLE aoi_runs (aoi integer, "row" integer, first integer, last integer)'
    )
    _copy_in(open_cursor, "runs", geography.runs)
    numbered = [(n, *run) for n, runs in enumerate(geography.area_runs, 1) for run in runs]
    _copy_in(open_cursor, "aoi_runs", numbered)


def _copy_in(open_cursor: cursor, table: str, rows: Sequence[tuple[int, ...]]) -> None:
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    open_cursor.copy_expert(f"COPY {table} FROM STDIN", io.StringIO(text))


def _copy_out(open_cursor: cursor, query: str, file: Any) -> None:
    open_cursor.copy_expert(f"COPY ({query}) TO STDOUT WITH (FORMAT csv, HEADER)", file)
