"""The old scripts' statements, in their order, unchanged: what the steps are compared with.

Written from docs/labeller.md 2.2 to 2.6: clear_db.sh, update_db.R, create_f_pool.R,
initial_f_sites.py, register_f_sites.py. Every statement commits by itself, rows go in one committed
INSERT at a time, names are pasted into the SQL. Their S3 inputs are given as content; what they
write to S3 comes back as rows.

No guard of ours belongs here. Two things are made so that the scripts can end at all: mode 3 gets
the argument that the wiki page forgets, and ``draw`` may replace the random draw by given names.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg2

INITIAL, SINGLE, REGULAR = 1, 2, 3

#: Names and their usage, in the order in which they are inserted.
Draw = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Inputs:
    """The input of the scripts from S3 and from config.yaml."""

    mode: int
    aoi_geojson: str
    aoi_row: int
    """Argument of create_f_pool.R, 1-based."""
    aoi: str
    """``learner.aoiid``."""
    static_csv: str
    catalog_csv: str
    initial_f_count: int = 100


@dataclass
class Objects:
    """The rows that create_f_pool.R writes to S3."""

    pool: set[str] = field(default_factory=set)
    qs: set[str] = field(default_factory=set)
    image_catalog: set[tuple[Any, ...]] = field(default_factory=set)


def run(session: Any, inputs: Inputs, draw: Draw | None = None) -> Objects:
    """Everything the wiki page tells the operator to run against the database, for one mode."""
    session.autocommit = True
    clear_db(session)
    update_db(session, inputs)
    return create_f_pool(session, inputs, draw) if inputs.mode == REGULAR else Objects()


def clear_db(session: Any) -> None:
    """clear_db.sh (docs/labeller.md 2.2)."""
    with session.cursor() as cursor:
        for table in (
            "user_maps", "accuracy_data", "assignment_history", "assignment_data",
            "assignment_review", "qual_user_maps", "qual_accuracy_data", "qual_assignment_data",
            "hit_data", "scenes_data", "machine_maps",
        ):  # fmt: skip
            _unnoticed(cursor, f"DELETE FROM {table}")
        _unnoticed(cursor, "DELETE FROM kml_data")
        cursor.execute("ALTER SEQUENCE kml_data_gid_seq RESTART")
        cursor.execute("ALTER SEQUENCE machine_maps_gid_seq RESTART")
        cursor.execute(
            "INSERT INTO kml_data (kml_type, name, hint) "
            "SELECT kml_type, name, hint FROM kml_data_static ORDER BY gid"
        )
        cursor.execute("DELETE FROM incoming_names WHERE processed = FALSE")
        for key, value in (("CurQaqcGid", 0), ("IterationCounter", 0), ("firstAvailLine", 1)):
            cursor.execute(f"UPDATE system_data SET value = '{value}' WHERE key = '{key}'")
        cursor.execute("UPDATE master_grid SET avail = 'T' WHERE avail IN ('I', 'Q', 'F', 'E')")


def update_db(session: Any, inputs: Inputs) -> None:
    """update_db.R (docs/labeller.md 2.3), with its argument in mode 3."""
    with session.cursor() as cursor:
        cursor.execute("UPDATE master_grid SET avail = 'T' WHERE avail IN ('I', 'Q')")
        for kind in ("I", "Q"):
            cursor.execute(
                f"UPDATE master_grid SET avail = '{kind}' WHERE name IN "
                f"(SELECT name FROM kml_data_static WHERE kml_type = '{kind}')"
            )
        # With a foreign key from processed names this fails and, like every error, goes unnoticed.
        _unnoticed(cursor, "DELETE FROM iteration_metrics")
        if inputs.mode == REGULAR:
            for key, value in (
                ("InitialFnum", inputs.initial_f_count),
                ("ProportionHoldout", 100),
                ("ProportionHoldout1", 0),
            ):
                cursor.execute(f"UPDATE configuration SET value = '{value}' WHERE key = '{key}'")
            return
        static = static_names(inputs.static_csv)
        cursor.execute(f"UPDATE master_grid SET avail = 'F' WHERE name IN ({_pasted(static)})")
        cursor.execute(
            "INSERT INTO iteration_metrics (run, iteration, aoi, iteration_time) "
            f"VALUES (0, 0, '{inputs.aoi}', now())"
        )
        for name in static:
            cursor.execute(
                "INSERT INTO incoming_names (name, run, iteration, usage) "
                f"VALUES ('{name}', 0, 0, 'train')"
            )
        register_f_sites(session)
        _insert_scenes(cursor, inputs.catalog_csv, _cells(cursor, [*_static_kml(cursor), *static]))


def create_f_pool(session: Any, inputs: Inputs, draw: Draw | None = None) -> Objects:
    """create_f_pool.R (docs/labeller.md 2.4), initial_f_sites.py as its ninth step."""
    with session.cursor() as cursor:
        aoi_cells = cells_of_area(cursor, inputs.aoi_geojson, inputs.aoi_row)
        ids = ", ".join(map(str, aoi_cells)) or "NULL"
        cursor.execute(f"SELECT name, x, y FROM master_grid WHERE id IN ({ids})")
        inside = {name.strip(): _column_row(x, y) for name, x, y in cursor.fetchall()}
        kml_static = set(_static_kml(cursor))
        static = static_names(inputs.static_csv)
        pool = {name: at for name, at in inside.items() if name not in {*kml_static, *static}}
        if pool:
            cursor.execute(f"UPDATE master_grid SET avail = 'F' WHERE name IN ({_pasted(pool)})")
        # Only the codes leave the static names of the area out, the file has them (steps 3 and 4).
        if static:
            cursor.execute(f"SELECT name, x, y FROM master_grid WHERE name IN ({_pasted(static)})")
            pool.update((name.strip(), _column_row(x, y)) for name, x, y in cursor.fetchall())
        wanted = {*aoi_cells, *_cells(cursor, [*kml_static, *static])}
        _insert_scenes(cursor, inputs.catalog_csv, wanted)
        cursor.execute(
            "SELECT global_col, global_row FROM scenes_data WHERE season IN ('GS', 'OS') "
            "GROUP BY global_col, global_row HAVING count(DISTINCT season) = 2"
        )
        paired = set(cursor.fetchall())
        cursor.execute("SELECT cell_id, scene_id, global_col, global_row, season FROM scenes_data")
        objects = Objects(
            pool={name for name, at in pool.items() if at in paired},
            qs={name for name in kml_static if name in inside},
            image_catalog=set(cursor.fetchall()),
        )
        initial_f_sites(session, inputs.aoi, draw)
        if static:
            cursor.execute(f"UPDATE master_grid SET avail = 'F' WHERE name IN ({_pasted(static)})")
    return objects


def initial_f_sites(session: Any, aoi: str, draw: Draw | None = None) -> None:
    """initial_f_sites.py (docs/labeller.md 2.5); ``draw`` in place of its random one."""
    with session.cursor() as cursor:
        cursor.execute("SELECT max(run) + 1 FROM incoming_names")
        run = cursor.fetchone()[0] or 0
        drawn = random_draw(cursor) if draw is None else draw
        cursor.execute(
            "INSERT INTO iteration_metrics (run, iteration, aoi, iteration_time) "
            f"VALUES ({run}, 0, '{aoi}', now())"
        )
        for name, usage in drawn:
            cursor.execute(
                "INSERT INTO incoming_names (name, run, iteration, usage) "
                f"VALUES ('{name}', {run}, 0, '{usage}')"
            )
    register_f_sites(session)


def random_draw(cursor: Any) -> Draw:
    """The old draw and split (docs/labeller.md 2.5): another one on every physical row order."""
    cursor.execute(
        "SELECT cell_id FROM scenes_data WHERE season IN ('GS', 'OS') "
        "GROUP BY cell_id HAVING count(DISTINCT season) = 2"
    )
    ids = ", ".join(str(cell) for (cell,) in cursor.fetchall())
    count = int(_setting(cursor, "InitialFnum"))
    holdout = float(_setting(cursor, "ProportionHoldout"))
    holdout1 = float(_setting(cursor, "ProportionHoldout1"))
    cursor.execute("SELECT setseed(0.5)")
    cursor.execute(
        f"SELECT name FROM master_grid WHERE avail = 'F' AND id IN ({ids}) "
        f"ORDER BY random() LIMIT {count}"
    )
    names = [name.strip() for (name,) in cursor.fetchall()]
    held = random.Random(10).sample(names, min(len(names), int(count * holdout)))
    held1 = set(random.Random(11).sample(held, int(count * holdout * holdout1)))
    usage = {name: "holdout" if name in held1 else "validate" for name in held}
    return [(name, usage.get(name, "train")) for name in names]


def register_f_sites(session: Any) -> None:
    """register_f_sites.py (docs/labeller.md 2.6): every unprocessed name of any run, a commit a row."""
    with session.cursor() as cursor:
        cursor.execute("SELECT name FROM incoming_names WHERE processed = FALSE")
        for (name,) in cursor.fetchall():
            _unnoticed(
                cursor,
                f"INSERT INTO kml_data (kml_type, name, mapped_count) VALUES ('F', '{name}', 0)",
            )


def static_names(static_csv: str) -> list[str]:
    """Column ``name`` of the static training names."""
    return [row["name"] for row in csv.DictReader(io.StringIO(static_csv))]


def cells_of_area(cursor: Any, aoi_geojson: str, row: int) -> list[int]:
    """Ids of the grid's cells whose centre lies in the area, as crop and mask of the raster give."""
    geometry = json.loads(aoi_geojson)["features"][row - 1]["geometry"]
    polygons = geometry["coordinates"]
    rings = [r for p in ([polygons] if geometry["type"] == "Polygon" else polygons) for r in p]
    xs = [x for ring in rings for x, _ in ring]
    ys = [y for ring in rings for _, y in ring]
    cursor.execute(
        f"SELECT id, x, y FROM master_grid WHERE x BETWEEN {min(xs)} AND {max(xs)} "
        f"AND y BETWEEN {min(ys)} AND {max(ys)}"
    )
    return [cell for cell, x, y in cursor.fetchall() if _inside(x, y, rings)]


def _inside(x: float, y: float, rings: Iterable[Sequence[Sequence[float]]]) -> bool:
    """Even-odd rule over all rings, by a ray to the east."""
    odd = False
    for ring in rings:
        for (x1, y1), (x2, y2) in itertools.pairwise(ring):
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                odd = not odd
    return odd


def _insert_scenes(cursor: Any, catalog_csv: str, cells: Iterable[int]) -> None:
    """The catalogue's rows of ``cells``, a committed INSERT each."""
    wanted = set(cells)
    for row in csv.DictReader(io.StringIO(catalog_csv)):
        if int(row["cell_id"]) in wanted:
            _insert_scene(cursor, row)


def _insert_scene(cursor: Any, row: Mapping[str, str]) -> None:
    cursor.execute(
        "INSERT INTO scenes_data (provider, scene_id, cell_id, season, global_col, global_row, "
        "url, tms_url, date_time) VALUES ('planet', '{scene_id}', {cell_id}, '{season}', "
        "{global_col}, {global_row}, '{url}', '{tms_url}', '{date_time}')".format(**row)
    )


def _static_kml(cursor: Any) -> list[str]:
    cursor.execute("SELECT name FROM kml_data_static")
    return [name for (name,) in cursor.fetchall()]


def _cells(cursor: Any, names: Sequence[str]) -> list[int]:
    cursor.execute(f"SELECT id FROM master_grid WHERE name IN ({_pasted(names)})")
    return [cell for (cell,) in cursor.fetchall()]


def _setting(cursor: Any, key: str) -> str:
    cursor.execute(f"SELECT value FROM configuration WHERE key = '{key}'")
    value: str = cursor.fetchone()[0]
    return value


def _column_row(x: float, y: float) -> tuple[int, int]:
    """rowcol_from_xy (docs/labeller.md 7.1), 0-based."""
    return int((x + 17.541) / 0.005), int((37.540 - y) / 0.005)


def _pasted(names: Iterable[str]) -> str:
    """Names as the scripts put them into their SQL; none gives ``''``, as there."""
    return ", ".join(f"'{name}'" for name in names) or "''"


def _unnoticed(cursor: Any, statement: str) -> None:
    """A statement whose error psql or the script prints and ignores (docs/labeller.md 2)."""
    try:
        cursor.execute(statement)
    except psycopg2.Error as error:
        print(error)
