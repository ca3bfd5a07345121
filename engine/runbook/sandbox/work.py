"""Simulated mappers: they finish open sites and leave what real ones leave (docs/labeller.md 4.5).

For each site a HIT, assignments of trusted workers, their maps, and the consensus of these: the
label image on S3 and the flags of labelled and processed names.
"""

from __future__ import annotations

import csv
import io
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from runbook.errors import RunbookError
from runbook.sandbox import cloud
from runbook.sandbox.grid import CELL, NORTH, WEST
from runbook.sandbox.landscape import SIZE, Landscape, Rectangle, mask
from runbook.sandbox.learner import images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

    from runbook.sandbox.state import State

#: Of the mappers, when none is given.
QUALITY = 0.9


@dataclass(frozen=True)
class Site:
    """A cell to be mapped."""

    name: str
    column: int
    row: int
    #: Trusted completions so far.
    mapped: int
    needed: int


@dataclass(frozen=True)
class Done:
    """The outcome of a piece of work."""

    sites: int
    maps: int
    left: int


class Mappers:
    """People who draw fields, each map by another one, all with the same ``quality`` (0 to 1)."""

    def __init__(self, landscape: Landscape, quality: float) -> None:
        self.landscape = landscape
        self.quality = quality

    def draw(self, site: Site, mapper: int) -> list[Rectangle]:
        """One mapper's fields of a site: moved, some forgotten, some that are none."""
        random = np.random.default_rng([self.landscape.seed, 5, site.column, site.row, mapper])
        wrong = 1 - self.quality
        fields = [
            field.moved((int(dx), int(dy)))
            for field in self.landscape.fields(site.column, site.row)
            for dx, dy in [random.normal(0, 40 * wrong, 2)]
            if random.uniform() >= 0.6 * wrong
        ]
        for _ in range(random.poisson(2 * wrong)):
            left, top = random.integers(0, SIZE - 40, 2)
            fields.append(Rectangle(int(left), int(top), int(left) + 40, int(top) + 40))
        return [field for field in fields if field.left < field.right and field.top < field.bottom]

    def consensus(self, site: Site, count: int) -> tuple[NDArray[np.uint8], float]:
        """The label of ``count`` maps, and the share of pixels that they do not agree on."""
        heat = np.mean([mask(self.draw(site, mapper)) for mapper in range(count)], axis=0)
        return (heat > 0.5).astype(np.uint8), float(np.mean((heat > 0.3) & (heat < 0.7)))


def work(state: State, names: int | None = None, quality: float = QUALITY) -> Done:
    """Map open sites to their end, the first ``names`` of them, in serving order.

    Label images are on S3 before the database says so, in one transaction.
    """
    import psycopg2

    configuration = _configuration(state)
    mappers = Mappers(Landscape(state.seed), quality)
    labels = _Labels(state, configuration)
    labels.complete_training(mappers)
    connected = closing(psycopg2.connect(state.database_url))
    with connected as session, session, session.cursor() as rows:
        sites = _open_sites(rows, names)
        conflicts = [labels.write(mappers, site) for site in sites]
        maps = _record(rows, mappers, sites, conflicts)
        left = len(_open_sites(rows, None))
    return Done(len(sites), maps, left)


def _configuration(state: State) -> dict[str, Any]:
    """config.yaml of the labeller, which the consensus daemon reads."""
    path = Path(state.labeller_home) / "common" / "config.yaml"
    configuration: dict[str, Any] = yaml.safe_load(path.read_text())
    return configuration


class _Labels:
    """The label images of the run's AOI name."""

    def __init__(self, state: State, configuration: dict[str, Any]) -> None:
        self.s3 = cloud.client("s3", state.endpoint_url)
        self.bucket = configuration["learner"]["bucket"]
        self.prefix = configuration["labeller"]["consensus_directory"].strip("/")
        learner = configuration["learner"]
        self.static = f"{learner['prefix']}/{learner['incoming_names_static']}"
        self.database_url = state.database_url

    def write(self, mappers: Mappers, site: Site) -> float:
        """Store the consensus of a site; gives how much the mappers disagree."""
        label, conflict = mappers.consensus(site, max(site.needed, 1))
        key = f"{self.prefix}/{site.name}_{site.column}_{site.row}.tif"
        self.s3.put_object(
            Bucket=self.bucket, Key=key, Body=images.write(label, site.column, site.row)
        )
        return round(conflict, 2)

    def complete_training(self, mappers: Mappers) -> None:
        """Label images of the static training names, as the run that made these left them."""
        import psycopg2

        body = self.s3.get_object(Bucket=self.bucket, Key=self.static)["Body"].read().decode()
        names = {row["name"] for row in csv.DictReader(io.StringIO(body))}
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}/"
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        known = {key.rsplit("/", 1)[1].rsplit("_", 2)[0] for key in keys}
        with closing(psycopg2.connect(self.database_url)) as session, session.cursor() as rows:
            rows.execute(
                "SELECT name, x, y, 5, 5 FROM master_grid WHERE name = ANY(%s::bpchar[])",
                (sorted(names - known),),
            )
            for site in _sites(rows):
                self.write(mappers, site)


def _open_sites(rows: cursor, limit: int | None) -> list[Site]:
    """Sites of unprocessed names that are registered, in serving order."""
    rows.execute(
        "SELECT k.name, g.x, g.y, k.mapped_count, coalesce(k.mappers_needed, c.value::integer)"
        " FROM kml_data k JOIN master_grid g ON g.name = k.name::bpchar"
        " CROSS JOIN configuration c"
        " WHERE c.key = 'Hit_MaxAssignmentsF' AND k.kml_type = 'F'"
        " AND k.name IN (SELECT name FROM incoming_names WHERE NOT processed)"
        " ORDER BY k.gid LIMIT %s",
        (limit,),
    )
    return _sites(rows)


def _sites(rows: cursor) -> list[Site]:
    return [
        Site(name, int((x - WEST) / CELL), int((NORTH - y) / CELL), mapped, needed)
        for name, x, y, mapped, needed in rows.fetchall()
    ]


def _record(
    rows: cursor, mappers: Mappers, sites: Sequence[Site], conflicts: Sequence[float]
) -> int:
    """Write HITs, assignments, maps and flags of finished sites; gives the number of maps."""
    from psycopg2.extras import execute_values

    if not sites:
        return 0
    rows.execute("SELECT worker_id FROM worker_data WHERE qualified ORDER BY worker_id")
    workers = [worker for (worker,) in rows.fetchall()]
    if len(workers) < max(site.needed for site in sites):
        raise RunbookError("there are fewer qualified workers than a site needs mappers")
    now = datetime.now(UTC)
    hits = _hits(rows, sites, now)
    random = np.random.default_rng([mappers.landscape.seed, 6, len(sites), min(hits.values())])
    assignments = []
    for site in sites:
        chosen = random.permutation(len(workers))[: max(site.needed - site.mapped, 0)]
        assignments += [(hits[site.name], workers[each], now, now, "Approved") for each in chosen]
    made = execute_values(
        rows,
        "INSERT INTO assignment_data (hit_id, worker_id, start_time, completion_time, status)"
        " VALUES %s RETURNING assignment_id, hit_id, worker_id",
        assignments, fetch=True, page_size=1000,
    )  # fmt: skip
    maps = _maps(mappers, sites, hits, made, now)
    execute_values(
        rows,
        "INSERT INTO user_maps (name, geom, geom_clean, completion_time, category, assignment_id)"
        " VALUES %s",
        maps, page_size=1000,
    )  # fmt: skip
    execute_values(
        rows,
        "INSERT INTO assignment_history (event_time, event_type, worker_id, assignment_id, amount)"
        " VALUES %s",
        [(now, "Approved Assignment", worker, number, 5) for number, _, worker in made],
        page_size=1000,
    )  # fmt: skip
    _finish(rows, sites, conflicts, now)
    return len(maps)


def _finish(rows: cursor, sites: Sequence[Site], conflicts: Sequence[float], now: datetime) -> None:
    """Set the flags of finished sites and end their HITs."""
    from psycopg2.extras import execute_values

    execute_values(
        rows,
        "UPDATE kml_data k SET mapped_count = greatest(k.mapped_count, d.needed),"
        " mappers_needed = d.needed, consensus_conflict = d.conflict"
        " FROM (VALUES %s) AS d (name, needed, conflict) WHERE k.name = d.name",
        [
            (site.name, site.needed, conflict)
            for site, conflict in zip(sites, conflicts, strict=True)
        ],
        page_size=1000,
    )  # fmt: skip
    names = [site.name for site in sites]
    rows.execute(
        "UPDATE hit_data SET delete_time = %s WHERE delete_time IS NULL AND name = ANY(%s)",
        (now, names),
    )
    rows.execute(
        "UPDATE incoming_names SET label = true, processed = true"
        " WHERE NOT processed AND name = ANY(%s)",
        (names,),
    )


def _hits(rows: cursor, sites: Sequence[Site], now: datetime) -> dict[str, int]:
    """The live HIT of each site, made where there is none."""
    names = [site.name for site in sites]
    rows.execute(
        "INSERT INTO hit_data (name, create_time, max_assignments, duration, reward)"
        " SELECT name, %s, greatest(needed - mapped, 1), 86400, 5"
        " FROM unnest(%s, %s, %s) AS s (name, needed, mapped)"
        " WHERE NOT EXISTS (SELECT FROM hit_data h WHERE h.name = s.name AND delete_time IS NULL)",
        (now, names, [site.needed for site in sites], [site.mapped for site in sites]),
    )
    rows.execute(
        "SELECT name, max(hit_id) FROM hit_data WHERE delete_time IS NULL AND name = ANY(%s)"
        " GROUP BY name",
        (names,),
    )
    return dict(rows.fetchall())


def _maps(
    mappers: Mappers,
    sites: Sequence[Site],
    hits: dict[str, int],
    made: Sequence[tuple[int, int, int]],
    now: datetime,
) -> list[tuple[object, ...]]:
    """Rows of user_maps: what the mappers of each assignment drew."""
    by_hit = {hits[site.name]: site for site in sites}
    drawn = {site.name: site.mapped for site in sites}
    maps: list[tuple[object, ...]] = []
    for assignment, hit, _ in made:
        site = by_hit[hit]
        fields = mappers.draw(site, drawn[site.name])
        drawn[site.name] += 1
        for number, field in enumerate(fields, 1):
            shape = _polygon(site, field)
            maps.append((f"{site.name}_{number}", shape, shape, now, "field", assignment))
    return maps


def _polygon(site: Site, field: Rectangle) -> str:
    """A field in longitude and latitude, as PostGIS reads it."""
    pixel = CELL / SIZE
    west, north = WEST + site.column * CELL, NORTH - site.row * CELL
    x1, x2 = (round(west + edge * pixel, 6) for edge in (field.left, field.right))
    y1, y2 = (round(north - edge * pixel, 6) for edge in (field.top, field.bottom))
    return f"SRID=4326;POLYGON(({x1} {y1},{x2} {y1},{x2} {y2},{x1} {y2},{x1} {y1}))"
