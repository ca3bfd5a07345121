"""Helpers of the tests of transactions: chains with defaults filled in, dumps of all tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.labeller.runbook.plugins.module_utils import fingerprint, transaction
from ansible_collections.labeller.runbook.plugins.module_utils.steps import registry
from psycopg2 import sql

if TYPE_CHECKING:
    from labeller_support import Labeller

AOI, FULL, STATIC = "grid/aois.geojson", "planet/full.csv", "planet/static.csv"
POOL, QS, CATALOG = "planet/pool.csv", "planet/qs.csv", "planet/catalog.csv"
TRAINING = "planet/training.csv"

#: What a run's transaction may leave, besides the marker's own time.
TABLES = (
    "user_maps", "accuracy_data", "assignment_history", "assignment_data", "assignment_review",
    "qual_user_maps", "qual_accuracy_data", "qual_assignment_data", "hit_data", "scenes_data",
    "machine_maps", "kml_data", "kml_data_static", "incoming_names", "iteration_metrics",
    "system_data", "configuration", "worker_data", "master_grid", "users", "qaqcfields",
)  # fmt: skip


def step(name: str, **arguments: Any) -> Any:
    """A step with the defaults that the module would fill in."""
    spec = registry.STEPS[name].ARGUMENTS
    assert set(arguments) <= set(spec), set(arguments) - set(spec)
    defaults = {key: option.get("default") for key, option in spec.items()}
    return registry.STEPS[name]({**defaults, **arguments})


def marker(
    run_id: int = 91, aoi_index: int = 1, mode: str = "regular", replaced_run: str = ""
) -> Any:
    return step(
        "run_marker", mode=mode, aoi_name="ghana", aoi_index=aoi_index, run_id=run_id,
        replaced_run=replaced_run,
    )  # fmt: skip


def clear(**arguments: Any) -> Any:
    return step("pg_clear", **{"unprotected": True, **arguments})


def scene_catalog(aoi_index: int = 1, **arguments: Any) -> Any:
    return step("scene_catalog", **{
        "catalog": FULL, "image_catalog": CATALOG, "aoi": AOI, "aoi_index": aoi_index,
        "static_names": STATIC, **arguments,
    })  # fmt: skip


def f_pool(aoi_index: int = 1, **arguments: Any) -> Any:
    return step("f_pool", **{
        "aoi": AOI, "aoi_index": aoi_index, "static_names": STATIC, "pool": POOL, "qs": QS,
        "training_names": TRAINING, "run_id": 91, **arguments,
    })  # fmt: skip


def f_sites(run_id: int = 91, aoi_index: int = 1, **arguments: Any) -> Any:
    return step("f_sites", **{
        "run_id": run_id, "aoi_index": aoi_index, "count": 50, "static_names": STATIC, **arguments,
    })  # fmt: skip


def regular(run_id: int = 91, aoi_index: int = 1, replaced_run: str = "") -> list[Any]:
    """The chain of regular.yml."""
    return [
        marker(run_id, aoi_index, replaced_run=replaced_run),
        clear(run_id=run_id, static_names=STATIC),
        step("grid_availability"), scene_catalog(aoi_index), f_pool(aoi_index, run_id=run_id),
        f_sites(run_id, aoi_index),
    ]  # fmt: skip


def initial(run_id: int = 0) -> list[Any]:
    """The chain of initial.yml."""
    return [
        marker(run_id, mode="initial"), clear(), step("grid_availability"),
        step("scene_catalog", catalog=FULL, static_names=STATIC),
        step("static_sites", run_id=run_id, aoi_index=1, static_names=STATIC),
    ]  # fmt: skip


def label(labeller: Labeller, run_id: int) -> None:
    """Do the work of mappers and the consensus daemon on a run's sites; label images are empty files.

    Those of the static training names too, which an initial drawing made.
    """
    labeller.sql("UPDATE incoming_names SET processed = true, label = true WHERE run = %s", run_id)
    labeller.sql("UPDATE kml_data SET mapped_count = 5, mappers_needed = 5 WHERE kml_type = 'F'")
    static = [line.split(",")[0] for line in labeller.get(STATIC).splitlines()[1:]]
    cells = labeller.sql(
        "SELECT name, trunc((x + 17.541) / 0.005)::int, trunc((37.540 - y) / 0.005)::int"
        " FROM master_grid WHERE name::text = ANY (%s) OR name::text IN"
        " (SELECT name FROM incoming_names WHERE run = %s)", static, run_id,
    )  # fmt: skip
    images = {f"labels/ghana/{name}_{column}_{row}.tif" for name, column, row in cells}
    for key in sorted(images - labeller.keys()):
        labeller.put(key, "")


def check(labeller: Labeller, *steps: Any, **options: Any) -> dict[str, Any]:
    """The result of a check."""
    return run(labeller, steps, check=True, **options)


def apply(labeller: Labeller, *steps: Any, **options: Any) -> dict[str, Any]:
    """The result of an apply."""
    return run(labeller, steps, check=False, **options)


def run(labeller: Labeller, steps: Any, *, check: bool, **options: Any) -> dict[str, Any]:
    observe = options.pop("observe", None)
    params = {**labeller.options, **options}
    return transaction.run(list(steps), params, check=check, observe=observe)


def dump(tx: Any) -> dict[str, list[str]]:
    """Every row of every table as the transaction sees it, as text, times of the run left out."""
    return {table: _rows(tx.cursor, table, tx) for table in (*TABLES, "run_marker")}


def _rows(cursor: Any, table: str, tx: Any) -> list[str]:
    name = tx.source(table).strings if table in tx.real_only else (table,)
    schema = "runbook" if table == "run_marker" else "public"
    columns = [c.name for c in fingerprint.columns(cursor, schema, table)] or [
        "id", "mode", "aoi_name", "aoi_index", "run_id", "backup_id", "made_with",
    ]  # fmt: skip
    times = {
        "run_marker": {"applied_at", "pending_uploads"},
        "iteration_metrics": {"iteration_time"},
        "assignment_history": {"event_time"},
        "worker_data": {"last_time"},
    }
    wanted = [c for c in columns if c not in times.get(table, ()) and c != "applied_by"]
    query = sql.SQL("SELECT ROW({})::text FROM {} ORDER BY 1").format(
        sql.SQL(", ").join(map(sql.Identifier, wanted)), sql.Identifier(*name)
    )
    cursor.execute(query)
    return [row for (row,) in cursor.fetchall()]


def state(labeller: Labeller) -> dict[str, Any]:
    """All tables and sequences of the database, and all objects: what a check must leave alone."""
    tables = labeller.sql(
        "SELECT n.nspname, c.relname, c.relkind FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'S')"
        " AND n.nspname IN ('public', 'runbook') ORDER BY 1, 2"
    )
    found: dict[str, Any] = {"objects": objects(labeller)}
    session = labeller.connect()
    with session.cursor() as cursor:
        for schema, name, kind in tables:
            if kind == "r":
                found[f"{schema}.{name}"] = fingerprint.of_table(cursor, schema, name)
            else:
                cursor.execute(
                    sql.SQL("SELECT last_value, is_called FROM {}").format(
                        sql.Identifier(schema, name)
                    )
                )
                found[f"{schema}.{name}"] = cursor.fetchone()
    session.close()
    return found


def objects(labeller: Labeller) -> dict[str, str]:
    listed = labeller.s3.list_objects_v2(Bucket=labeller.bucket).get("Contents", [])
    return {entry["Key"]: entry["ETag"] for entry in listed}


def uploads(labeller: Labeller) -> list[str]:
    found = labeller.s3.list_multipart_uploads(Bucket=labeller.bucket)
    return [entry["Key"] for entry in found.get("Uploads", [])]
