"""The steps of regular production one by one: what they make, and what bad inputs do."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors, inputs, server
from ansible_collections.labeller.runbook.plugins.module_utils.steps.f_sites import split
from psycopg2 import sql

if TYPE_CHECKING:
    from labeller_support import Labeller

Rows = list[dict[str, str]]
CATALOG_HEADER = "cell_id,scene_id,season,global_col,global_row,url,tms_url,date_time"


def read(text: str) -> Rows:
    return list(csv.DictReader(io.StringIO(text)))


def static_names(labeller: Labeller) -> set[str]:
    return {row["name"] for row in read(labeller.get(support.STATIC))}


def grid(labeller: Labeller) -> Rows:
    """Every cell with the area that it is in, 0 for none, computed without our code."""
    areas = json.loads(labeller.get(support.AOI))["features"]
    boxes = []
    for feature in areas:
        ring = feature["geometry"]["coordinates"][0]
        xs, ys = [x for x, _ in ring], [y for _, y in ring]
        boxes.append((min(xs), max(xs), min(ys), max(ys)))
    return [
        {
            "id": str(cell), "name": name, "col": str(int((x + 17.541) / 0.005)),
            "row": str(int((37.540 - y) / 0.005)),
            "area": next((n for n, (a, b, c, d) in enumerate(boxes, 1) if a < x < b and c < y < d), 0),
        }
        for cell, name, x, y in labeller.sql("SELECT id, name, x, y FROM master_grid ORDER BY gid")
    ]  # fmt: skip


def paired(labeller: Labeller) -> set[str]:
    seasons: dict[str, set[str]] = {}
    for row in read(labeller.get(support.FULL)):
        seasons.setdefault(row["cell_id"], set()).add(row["season"])
    return {cell for cell, found in seasons.items() if found == {"GS", "OS"}}


def refused(labeller: Labeller, step: Any, problem: str) -> None:
    """Check and apply both fail with the problem, and everything stays as it was."""
    before = support.state(labeller)
    fails(labeller, step, problem)
    assert support.state(labeller) == before


def fails(labeller: Labeller, step: Any, problem: str) -> None:
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match=problem):
            run(labeller, step)


def all_refused(labeller: Labeller, key: str, step: Any, cases: dict[str | bytes, str]) -> None:
    """``refused`` for every content of the object ``key``; in one database, as nothing changes."""
    before = support.state(labeller)
    original = labeller.get(key)
    for body, problem in cases.items():
        labeller.put(key, body)
        fails(labeller, step, problem)
    labeller.put(key, original)
    assert support.state(labeller) == before


def replace(labeller: Labeller, key: str, old: str, new: str, count: int = 1) -> None:
    text = labeller.get(key)
    assert old in text
    labeller.put(key, text.replace(old, new, count))


# grid_availability


def test_grid_availability_marks_static_cells_and_frees_others(labeller: Labeller) -> None:
    labeller.sql("UPDATE master_grid SET avail = 'Q' WHERE gid IN (1, 2, 3)")
    labeller.sql("UPDATE master_grid SET avail = 'F' WHERE avail = 'I'")
    static = dict(labeller.sql("SELECT name, kml_type FROM kml_data_static"))
    before = dict(labeller.sql("SELECT name::text, avail FROM master_grid"))
    step = support.step("grid_availability")
    predicted = support.check(labeller, step)
    assert support.apply(labeller, step) == predicted
    after = dict(labeller.sql("SELECT name::text, avail FROM master_grid"))
    assert after == {
        name: static.get(name, "T" if code in "IQ" else code) for name, code in before.items()
    }
    assert not support.apply(labeller, step)["changed"]


def test_a_static_name_that_the_grid_lacks_is_named(labeller: Labeller) -> None:
    labeller.sql(
        "INSERT INTO kml_data_static (kml_type, name) VALUES ('Q', 'GH9999999'), ('I', 'x''); --')"
    )
    problem = r"kml_data_static: 2 names are not in master_grid: 'GH9999999', \"x'\); --\""
    refused(labeller, support.step("grid_availability"), problem)


# scene_catalog


def test_scenes_are_those_of_the_area_and_of_static_names(labeller: Labeller) -> None:
    labeller.sql("DELETE FROM scenes_data")
    support.apply(labeller, support.scene_catalog())
    static = {name for (name,) in labeller.sql("SELECT name FROM kml_data_static")}
    static |= static_names(labeller)
    wanted = {c["id"] for c in grid(labeller) if c["area"] == 1 or c["name"] in static}
    expected = sorted(
        (int(r["cell_id"]), r["season"], r["scene_id"], int(r["global_col"]), int(r["global_row"]),
         r["url"], r["tms_url"], "planet")
        for r in read(labeller.get(support.FULL)) if r["cell_id"] in wanted
    )  # fmt: skip
    assert expected == labeller.sql(
        "SELECT cell_id, season, scene_id, global_col, global_row, url, tms_url, provider"
        " FROM scenes_data ORDER BY 1, 2"
    )
    assert read(labeller.get(support.CATALOG)) == [
        {"cell_id": str(cell), "scene_id": scene, "col": str(col), "row": str(row),
         "season": season, "uri": url}
        for cell, season, scene, col, row, url, _, _ in expected
    ]  # fmt: skip
    assert not support.apply(labeller, support.scene_catalog())["changed"]


def test_any_order_of_columns_extra_ones_and_odd_texts(labeller: Labeller) -> None:
    labeller.sql("DELETE FROM scenes_data")
    cell = next(c["id"] for c in grid(labeller) if c["area"] == 1)
    odd = "a \"quoted\", 'name'); DROP TABLE kml_data; --\nsecond line"
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["note,1", "season", "provider", "date_time", "tms_url", "url", "global_row",
                     "global_col", "scene_id", "cell_id"])  # fmt: skip
    for season in ("GS", "OS"):
        writer.writerow(["x", season, "", "2018-05-01T10:00:00+02:00", "", odd, 3, 4, odd, cell])
    labeller.put(support.FULL, b"\xef\xbb\xbf" + out.getvalue().encode())
    predicted = support.check(labeller, support.scene_catalog())
    assert support.apply(labeller, support.scene_catalog()) == predicted
    assert labeller.sql(
        "SELECT DISTINCT provider, scene_id, url, tms_url, global_col, global_row,"
        " date_time AT TIME ZONE 'UTC' = '2018-05-01 08:00' FROM scenes_data"
    ) == [("planet", odd, odd, None, 4, 3, True)]
    assert {row["uri"] for row in read(labeller.get(support.CATALOG))} == {odd}
    assert labeller.sql("SELECT count(*) > 0 FROM kml_data") == [(True,)]


def test_equal_rows_count_once_different_ones_are_named(labeller: Labeller) -> None:
    labeller.sql("DELETE FROM scenes_data")
    text = labeller.get(support.FULL)
    cell = next(c["id"] for c in grid(labeller) if c["area"] == 1)
    line = next(line for line in text.splitlines() if f",{cell},GS" in line)
    labeller.put(support.FULL, text + line + "\n")
    support.apply(labeller, support.scene_catalog())
    labeller.sql("DELETE FROM scenes_data")
    labeller.put(support.FULL, text + line.replace("_2018", "_2019") + "\n")
    refused(labeller, support.scene_catalog(), f"several scenes .* first cell_id {cell}, season GS")


def test_a_catalogue_that_contradicts_scenes_data_is_named(labeller: Labeller) -> None:
    support.apply(labeller, support.scene_catalog())
    labeller.sql("UPDATE scenes_data SET url = 'other' WHERE season = 'OS'")
    refused(labeller, support.scene_catalog(), "contradicts scenes_data")


BAD_CATALOGUES: dict[str | bytes, str] = {
    "": "planet/full.csv is empty; expected a CSV with the columns cell_id, scene_id",
    "\n\n": "is empty",
    CATALOG_HEADER + "\n": "planet/full.csv has a header and no rows",
    f"{CATALOG_HEADER},{','.join('abc' for _ in range(2000))}\n1\n": "full.csv: the header has 2,.* columns, at most 1,000",
    ",".join(
        map(str, range(10**6))
    ): "full.csv: the header has more than 1.,... columns, at most 1,000",
    "cell_id,season\n1,GS\n": "column scene_id, .* is missing; the header has cell_id, season",
    CATALOG_HEADER + ",season\n": "column season is there twice",
    CATALOG_HEADER + "\n1,s,GS,1\n": "line 2: missing data for column",
    CATALOG_HEADER + "\n1,s,GS,1,1,u,t,2018-01-01,more\n": "line 2: extra data",
    CATALOG_HEADER
    + "\n1,s,GS,1,1,u,t,2018-01-01\nx;1,s,GS,1,1,u,t,2018-01-01\n": "line 3, column cell_id: invalid input syntax for (type )?integer",
    CATALOG_HEADER + "\n1,s,GS,1,1,u,t,someday\n": "line 2, column date_time: invalid input",
    CATALOG_HEADER + '\n1,s,GS,1,1,"u,t,2018-01-01\n': "unterminated CSV quoted field",
    CATALOG_HEADER.encode() + b"\n1,\xff\xfe,GS,1,1,u,t,2018-01-01\n": "line 2.*invalid byte",
    CATALOG_HEADER + "\n1,s,GS,1,1,u,t,2018-01-01\n": "has no scene of s3://.*, area 1",
}


def test_a_bad_catalogue_is_named_with_its_line(labeller: Labeller) -> None:
    all_refused(labeller, support.FULL, support.scene_catalog(), BAD_CATALOGUES)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (",GS,", ",XX,", "season other than GS and OS"),
        ("_GS_2018", "_GS_" + "2" * 200, "value too long for type character varying"),
    ],
)
def test_a_value_that_scenes_data_cannot_take_is_named(
    labeller: Labeller, old: str, new: str, problem: str
) -> None:
    labeller.sql("DELETE FROM scenes_data")
    replace(labeller, support.FULL, old, new, count=-1)
    refused(labeller, support.scene_catalog(), f"planet/full.csv.*{problem}")


def test_of_a_large_catalogue_the_rows_near_wanted_cells_are_loaded(
    labeller: Labeller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without zstandard, and on a server that cannot choose rows, all are; the rest is the same."""
    loaded: list[set[int]] = []

    def checked() -> dict[str, Any]:
        return support.check(labeller, support.scene_catalog(), observe=look)

    def look(tx: Any) -> None:
        loaded.append({cell for (cell,) in tx.rows("SELECT cell_id FROM runbook_catalog")})
        seen.update(cell for (cell,) in tx.rows("SELECT cell_id FROM runbook_wanted"))
        chooses.append(server.version(tx.cursor.connection) >= 120000)

    seen: set[int] = set()
    chooses: list[bool] = []
    results = [checked()]
    with monkeypatch.context() as patched:
        patched.setattr(inputs, "zstandard", None)
        results.append(checked())
    with monkeypatch.context() as patched:
        patched.setattr(server, "assumed", server.OLDEST)
        results.append(checked())
    assert results[0] == results[1] == results[2]
    every = {int(row["cell_id"]) for row in read(labeller.get(support.FULL))}
    near = {cell for cell in every if cell >> 6 in {other >> 6 for other in seen}}
    assert seen & every < near < every
    assert loaded == [near if chooses[0] else every, every, every]


@pytest.mark.parametrize("numbers", [[], [7], [-65, -1, 0, 63, 64, 4097], [-(2**31), 2**31 - 1]])
def test_numbers_near_others(labeller: Labeller, numbers: list[int]) -> None:
    """The condition holds for those alone that share all but the last 6 bits with a number."""
    tried = [m for n in (*numbers, 1000) for m in range(n - 130, n + 130) if -(2**31) <= m < 2**31]

    def look(tx: Any) -> None:
        query = sql.SQL("SELECT unnest({}::integer[])")
        condition = inputs.near(tx, "n", query.format(sql.Literal(numbers)))
        found = tx.rows(
            sql.SQL("SELECT n FROM ({}) AS tried (n) WHERE {}").format(
                query.format(sql.Literal([*tried, None])), condition
            )
        )
        assert [n for (n,) in found] == [n for n in tried if n >> 6 in {m >> 6 for m in numbers}]

    support.check(labeller, support.step("grid_availability"), observe=look)


def test_a_catalogue_that_is_not_there_is_named(labeller: Labeller) -> None:
    step = support.scene_catalog(catalog="planet/none.csv")
    refused(labeller, step, "planet/none.csv: no such object")


# f_pool


def pool_expected(labeller: Labeller, area: int) -> tuple[Rows, Rows, set[str]]:
    """The pool's file, the quality cells' file and the names of the pool's own cells."""
    static = {name for (name,) in labeller.sql("SELECT name FROM kml_data_static")}
    training, both, cells = static_names(labeller), paired(labeller), grid(labeller)
    complete = [c for c in cells if c["id"] in both]
    own = {
        c["name"] for c in complete
        if c["area"] == area and c["name"] not in static and c["name"] not in training
    }  # fmt: skip
    pool = [c for c in complete if c["name"] in own or c["name"] in training]
    quality = [c for c in cells if c["area"] == area and c["name"] in static]

    def file(cells: Rows) -> Rows:
        return [
            {"name": c["name"], "col": c["col"], "row": c["row"],
             "name_col_row": f"{c['name']}_{c['col']}_{c['row']}"}
            for c in cells
        ]  # fmt: skip

    return file(pool), file(quality), own


@pytest.mark.parametrize("area", [1, 2])
def test_the_pool_is_the_areas_free_cells_with_both_seasons(labeller: Labeller, area: int) -> None:
    support.apply(labeller, *support.regular(aoi_index=area)[:-1])
    pool, quality, own = pool_expected(labeller, area)
    assert len(own) > 500
    assert len(quality) > 5
    assert read(labeller.get(support.POOL)) == pool
    assert read(labeller.get(support.QS)) == quality
    marked = {n for (n,) in labeller.sql("SELECT name::text FROM master_grid WHERE avail = 'F'")}
    assert marked == own | static_names(labeller)
    assert not support.apply(labeller, support.f_pool(area))["changed"]


@pytest.mark.parametrize("none", [None, ""])
def test_without_static_names_there_is_the_areas_pool_only(
    labeller: Labeller, none: str | None
) -> None:
    support.apply(labeller, support.clear(), support.step("grid_availability"),
                  support.scene_catalog(static_names=none), support.f_pool(static_names=none))  # fmt: skip
    names = {row["name"] for row in read(labeller.get(support.POOL))}
    static = {name for (name,) in labeller.sql("SELECT name FROM kml_data_static")}
    both = paired(labeller)
    assert names == {
        c["name"]
        for c in grid(labeller)
        if c["area"] == 1 and c["name"] not in static and c["id"] in both
    }


def test_marks_of_another_area_are_taken_back(labeller: Labeller) -> None:
    """The old run's area is F; N cells of the pool become F, as create_f_pool.R had it."""
    support.apply(labeller, support.scene_catalog())
    labeller.sql("UPDATE master_grid SET avail = 'N' WHERE avail = 'T'")
    support.apply(labeller, support.f_pool())
    _, _, own = pool_expected(labeller, 1)
    marked = {n for (n,) in labeller.sql("SELECT name::text FROM master_grid WHERE avail = 'F'")}
    assert marked == own | static_names(labeller)


@pytest.mark.parametrize(
    ("index", "problem"),
    [(3, "aoi_index 3: .*aois.geojson has 2 areas; give 1 to 2"), (0, "aoi_index 0")],
)
def test_an_area_that_the_file_lacks_is_named(labeller: Labeller, index: int, problem: str) -> None:
    refused(labeller, support.f_pool(index), problem)


def area_file(*coordinates: Any, kind: str = "Polygon") -> str:
    geometry = {"type": kind, "coordinates": list(coordinates)}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


def box(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def test_an_area_without_cells_is_named(labeller: Labeller) -> None:
    labeller.put(support.AOI, area_file(box(50, 50, 51, 51)))
    refused(labeller, support.f_pool(), "aois.geojson, area 1 holds no cell of master_grid")


def test_an_area_without_scenes_of_both_seasons_is_named(labeller: Labeller) -> None:
    labeller.sql("DELETE FROM scenes_data WHERE season = 'OS'")
    refused(labeller, support.f_pool(), "none of its 900 cells.* has scenes of both seasons")


def test_a_training_name_that_is_a_quality_cell_is_named(labeller: Labeller) -> None:
    support.apply(labeller, support.scene_catalog())
    name = labeller.sql("SELECT name FROM kml_data_static WHERE kml_type = 'Q' LIMIT 1")[0][0]
    labeller.put(support.STATIC, f"name\n{name}\n")
    refused(labeller, support.f_pool(), rf"1 are quality or training cells .*: {name} \(Q\)")


def test_rows_of_earlier_runs_train_under_this_run_and_others_are_warned_of(
    labeller: Labeller,
) -> None:
    support.apply(labeller, support.scene_catalog())
    names = sorted(static_names(labeller))
    rows = [f"{name},{89 + number % 2},1,train,True\n" for number, name in enumerate(names)]
    header = "name,run,iteration,usage,label\n"
    # Labelled by the later run only: it trains, once.
    labeller.put(support.STATIC, "".join([header, *rows, f"{names[0]},88,0,train,False\n"]))
    assert support.apply(labeller, support.f_pool())["warnings"] == []
    written = read(labeller.get(support.TRAINING))
    assert sorted((row["name"], row["run"]) for row in written) == [(n, "91") for n in names]
    rows[1] = rows[1].replace("True", "False")
    rows[2] = rows[2].replace("train", "holdout")
    labeller.put(support.STATIC, "".join([header, *rows]))
    labeller.sql(
        "DELETE FROM scenes_data WHERE season = 'OS' AND cell_id ="
        " (SELECT id FROM master_grid WHERE name = %s)", names[3],
    )  # fmt: skip
    (warning,) = support.apply(labeller, support.f_pool())["warnings"]
    assert warning == (
        f"s3://{labeller.bucket}/{support.STATIC}: 3 of its names will not train: 2 have no row with "
        "usage train and a true label, 1 no scenes of both seasons. Nothing is to be done unless "
        "they should train: then correct the list, or the catalogue"
    )
    written = read(labeller.get(support.TRAINING))
    assert sorted(row["name"] for row in written) == [names[0], *names[4:]]


BAD_STATIC_NAMES: dict[str | bytes, str] = {
    "": "static.csv is empty",
    "name\n": "static.csv has a header and no rows; for no names give no file",
    "names\nGH1\n": "column name is missing",
    'name,run\n"",1\n': "1 rows have no name",
    "name\nGH0000001\nGH0000000\n": "1 names are not in master_grid: 'GH0000000'",
    'name\n"a\'; DELETE FROM kml_data; --"\n': "not in master_grid: \"a'; DELETE FROM",
}


def test_bad_static_names_are_named(labeller: Labeller) -> None:
    all_refused(labeller, support.STATIC, support.f_pool(), BAD_STATIC_NAMES)


# f_sites


def draw(names: set[str], count: int, seed: int, holdout: float, holdout1: float) -> dict[str, str]:
    """The draw, computed without SQL."""

    def key(salt: str) -> Any:
        return lambda name: hashlib.md5(f"{seed}{salt}:{name}".encode()).hexdigest()

    chosen = sorted(sorted(names, key=key(""))[:count], key=key(":usage"))
    parts = split(count, holdout, holdout1)
    usages = ["holdout"] * parts.holdout + ["validate"] * parts.validate + ["train"] * parts.train
    return dict(zip(chosen, usages, strict=True))


@pytest.mark.parametrize(
    ("seed", "proportions"), [(0, (100.0, 0.0)), (7, (0.7, 0.2)), (-1, (0.0, 0.0))]
)
def test_the_draw_is_by_hash_of_the_name(
    labeller: Labeller, seed: int, proportions: tuple[float, float]
) -> None:
    chain = support.regular()
    sites = support.f_sites(
        seed=seed, proportion_holdout=proportions[0], proportion_holdout1=proportions[1]
    )
    support.apply(labeller, *chain[:-1], sites)
    _, _, own = pool_expected(labeller, 1)
    expected = draw(own, 50, seed, *proportions)
    names = labeller.sql("SELECT name, usage, processed, label FROM incoming_names WHERE run = 91")
    assert {name: usage for name, usage, _, _ in names} == expected
    assert {(processed, label) for _, _, processed, label in names} == {(False, False)}
    assert labeller.sql("SELECT iteration, aoi FROM iteration_metrics WHERE run = 91") == [(0, "1")]
    queue = labeller.sql("SELECT name, mapped_count FROM kml_data WHERE kml_type = 'F'")
    assert {name for name, _ in queue} == set(expected)
    assert {count for _, count in queue} == {0}
    assert not support.apply(labeller, sites)["changed"]


def test_alone_it_draws_the_same_as_in_the_chain(labeller: Labeller) -> None:
    chain = support.regular()
    predicted = support.check(labeller, *chain)
    support.apply(labeller, *chain[:-1])
    alone = support.apply(labeller, chain[-1])
    assert alone["diff"] == predicted["diff"][-3:]


def test_the_diff_lists_the_drawn_names(labeller: Labeller) -> None:
    result = support.check(labeller, *support.regular())
    text = next(
        d["after"] for d in result["diff"]
        if d["after_header"].startswith("f_sites: incoming_names ") and d["before"] == ""
    )  # fmt: skip
    assert text.startswith("run 91, iteration 0: 50 validate\n")
    assert len(text.splitlines()) == 51


def test_a_pool_that_is_too_small_is_an_error(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular()[:-1])
    refused(
        labeller, support.f_sites(count=100_000), "100,000 sites are to be drawn, .* the pool holds"
    )


def test_a_run_that_has_other_names_is_left_alone(labeller: Labeller) -> None:
    support.apply(labeller, *support.regular())
    for other in (support.f_sites(seed=1), support.f_sites(run_id=90)):
        with pytest.raises(
            errors.Refused, match=r"was used before: .* choose a new run_id \(92 is free\)"
        ):
            support.check(labeller, other)
    with pytest.raises(errors.Refused, match="iteration_metrics has run 91 with AOI 1"):
        support.check(labeller, support.f_sites(aoi_index=2))


def test_arguments_out_of_range_are_named(labeller: Labeller) -> None:
    for arguments, problem in (
        ({"count": 0}, "count is 0; expected 1 or more"),
        ({"run_id": -1}, "run_id is -1"),
        ({"aoi_index": 0}, "aoi_index is 0"),
        ({"proportion_holdout": -0.1}, "proportion_holdout is -0.1"),
        ({"proportion_holdout": float("nan")}, "proportion_holdout is nan"),
    ):
        fails(labeller, support.f_sites(**arguments), problem)
