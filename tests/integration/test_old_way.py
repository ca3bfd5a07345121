"""The old scripts' statements and our steps on two copies of a database: every table compared.

Each place where they differ is one function of ``DIFFERENCES``, named as in docs/playbooks.md; it
asserts what differs, then takes it out of both sides. What is left must be equal, row for row.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import old_way
import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import fingerprint
from labeller_support import admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from labeller_support import Labeller

    from runbook.sandbox.postgres import PostgresServer

PLAYBOOKS = Path(__file__).resolve().parent.parent.parent / "docs" / "playbooks.md"
MODES = {"initial": old_way.INITIAL, "single": old_way.SINGLE, "regular": old_way.REGULAR}
COUNT = 40

Tables = dict[str, list[dict[str, Any]]]


def rows(labeller: Labeller) -> Tables:
    """Every row of every table of labeller's own, times of the run left out."""
    session = labeller.connect()
    found = {}
    with session.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        for (table,) in cursor.fetchall():
            columns = [column.name for column in fingerprint.columns(cursor, "public", table)]
            cursor.execute(f'SELECT * FROM "{table}"')
            found[table] = [
                {c: v for c, v in zip(columns, row, strict=True) if c != "iteration_time"}
                for row in cursor.fetchall()
            ]
    session.close()
    return found


def inputs(labeller: Labeller, mode: str) -> old_way.Inputs:
    return old_way.Inputs(
        mode=MODES[mode], aoi_geojson=labeller.get(support.AOI), aoi_row=1, aoi="1",
        static_csv=labeller.get(support.STATIC), catalog_csv=labeller.get(support.FULL),
        initial_f_count=COUNT,
    )  # fmt: skip


def ours(mode: str, run_id: int, **clear: Any) -> list[Any]:
    """The transaction of a mode's playbook."""
    first = [
        support.marker(run_id, mode=mode),
        support.clear(**clear),
        support.step("grid_availability"),
    ]
    if mode == "regular":
        share = {"count": COUNT, "proportion_holdout": 100.0, "proportion_holdout1": 0.0}
        settings = {"InitialFnum": COUNT, "ProportionHoldout": 100, "ProportionHoldout1": 0}
        return [
            *first, support.scene_catalog(), support.f_pool(), support.f_sites(run_id, **share),
            support.step("configuration", settings=settings), support.step("database_consistent", refuse=SURE),
        ]  # fmt: skip
    return [
        *first,
        support.step("scene_catalog", catalog=support.FULL, static_names=support.STATIC),
        support.step("static_sites", run_id=run_id, aoi_index=1, static_names=support.STATIC),
        support.step("database_consistent", refuse=SURE),
    ]


#: What the run modes refuse on.
SURE = ["static_cells", "queue_names", "scenes", "open_names", "hits"]


def metrics_of_earlier_runs(old: Tables, new: Tables, mode: str, before: Tables) -> None:
    """The old DELETE of all metrics fails on the foreign key of processed names, or loses history.

    On the sandbox's schema, which has the key, it fails like that and both sides keep them.
    """
    assert before["iteration_metrics"]
    for row in before["iteration_metrics"]:
        assert row in old["iteration_metrics"]
        assert row in new["iteration_metrics"]


def number_of_the_run(old: Tables, new: Tables, mode: str, before: Tables) -> None:
    """Mode 3 takes max(run)+1 of the processed names that were kept, modes 1 and 2 take 0.

    The test gives ours the same number.
    """
    run = 1 + max(row["run"] for row in before["incoming_names"]) if mode == "regular" else 0
    open_runs = [
        {r["run"] for r in side["incoming_names"] if not r["processed"]} for side in (old, new)
    ]
    assert open_runs == [{run}, {run}]


def pool_without_unpaired_cells(old: Tables, new: Tables, mode: str, before: Tables) -> None:
    """F marks exactly the cells that can be drawn: those without both seasons stay T."""
    if mode != "regular":
        return
    seasons: dict[int, set[str]] = {}
    for row in new["scenes_data"]:
        seasons.setdefault(row["cell_id"], set()).add(row["season"])
    ours = {row["gid"]: row for row in new["master_grid"]}
    unpaired = [
        row for row in old["master_grid"]
        if row["avail"] == "F" and len(seasons.get(row["id"], set())) < 2
    ]  # fmt: skip
    assert unpaired
    for row in unpaired:
        assert ours[row["gid"]]["avail"] == "T"
        row["avail"] = "T"


def serving_order(old: Tables, new: Tables, mode: str, before: Tables) -> None:
    """Sites are queued in the order of the draw or of the file; the old order is the heap's."""
    for side in (old, new):
        sites = [row for row in side["kml_data"] if row["kml_type"] == "F"]
        gids = sorted(row["gid"] for row in sites)
        assert gids == list(range(gids[0], gids[0] + len(gids)))
        for row in sites:
            del row["gid"]


#: By the name that docs/playbooks.md gives each.
DIFFERENCES: dict[str, Callable[[Tables, Tables, str, Tables], None]] = {
    "metrics of earlier runs": metrics_of_earlier_runs,
    "number of the run": number_of_the_run,
    "pool without unpaired cells": pool_without_unpaired_cells,
    "serving order": serving_order,
}
#: Differences that the test does not need to take out, because both sides are given the same, or
#: because they show on input that the old statements die of.
OTHER = {
    "draw", "failures", "unknown static names", "missing system_data row", "area and file names",
    "missing argument", "unprocessed names of other runs", "static list of the run",
}  # fmt: skip


@pytest.fixture
def second(postgres_server: PostgresServer) -> Iterator[Callable[[Labeller], Labeller]]:
    """Copies a labeller's database; the bucket is the same."""
    made = []

    def copy(labeller: Labeller) -> Labeller:
        name = f"{labeller.login['login_db']}_old"
        admin(postgres_server, f"CREATE DATABASE {name} TEMPLATE {labeller.login['login_db']}")
        made.append(name)
        return replace(labeller, login={**labeller.login, "login_db": name})

    yield copy
    for name in made:
        admin(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("mode", MODES)
def test_old_statements_and_steps_leave_the_same_tables(
    labeller: Labeller, second: Callable[[Labeller], Labeller], mode: str
) -> None:
    other = second(labeller)
    before = rows(labeller)
    run_id = 91 if mode == "regular" else 0
    support.apply(labeller, *ours(mode, run_id))
    new = rows(labeller)
    drawn = [(r["name"], r["usage"]) for r in new["incoming_names"] if not r["processed"]]
    session = other.connect()
    old_way.run(session, inputs(labeller, mode), draw=drawn if mode == "regular" else None)
    session.close()
    old = rows(other)

    assert len(drawn) == (
        COUNT if mode == "regular" else len(old_way.static_names(labeller.get(support.STATIC)))
    )
    assert old["scenes_data"]
    for take_out in DIFFERENCES.values():
        take_out(old, new, mode, before)
    assert set(old) == set(new)
    for table in old:
        assert canonical(old[table]) == canonical(new[table]), table
    changed = {table for table in new if canonical(new[table]) != canonical(before[table])}
    assert {
        "kml_data",
        "scenes_data",
        "incoming_names",
        "master_grid",
        "iteration_metrics",
        "user_maps",
    } <= changed


def canonical(table: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in table)


def test_old_objects_and_ours_name_the_same_cells(
    labeller: Labeller, second: Callable[[Labeller], Labeller]
) -> None:
    other = second(labeller)
    support.apply(labeller, *ours("regular", 91))
    session = other.connect()
    session.autocommit = True
    old_way.clear_db(session)
    old_way.update_db(session, inputs(labeller, "regular"))
    objects = old_way.create_f_pool(session, inputs(labeller, "regular"))
    session.close()
    names = {
        key: {line.split(",")[0] for line in labeller.get(key).splitlines()[1:]}
        for key in (support.POOL, support.QS)
    }
    assert names[support.POOL] == objects.pool
    assert names[support.QS] == objects.qs
    listed = {tuple(line.split(",")[:5]) for line in labeller.get(support.CATALOG).splitlines()[1:]}
    assert listed == {tuple(map(str, row)) for row in objects.image_catalog}


def test_the_old_draw_is_from_the_same_cells(
    labeller: Labeller, second: Callable[[Labeller], Labeller]
) -> None:
    other = second(labeller)
    support.apply(labeller, *ours("regular", 91))
    session = other.connect()
    old_way.run(session, inputs(labeller, "regular"))
    session.close()
    query = "SELECT name, usage FROM incoming_names WHERE NOT processed"
    old, new = other.sql(query), labeller.sql(query)
    pool = {
        name.strip() for (name,) in labeller.sql("SELECT name FROM master_grid WHERE avail = 'F'")
    }
    assert len(old) == len(new) == COUNT
    assert {usage for _, usage in [*old, *new]} == {"validate"}
    assert {name for name, _ in [*old, *new]} <= pool
    assert {name for name, _ in old} != {name for name, _ in new}


def test_every_difference_is_in_the_documentation() -> None:
    named = set(re.findall(r"\*\*([a-z_ ]+)\*\*:", PLAYBOOKS.read_text()))
    assert named == {*DIFFERENCES, *OTHER}
