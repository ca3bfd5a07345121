# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The run marker: one row in ``runbook.run_marker`` for each run that was applied or restored.

Written inside the transaction that makes the run, so it is there exactly when the run is. The
newest row is the run in place. ``pending_uploads`` holds, from the commit until they are completed,
the tokens of the run's S3 objects (``staged_upload.Staged``); ``made_with`` holds, as JSON, the
parameters that the run was made with and that cannot be changed in a run.

A row whose mode is not one of ``RUN_MODES`` marks tables that are no known run: another geography,
or a restored backup that does not say which run it holds.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import postgres
from .staged_upload import Staged

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable

TABLE = "run_marker"
COLUMNS = ("mode", "aoi_name", "aoi_index", "run_id")
RUN_MODES = ("initial", "single", "regular")
DEFINITION = """(
    id serial PRIMARY KEY,
    mode text NOT NULL,
    aoi_name text NOT NULL,
    aoi_index integer NOT NULL,
    run_id integer NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    applied_by text NOT NULL,
    backup_id text,
    pending_uploads text,
    made_with text
)"""

#: The tables that make a run what it is; a restore of them all restores a run.
RUN_TABLES = ("incoming_names", "iteration_metrics", "kml_data")
#: The marker of restored tables that no backup says the run of.
RESTORED: Mapping[str, Any] = {"mode": "restored", "aoi_name": "", "aoi_index": 0, "run_id": 0}

#: The columns of those tables that ``inconsistencies`` reads.
USED: Mapping[str, Sequence[str]] = {
    "incoming_names": ("name", "run", "processed"),
    "iteration_metrics": ("run", "iteration", "aoi"),
    "kml_data": ("name", "kml_type"),
}
#: By name, what must hold of the tables of a run: a query of one line for each breach.
_AGREEMENT = {
    "incoming_names": """
        SELECT format('incoming_names has no names of run %%s', %(run_id)s)
        WHERE NOT EXISTS (SELECT 1 FROM {incoming_names} AS n WHERE n.run = %(run_id)s)
        UNION ALL
        SELECT format('incoming_names has %%s unprocessed names of run %%s', count(*), n.run)
        FROM {incoming_names} AS n WHERE NOT n.processed AND n.run <> %(run_id)s GROUP BY n.run
        """,
    "iteration_metrics": """
        SELECT coalesce(
            (SELECT format('iteration_metrics has run %%s on AOI %%s', %(run_id)s, m.aoi)
             FROM {iteration_metrics} AS m
             WHERE m.run = %(run_id)s AND m.iteration = 0 LIMIT 1),
            format('iteration_metrics has no iteration 0 of run %%s', %(run_id)s))
        WHERE NOT EXISTS (SELECT 1 FROM {iteration_metrics} AS m WHERE m.run = %(run_id)s
                          AND m.iteration = 0 AND m.aoi::text = %(aoi_index)s::text)
        """,
    "kml_data": """
        SELECT format('kml_data has %%s sites of type F that are not names of run %%s, as %%s',
                      count(*), %(run_id)s, min(k.name))
        FROM {kml_data} AS k
        WHERE k.kml_type = 'F' AND NOT EXISTS (
            SELECT 1 FROM {incoming_names} AS n WHERE n.run = %(run_id)s AND n.name = k.name)
        HAVING count(*) > 0
        """,
}


def exists(cursor: Cursor) -> bool:
    """Whether any run was ever applied here."""
    return postgres.has_table(cursor, "runbook.run_marker")


def create(cursor: Cursor) -> None:
    """Make the table where there is none, and the columns that an older version's lacks."""
    if not exists(cursor):
        create_schema(cursor)
        cursor.execute("CREATE TABLE runbook.run_marker {}".format(DEFINITION))
    elif not has_column(cursor, "made_with"):
        cursor.execute("ALTER TABLE runbook.run_marker ADD COLUMN made_with text")


def create_schema(cursor: Cursor) -> None:
    """Make the schema where there is none.

    Of a role without CREATE on the database IF NOT EXISTS is refused, also where it exists.
    """
    cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'runbook'")
    if not cursor.rowcount:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS runbook")


def has_column(cursor: Cursor, name: str) -> bool:
    """Whether the table, or its shadow in a check, has a column."""
    query = (
        "SELECT 1 FROM pg_attribute WHERE attrelid = coalesce("
        "to_regclass('pg_temp.run_marker'), to_regclass('runbook.run_marker'))"
        " AND attname = %s AND NOT attisdropped"
    )
    return postgres.value(cursor, query, (name,)) is not None


def current(cursor: Cursor) -> Optional[Dict[str, Any]]:
    """The run in place, its columns by name (times as ISO texts); None when there is none."""
    if not exists(cursor):
        return None
    cursor.execute(
        "SELECT mode, aoi_name, aoi_index, run_id, applied_at, applied_by, backup_id,"
        " pending_uploads IS NOT NULL, row_to_json(m)->>'made_with'"
        " FROM runbook.run_marker AS m ORDER BY id DESC LIMIT 1"
    )
    row = cursor.fetchone()
    if row is None:
        return None
    names = (*COLUMNS, "applied_at", "applied_by", "backup_id", "uploads_pending", "made_with")
    found = dict(zip(names, row))
    found["applied_at"] = found["applied_at"].isoformat()
    found["made_with"] = json.loads(found["made_with"] or "{}")
    return found


def saved(cursor: Cursor) -> Optional[Dict[str, Any]]:
    """The entry of a backup's manifest about the run in place."""
    found = current(cursor)
    if found is None:
        return None
    return {name: found[name] for name in (*COLUMNS, "applied_at", "made_with")}


def is_run(marked: Optional[Mapping[str, Any]]) -> bool:
    """Whether a marker (``current``) is one of a run."""
    return marked is not None and marked["mode"] in RUN_MODES


def is_same(marked: Optional[Mapping[str, Any]], run: Optional[Mapping[str, Any]]) -> bool:
    """Whether both are the same run: mode, AOI and number. None and None are."""
    if marked is None or run is None:
        return marked is run
    return all(marked[name] == run[name] for name in COLUMNS)


def text(run: Optional[Mapping[str, Any]]) -> str:
    """A run in words."""
    if run is None:
        return "no run"
    if not is_run(run):
        return {"geography": "another geography, no run"}.get(
            run["mode"], "restored tables of an unknown run"
        )
    values: Dict[str, Any] = {name: run[name] for name in COLUMNS}
    return "{mode} run {run_id} on {aoi_name}, AOI {aoi_index}".format(**values)


def inconsistencies(
    cursor: Cursor,
    run: Optional[Mapping[str, Any]],
    tables: Optional[Mapping[str, Composable]] = None,
) -> List[str]:
    """Contradictions between the tables and ``run``; none when they are its tables.

    The one definition of whether marker and tables agree: the run's names are there, and no
    unprocessed ones of another run; its first iteration is that of its AOI; every site of type F in
    the queue is one of its names. A marker that is not one of a run contradicts nothing.
    ``tables`` gives other places for some of ``RUN_TABLES``, which are labeller's own otherwise.
    """
    if run is None or not is_run(run):
        return []
    places: Dict[str, Composable] = {}
    for name in RUN_TABLES:
        if tables and name in tables:
            places[name] = tables[name]
            continue
        if not postgres.has_table(cursor, "public." + name):
            return ["there is no table {}".format(name)]
        places[name] = _sql.Identifier("public", name)
    found: List[str] = []
    for query in _AGREEMENT.values():
        found += postgres.column(cursor, _sql.SQL(query).format(**places), dict(run))
    return found


def open_names(cursor: Cursor, run: Mapping[str, Any]) -> Tuple[int, int]:
    """How many names of a run are unprocessed, and of how many; of any run when it is unknown."""
    if not postgres.has_table(cursor, "public.incoming_names"):
        return 0, 0
    cursor.execute(
        "SELECT count(*) FILTER (WHERE NOT processed), count(*) FROM public.incoming_names"
        " WHERE run = %(run_id)s OR NOT %(known)s",
        {"run_id": run["run_id"], "known": is_run(run)},
    )
    row = cursor.fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def insert(
    cursor: Cursor,
    run: Mapping[str, Any],
    *,
    backup_id: Optional[str],
    made_with: Optional[Mapping[str, Any]],
    applied_at: Optional[str] = None,
    how: str = "",
    table: Sequence[str] = (TABLE,),
) -> int:
    """Mark ``run`` as the one in place, since now unless ``applied_at`` says otherwise; its id."""
    values: Dict[str, Any] = {
        **{name: run[name] for name in COLUMNS},
        "applied_at": applied_at,
        "backup_id": backup_id,
        "how": how,
    }
    columns, places = _sql.SQL(""), _sql.SQL("")
    if has_column(cursor, "made_with"):
        values["made_with"] = json.dumps(made_with or {}, sort_keys=True)
        columns, places = _sql.SQL(", made_with"), _sql.SQL(", %(made_with)s")
    statement = _sql.SQL(
        "INSERT INTO {} (mode, aoi_name, aoi_index, run_id, applied_at, applied_by, backup_id{})"
        " VALUES (%(mode)s, %(aoi_name)s, %(aoi_index)s, %(run_id)s,"
        " coalesce(%(applied_at)s::timestamptz, now()), %(how)s ||"
        " session_user || '@' || coalesce(host(inet_client_addr()), 'local'), %(backup_id)s{})"
        " RETURNING id"
    )
    query = statement.format(_sql.Identifier(*table), columns, places)
    return int(postgres.value(cursor, query, values))


def pending(cursor: Cursor) -> Dict[int, List[Staged]]:
    """By the marker's id, the uploads that were staged but are not known to be completed."""
    if not exists(cursor):
        return {}
    cursor.execute(
        "SELECT id, pending_uploads FROM runbook.run_marker"
        " WHERE pending_uploads IS NOT NULL ORDER BY id"
    )
    return {row: [Staged(**token) for token in json.loads(text)] for row, text in cursor.fetchall()}


def set_pending(cursor: Cursor, row: int, uploads: Sequence[Staged]) -> None:
    """Note in a marker the uploads that are to be completed; with none, that all are."""
    text = json.dumps([upload.token() for upload in uploads]) if uploads else None
    cursor.execute("UPDATE runbook.run_marker SET pending_uploads = %s WHERE id = %s", (text, row))
