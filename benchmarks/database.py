"""The reset transaction at the size of a country, beside bare SQL, the old way and its own check.

    python -m benchmarks database
    LARGE=10000000,50000000 python -m benchmarks database     also grids of so many cells
    ONLY_LARGE=1 LARGE=10000000 python -m benchmarks database     and nothing else

The grid is that of the Ghana study's areas of interest, 811,600 cells with 1.6 million catalogue
rows; the area is its third, 50,100 cells. The server is as durable as a live one (``fsync``), all
contestants work on fresh copies of one database, in turn; figures are medians. The old way is
``tests/support/old_way.py``; its rows, a commit each, are taken for one catalogue row in
``OLD_FRACTION`` and the time is scaled.

What the old way costs is commits, and what a commit costs is the storage: a cache in memory answers
in a tenth of a millisecond, the network volume of a live instance in one to three. So all is
compared twice, on this machine's storage as it is, and with ``COMMIT_LATENCY_MS`` that PostgreSQL
itself waits before each flush of a commit (``commit_delay``, ``commit_siblings = 0``), for all
contestants alike. There the old way takes minutes, and the fraction is ``LATENCY_FRACTION``.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg2

from benchmarks.backup import Bench, timed
from runbook.sandbox import grid, postgres, seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parent.parent
GEOJSON = PROJECT.parent / "shared" / "data" / "ghana_aois.geojson"
TIMES = int(os.environ.get("TIMES", "3"))
LARGE = [int(cells) for cells in os.environ.get("LARGE", "").split(",") if cells]
ONLY_LARGE = bool(os.environ.get("ONLY_LARGE"))
OLD_FRACTION = int(os.environ.get("OLD_FRACTION", "1"))
LATENCY_FRACTION = int(os.environ.get("LATENCY_FRACTION", "10"))
COMMIT_LATENCY_MS = float(os.environ.get("COMMIT_LATENCY_MS", "2"))
BUCKET = "bench"
AOI, COUNT, SEED = 3, 100, 0
KEYS = {
    "aoi": "grid/aois.geojson",
    "catalog": "planet/full.csv",
    "image_catalog": "planet/catalog.csv",
    "static_names": "planet/static.csv",
    "pool": "planet/pool.csv",
    "qs": "planet/qs.csv",
}

#: The chain in a process of its own: seconds, and peak memory in MB.
CALL = """
import json, re, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.labeller.runbook.plugins.module_utils import transaction
from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry
given = json.loads(sys.argv[2])
steps = []
for name, arguments in given["steps"]:
    spec = registry.STEPS[name].ARGUMENTS
    steps.append({name: {**{key: spec[key].get("default") for key in spec}, **arguments}})
mapping, look = [0.0], registry.GeographyInfo.read_state
def timed(step, tx):
    begun = time.perf_counter()
    found = look(step, tx)
    mapping.append(time.perf_counter() - begun)
    return found
registry.GeographyInfo.read_state = timed
begun = time.perf_counter()
result = transaction.run(registry.chain(steps), given["params"], check=given["check"])
seconds = time.perf_counter() - begun
assert result["changed"]
# not ru_maxrss, which a process inherits from the one that started it
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)
print(json.dumps([seconds, int(peak) / 1024, mapping[-1]]))
"""

#: What the chain is for, as written by hand in psql, with all inputs available.
BARE = """
\\set ON_ERROR_STOP on
BEGIN;
DELETE FROM user_maps; DELETE FROM accuracy_data; DELETE FROM assignment_history;
DELETE FROM assignment_review; DELETE FROM assignment_data; DELETE FROM qual_user_maps;
DELETE FROM qual_accuracy_data; DELETE FROM qual_assignment_data; DELETE FROM hit_data;
DELETE FROM scenes_data; DELETE FROM machine_maps; DELETE FROM kml_data;
ALTER SEQUENCE kml_data_gid_seq RESTART WITH 1;
ALTER SEQUENCE machine_maps_gid_seq RESTART WITH 1;
INSERT INTO kml_data (kml_type, name, hint)
    SELECT kml_type, name, hint FROM kml_data_static ORDER BY gid;
DELETE FROM incoming_names WHERE NOT processed;
UPDATE system_data SET value = CASE key WHEN 'firstAvailLine' THEN '1' ELSE '0' END
    WHERE key IN ('CurQaqcGid', 'IterationCounter', 'firstAvailLine');
UPDATE master_grid SET avail = 'T' WHERE avail IN ('I', 'Q', 'F', 'E');
UPDATE master_grid g SET avail = s.kml_type FROM kml_data_static s WHERE g.name = s.name::bpchar;

CREATE TEMPORARY TABLE catalog (provider text, scene_id text, cell_id integer, season text,
    global_col integer, global_row integer, url text, tms_url text, date_time timestamptz);
\\copy catalog FROM '{folder}/full.csv' (FORMAT csv, HEADER)
CREATE TEMPORARY TABLE static (name text, run integer, iteration integer, processed boolean,
    usage text, label boolean);
\\copy static FROM '{folder}/static.csv' (FORMAT csv, HEADER)
CREATE TEMPORARY TABLE area AS
    SELECT gid, id, name::text, trunc((x + 17.541) / 0.005)::integer AS col,
           trunc((37.540 - y) / 0.005)::integer AS "row"
    FROM master_grid WHERE {inside};
INSERT INTO scenes_data (provider, scene_id, cell_id, season, global_col, global_row, url, tms_url,
                         date_time)
    SELECT provider, scene_id, cell_id, season, global_col, global_row, url, tms_url, date_time
    FROM catalog WHERE cell_id IN (
        SELECT id FROM area UNION
        SELECT id FROM master_grid g JOIN kml_data_static s ON g.name = s.name::bpchar UNION
        SELECT id FROM master_grid g JOIN static s ON g.name = s.name::bpchar);
CREATE TEMPORARY TABLE pool AS
    SELECT * FROM area WHERE id IN (
        SELECT cell_id FROM scenes_data WHERE season = 'GS' INTERSECT
        SELECT cell_id FROM scenes_data WHERE season = 'OS')
    AND name NOT IN (SELECT name FROM kml_data_static) AND name NOT IN (SELECT name FROM static);
UPDATE master_grid g SET avail = 'F' FROM pool WHERE g.gid = pool.gid;
UPDATE master_grid g SET avail = 'F' FROM static s WHERE g.name = s.name::bpchar;
CREATE TEMPORARY TABLE drawn AS
    SELECT name FROM pool ORDER BY md5('{seed}:' || name) LIMIT {count};
INSERT INTO iteration_metrics (run, iteration, aoi, iteration_time) VALUES (91, 0, '{aoi}', now());
INSERT INTO incoming_names (name, run, iteration, usage) SELECT name, 91, 0, 'validate' FROM drawn;
INSERT INTO kml_data (kml_type, name, mapped_count) SELECT 'F', name, 0 FROM drawn;
CREATE TEMPORARY VIEW pool_file AS
    SELECT name, col, "row", name || '_' || col || '_' || "row" FROM pool ORDER BY gid;
CREATE TEMPORARY VIEW qs_file AS
    SELECT a.name, col, "row" FROM area a JOIN kml_data_static USING (name);
CREATE TEMPORARY VIEW catalog_file AS
    SELECT cell_id, scene_id, global_col, global_row, season, url
    FROM scenes_data ORDER BY cell_id, season;
\\copy (TABLE pool_file) TO '{folder}/pool.out' (FORMAT csv, HEADER)
\\copy (TABLE qs_file) TO '{folder}/qs.out' (FORMAT csv, HEADER)
\\copy (TABLE catalog_file) TO '{folder}/catalog.out' (FORMAT csv, HEADER)
COMMIT;
"""


class Country(Bench):
    """The servers, the template database and the bucket's objects."""

    mapping = 0.0

    def fill(self) -> None:
        self.geography = seed.Geography(GEOJSON.read_bytes(), GEOJSON.name)
        self.sql("CREATE DATABASE template_bench")
        session = psycopg2.connect(self.server.url("template_bench"))
        static = seed.fill_database(session, self.geography, 1, BUCKET, self.folder / "full.csv")
        session.close()
        (self.folder / "static.csv").write_text(static)
        (self.folder / "aois.geojson").write_bytes(self.areas())
        files = {"aoi": "aois.geojson", "catalog": "full.csv", "static_names": "static.csv"}
        for name, file in files.items():
            self.s3().upload_file(str(self.folder / file), BUCKET, KEYS[name])
        self.params |= {"lock_timeout": 30, "connect_timeout": 10, "login_db": "bench",
                        "region": "us-east-1", "backup": None}  # fmt: skip

    def areas(self) -> bytes:
        """The file's areas, and two more: the first 4 and the first 16 of them, from AOI on."""
        document = json.loads(GEOJSON.read_bytes())
        features = document["features"]
        in_turn = [*features[AOI - 1 :], *features[: AOI - 1]]
        for count in (4, 16):
            polygons = []
            for feature in in_turn[:count]:
                geometry = feature["geometry"]
                one = geometry["type"] == "Polygon"
                polygons += [geometry["coordinates"]] if one else geometry["coordinates"]
            features.append(
                {"type": "Feature", "properties": {},
                 "geometry": {"type": "MultiPolygon", "coordinates": polygons}}
            )  # fmt: skip
        return json.dumps(document).encode()

    def fresh(self, template: str = "template_bench") -> None:
        """The database bench as it was, and the bucket without what a run wrote."""
        create = f"CREATE DATABASE bench TEMPLATE {template}"
        self.sql("DROP DATABASE IF EXISTS bench", create, "CHECKPOINT")
        for name in ("pool", "qs", "image_catalog"):
            self.s3().delete_object(Bucket=BUCKET, Key=KEYS[name])

    def rows(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of a query."""
        session = psycopg2.connect(self.server.url(database))
        with session.cursor() as cursor:
            cursor.execute(query)
            found = cursor.fetchall()
        session.close()
        return found

    def scans(self) -> float:
        """How often the rows of master_grid were read by sequential scans.

        Not seq_scan, which counts every process of a parallel scan.
        """
        time.sleep(1)  # statistics of a session that has ended
        query = (
            "SELECT seq_tup_read::float / (SELECT reltuples FROM pg_class WHERE oid = relid)"
            " FROM pg_stat_user_tables WHERE relname = 'master_grid'"
        )
        return float(self.rows(query, "bench")[0][0])

    def chain(self, *, check: bool, aoi: int = AOI, mapped: bool = False) -> tuple[float, float]:
        """Seconds and peak MB of regular.yml's transaction; ``mapped``: with the report's map.

        ``mapping`` has the seconds that the map took of them.
        """
        area = {"aoi": KEYS["aoi"], "aoi_index": aoi}
        static = {"static_names": KEYS["static_names"]}
        run = {"mode": "regular", "aoi_name": "ghana", "aoi_index": aoi, "run_id": 91}
        catalog = {name: KEYS[name] for name in ("catalog", "image_catalog")}
        pool = {name: KEYS[name] for name in ("pool", "qs")}
        draw = {"run_id": 91, "aoi_index": aoi, "count": COUNT, "seed": SEED}
        refuse = ["static_cells", "queue_names", "scenes", "open_names", "hits"]
        steps: list[tuple[str, dict[str, Any]]] = [
            ("run_marker", run),
            ("pg_clear", {"unprotected": True}),
            ("worker_qualifications", {}),
            ("grid_availability", {}),
            ("scene_catalog", {**catalog, **area, **static}),
            ("f_pool", {**pool, **area, **static}),
            ("f_sites", {**draw, **static}),
            ("configuration", {"settings": {"InitialFnum": COUNT}}),
            ("database_consistent", {"refuse": refuse}),
            ("geography_info", {"run_id": 91, **area, "wanted": mapped}),
        ]
        given = {"steps": steps, "params": self.params, "check": check}
        done = subprocess.run(
            [sys.executable, "-c", CALL, self.collections, json.dumps(given)],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        seconds, peak, self.mapping = json.loads(done.stdout)
        return seconds, peak

    def bare(self) -> float:
        script = self.folder / "bare.sql"
        area = self.geography_condition()
        script.write_text(
            BARE.format(folder=self.folder, inside=area, seed=SEED, count=COUNT, aoi=AOI)
        )
        return self.shell(f"psql -q -X -f {script} {self.server.url('bench')}")

    def geography_condition(self) -> str:
        """The area's condition; the area has no holes."""
        sys.path.insert(0, self.collections)
        from ansible_collections.labeller.runbook.plugins.module_utils import geography

        (part,) = geography.area(GEOJSON.read_bytes(), AOI, GEOJSON.name)
        corners = ",".join(f"({x!r},{y!r})" for x, y in part.outer)
        west, east, south, north = geography.boxes([part])[0]
        return (
            f"x BETWEEN {west} AND {east} AND y BETWEEN {south} AND {north}"
            f" AND '({corners})'::polygon @> point(x, y)"
        )

    def old(self, fraction: int) -> float:
        """The old scripts with one row in ``fraction`` of the catalogue; 0: with none."""
        sys.path.insert(0, str(PROJECT / "tests" / "support"))
        import old_way

        with (self.folder / "full.csv").open() as file:
            header = next(file)
            rows = [line for n, line in enumerate(file) if fraction and n // 2 % fraction == 0]
        inputs = old_way.Inputs(
            mode=old_way.REGULAR, aoi_geojson=GEOJSON.read_text(), aoi_row=AOI, aoi=str(AOI),
            static_csv=(self.folder / "static.csv").read_text(),
            catalog_csv=header + "".join(rows), initial_f_count=COUNT,
        )  # fmt: skip
        session = psycopg2.connect(self.server.url("bench"))
        with session, session.cursor() as cursor:
            cursor.execute("SELECT name FROM master_grid WHERE avail = 'T' ORDER BY gid LIMIT 100")
            draw = [(name, "validate") for (name,) in cursor.fetchall()]
        begun = time.perf_counter()
        with redirect_stdout(io.StringIO()):  # errors that the scripts pass over
            old_way.run(session, inputs, draw=draw)
        seconds = time.perf_counter() - begun
        session.close()
        return seconds

    def commit_latency(self, milliseconds: float) -> float:
        """Have commits of new sessions wait so long before their flush; gives what one takes."""
        delay = int(milliseconds * 1000)
        self.sql(
            f"ALTER ROLE postgres SET commit_delay = {delay}",
            "ALTER ROLE postgres SET commit_siblings = 0",
            "CREATE TABLE commits (n integer)",
        )
        session = psycopg2.connect(self.server.url("postgres"))
        session.autocommit = True
        insert = "INSERT INTO commits VALUES (1)"
        taken = [timed(lambda: session.cursor().execute(insert)) * 1000 for _ in range(200)]
        session.close()
        self.sql("DROP TABLE commits")
        commit = statistics.median(taken)
        if commit < milliseconds:
            sys.exit(f"commit_delay does not act: a commit takes {commit:.2f} ms")
        return commit


def compared(bench: Country, latency: float, fraction: int) -> None:
    """Bare SQL, apply and check in turn; then the old way."""
    commit = bench.commit_latency(latency)
    actions: dict[str, Callable[[], float]] = {
        "psql: bare SQL and COPY": bench.bare,
        "runbook: apply": lambda: bench.chain(check=False)[0],
        "runbook: check": lambda: bench.chain(check=True)[0],
    }
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(TIMES + 1):
        for name, action in actions.items():
            bench.fresh()
            seconds = action()
            if number:
                taken[name].append(seconds)
    medians = {name: statistics.median(figures) for name, figures in taken.items()}
    bare, apply, check = medians.values()
    bench.fresh()
    nothing = bench.old(0)
    bench.fresh()
    old = nothing + fraction * (bench.old(fraction) - nothing)
    storage = f"commit latency of {latency:g} ms" if latency else "this machine's own storage"
    print(f"\n{storage}: a commit of one row takes {commit:.2f} ms")
    print("\n| reset, AOI 3 | seconds | ratio | held to |\n|---|---|---|---|")
    print(f"| psql: bare SQL and COPY | {bare:.2f} | | |")
    print(f"| apply | {apply:.2f} | {apply / bare:.2f} of bare SQL | at most 1.5 |")
    print(f"| check | {check:.2f} | {check / apply:.2f} of the apply | at most 2 |")
    rows = "" if fraction == 1 else f" (1/{fraction} of the rows, scaled)"
    bar = "at least 50" if latency else "at least 50, with the latency of live storage"
    print(f"| old way{rows} | {old:.0f} | {old / apply:.0f} times the apply | {bar} |")


def growing(bench: Country) -> None:
    """1, 4 and 16 areas."""
    print("\n| areas | cells | check s | apply s | peak MB |\n|---|---|---|---|---|")
    number = len(json.loads(GEOJSON.read_bytes())["features"])
    areas = grid.parse(bench.areas(), "areas")
    for times, aoi in ((1, AOI), (4, number + 1), (16, number + 2)):
        bench.fresh()
        check, apply = bench.chain(check=True, aoi=aoi), bench.chain(check=False, aoi=aoi)
        cells = grid.count(list(areas[aoi - 1].runs()))
        peak = max(check[1], apply[1])
        print(f"| {times} | {cells:,} | {check[0]:.1f} | {apply[0]:.1f} | {peak:.0f} |")


class Space:
    """The most bytes of temporary tables and of sorts that a database had meanwhile."""

    def __init__(self, bench: Country) -> None:
        ((oid,),) = bench.rows("SELECT oid FROM pg_database WHERE datname = 'bench'")
        base = bench.server.pgdata / "base"
        self.folders = [(base / str(oid), "t*_*"), (base / "pgsql_tmp", "*")]
        self.peak = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.done.wait(0.05):
            self.peak = max(self.peak, sum(self._sizes()))

    def _sizes(self) -> Iterator[int]:
        for folder, pattern in self.folders:
            for path in folder.glob(pattern):
                with suppress(FileNotFoundError):
                    yield path.stat().st_size

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def large(bench: Country, cells: int) -> None:
    """A grid of so many cells, most of them outside of every area.

    Check and apply work in one database, which a check leaves as it is, so that it is on the disk
    once; the apply comes last and is undone by nothing.
    """
    bench.fresh()
    session = psycopg2.connect(bench.server.url("bench"))
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
        cursor.execute("ALTER TABLE master_grid DROP CONSTRAINT master_grid_pkey")
        cursor.execute("DROP INDEX name_gix1")
        cursor.execute(
            "INSERT INTO master_grid (gid, id, x, y, name, fwts, avail, date)"
            " SELECT n, 100000000 + n, 60 + n %% 4000 * 0.005, n / 4000 * 0.005,"
            " chr(65 + n / 10000000) || 'X' || lpad((n %% 10000000)::text, 7, '0'),"
            " 1 + n %% 10, 'T', '2018-12-01'"
            " FROM generate_series((SELECT max(gid) + 1 FROM master_grid), %s) AS n",
            (cells,),
        )
        cursor.execute("ALTER TABLE master_grid ADD PRIMARY KEY (gid)")
        cursor.execute("CREATE INDEX name_gix1 ON master_grid (name)")
        cursor.execute("VACUUM ANALYZE master_grid")
        cursor.execute("CHECKPOINT")
    ((size,),) = bench.rows("SELECT pg_total_relation_size('master_grid') / 1e9", "bench")
    session.close()
    figures: dict[str, list[Run]] = {}
    for name, check in (("check", True),) * TIMES + (("apply", False),):
        before = bench.scans()
        with Space(bench) as space:
            seconds, memory = bench.chain(check=check)
        run = Run(seconds, memory, space.peak / 1e6, bench.scans() - before)
        figures.setdefault(name, []).append(run)
    check, apply = (
        Run(*map(statistics.median, zip(*runs, strict=True))) for runs in figures.values()
    )
    print(f"\n| {cells:,} cells, {size:.1f} GB | seconds | peak MB | temporary MB | scans | ")
    print("|---|---|---|---|---|")
    for name, run in (("check", check), ("apply", apply)):
        print(
            f"| {name} | {run.seconds:.1f} | {run.memory:.0f} | {run.space:.0f} | {run.scans:.0f} |"
        )
    print(
        f"\ncheck: {check.seconds / apply.seconds:.2f} of the apply (held to 2), "
        f"{check.space:.0f} MB of temporary space (held to 200), "
        f"{max(check.memory, apply.memory):.0f} MB of memory (held to 300)"
    )


class Run(NamedTuple):
    """The cost of a check or an apply: memory and space in MB, sequential scans of master_grid."""

    seconds: float
    memory: float
    space: float
    scans: float


def main() -> None:
    """Print the tables."""
    postgres.SETTINGS.update(fsync="on", full_page_writes="on")
    with tempfile.TemporaryDirectory() as folder, Country(Path(folder)) as bench:
        bench.fill()
        load = os.getloadavg()[0]
        print(
            f"{bench.geography.cells:,} cells, {os.cpu_count()} cores, load {load:.1f} at the "
            f"beginning, S3: {bench.s3_name}"
        )
        if not ONLY_LARGE:
            compared(bench, 0, OLD_FRACTION)
            if COMMIT_LATENCY_MS:
                compared(bench, COMMIT_LATENCY_MS, LATENCY_FRACTION)
                bench.commit_latency(0)
            growing(bench)
        for cells in LARGE:
            large(bench, cells)
