"""Labeller's own statements against what each mode leaves, and what names a broken definition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
import test_old_way as old
import transaction_support as support
import yaml
from ansible_collections.labeller.runbook.plugins.module_utils import errors
from ansible_collections.labeller.runbook.plugins.module_utils.step import Transaction

if TYPE_CHECKING:
    from labeller_support import Labeller

STATEMENTS: dict[str, list[str]] = {
    name: [text] if isinstance(text, str) else text
    for name, text in yaml.safe_load(
        (Path(__file__).parents[1] / "cases" / "labeller_statements.yml").read_text()
    ).items()
}
#: Those whose last statement finds or changes a row whatever the mode is.
FINDS = {
    "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9", "M10", "M11", "M12", "M12-Q", "M13", "M14",
    "M15", "M16", "M17", "M18", "M19", "M20", "M20-try", "M21", "M22", "M23", "M24", "M25", "M26",
    "M27", "M28", "M29", "M30", "A1", "A2", "A4", "G1", "G3", "G5", "G6", "G7", "G8", "G9", "G10",
    "N1", "N3", "N4", "N5", "W1", "W2", "I1", "I2", "I3", "I4", "I5", "R1", "R2-insert", "P1",
    "P2", "P3", "P4", "P5", "P6", "P7", "P10", "P11", "P12", "P13", "P14", "P15", "P16", "R2",
    "R12", "L1", "L2",
}  # fmt: skip


def next_run(labeller: Labeller) -> list[Any]:
    """The run of reset.yml, after one of regular.yml."""
    support.apply(labeller, *old.ours("regular", 91))
    _, *rest = old.ours("regular", 92)
    marker = support.step(
        "run_marker",
        mode="regular",
        aoi_name="ghana",
        aoi_index=1,
        run_id=92,
        follows=True,
        replaced_run="91",
    )
    return [marker, *rest]


MODES = {
    "initial": lambda _labeller: old.ours("initial", 0),
    "single": lambda _labeller: old.ours("single", 0),
    "regular": lambda _labeller: old.ours("regular", 91),
    "reset": next_run,
}


def one(cursor: Any, query: str) -> Any:
    cursor.execute(query)
    return cursor.fetchone()[0]


def mapper_at_work(cursor: Any) -> dict[str, object]:
    """A worker with an open assignment of the run's first site, and the names of other cells."""
    name = one(cursor, "SELECT name FROM kml_data WHERE kml_type = 'F' ORDER BY gid LIMIT 1")
    i_name = one(cursor, "SELECT name FROM kml_data WHERE kml_type = 'I' ORDER BY gid LIMIT 1")
    worker = one(cursor, "SELECT worker_id FROM worker_data WHERE qualified ORDER BY 1 LIMIT 1")
    hit = one(
        cursor,
        f"INSERT INTO hit_data (name, create_time, max_assignments, duration, reward) "
        f"VALUES ('{name}', now(), 5, 86400, 22) RETURNING hit_id",
    )
    assignment = one(
        cursor,
        f"INSERT INTO assignment_data (hit_id, worker_id, start_time, status) "
        f"VALUES ({hit}, {worker}, now() - interval '3 days', 'Assigned') RETURNING assignment_id",
    )
    qual_assignment = one(
        cursor,
        f"INSERT INTO qual_assignment_data (worker_id, name, tries, start_time, status) "
        f"VALUES ({worker}, '{i_name}', 1, now(), 'Assigned') RETURNING assignment_id",
    )
    return {
        "name": name, "i_name": i_name, "worker": worker, "hit": hit, "assignment": assignment,
        "qual_assignment": qual_assignment, "limit": 5, "visitor": 999999,
        "q_name": one(cursor, "SELECT name FROM kml_data WHERE kml_type = 'Q' ORDER BY gid LIMIT 1"),
        "q_gid": one(cursor, "SELECT min(gid) FROM kml_data WHERE kml_type = 'Q'"),
        "free_name": one(cursor, "SELECT name FROM master_grid WHERE avail = 'T' LIMIT 1"),
        "cells": one(cursor, "SELECT string_agg(DISTINCT cell_id::text, ', ') FROM scenes_data"),
    }  # fmt: skip


def failing(labeller: Labeller) -> dict[str, str]:
    """The failures of the statements, each in a transaction that is rolled back."""
    found = {}
    session = labeller.connect()
    with session.cursor() as cursor:
        postgis = one(cursor, "SELECT to_regproc('st_makevalid') IS NOT NULL")
        for name, texts in STATEMENTS.items():
            if not postgis and any("ST_" in text or "spatial_ref_sys" in text for text in texts):
                continue
            try:
                values = mapper_at_work(cursor)
                for text in texts:
                    cursor.execute(text.format(**values))
                if name in FINDS and cursor.rowcount < 1:
                    found[name] = "no row"
            except psycopg2.Error as error:
                found[name] = str(error)
            session.rollback()
    session.close()
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_statement_of_labeller_works_on_what_a_mode_leaves(
    labeller: Labeller, mode: str
) -> None:
    assert set(STATEMENTS) > FINDS
    support.apply(labeller, *MODES[mode](labeller))
    assert failing(labeller) == {}
    labeller.sql("UPDATE worker_data SET qualified = false WHERE worker_id > 100")
    labeller.sql("INSERT INTO worker_data (worker_id) VALUES (999999)")
    assert labeller.sql("SELECT qualified FROM worker_data WHERE worker_id = 999999") == [(False,)]


_STATUS = "assignment_data_status_check"
#: A change of the definitions; the statements that it makes fail; what the invariant says.
BROKEN = [
    ("ALTER TABLE kml_data ADD fwts integer DEFAULT 1", {"M12", "M12-Q"}, "kml_data has a column fwts, as master_grid has"),
    ("ALTER TABLE master_grid ADD kml_type text", {"M11", "M12", "M12-Q"}, "master_grid has a column kml_type"),
    ("ALTER TABLE kml_data ADD x real", {"M9", "P7"}, "kml_data has a column x"),
    ("ALTER TABLE kml_data ADD reward integer", {"M15", "W1"}, "kml_data has a column reward, as hit_data"),
    ("ALTER TABLE hit_data ADD status text", {"M25", "P4", "R10"}, "hit_data has a column status"),
    ("ALTER TABLE assignment_data ADD reward text", {"M28"}, "assignment_data has a column reward"),
    ("ALTER TABLE iteration_metrics ADD usage text", {"G1", "G2", "G4"}, "iteration_metrics has a column usage"),
    ("ALTER TABLE qual_assignment_data ADD gid integer", {"P14"}, "qual_assignment_data has a column gid"),
    ("ALTER TABLE users ADD qualified boolean", {"W2"}, "users has a column qualified"),
    ("ALTER TABLE categories ADD name text", {"R2", "R11"}, "categories has a column name"),
    ("ALTER TABLE kml_data DROP mappers_needed", {"M12", "M12-Q", "M13", "G5"}, "kml_data has no column mappers_needed"),
    ("DROP TABLE accuracy_data", {"R2", "R10"}, "there is no table accuracy_data"),
    ("ALTER TABLE kml_data ADD colour text NOT NULL DEFAULT 'red'; ALTER TABLE kml_data ALTER colour DROP DEFAULT", {"N3", "R2-insert"}, "kml_data.colour is NOT NULL without a default"),
    ("ALTER TABLE worker_data ALTER scores DROP DEFAULT", {"P11"}, "worker_data.scores is NOT NULL without a default"),
    ("ALTER TABLE worker_data ALTER qualified SET DEFAULT true", set(), "worker_data.qualified does not default to false"),
    ("ALTER TABLE incoming_names ALTER label DROP DEFAULT", {"I5", "L2"}, "incoming_names.label does not default to false"),
    ("ALTER TABLE assignment_history ALTER event_time DROP DEFAULT, ALTER event_time SET NOT NULL", {"M30"}, "assignment_history.event_time is NOT NULL"),
    ("ALTER TABLE master_grid ALTER date TYPE date USING date::date", set(), "master_grid.date is of type date"),
    (
        "ALTER TABLE incoming_names DROP label, DROP usage, ADD label boolean NOT NULL DEFAULT false, ADD usage text",
        set(), "in the order name, run, iteration, processed, label, usage",
    ),
    (
        f"ALTER TABLE assignment_data DROP CONSTRAINT {_STATUS}, ADD CONSTRAINT {_STATUS} CHECK (status IN ('Accepted', 'Approved'))",
        {"setup"}, f"the constraint {_STATUS} of assignment_data refuses status Assigned, Abandoned",
    ),
]  # fmt: skip


def test_what_would_break_a_statement_is_named(labeller: Labeller) -> None:
    support.apply(labeller, *old.ours("initial", 0))
    invariant = support.step("database_consistent", refuse=["statements"])
    support.apply(labeller, invariant)
    for change, broken, said in BROKEN:
        session = labeller.connect()
        with session.cursor() as cursor:
            cursor.execute(change)
            tx = Transaction(cursor, labeller.options, check=True)
            with pytest.raises(errors.Refused) as refused:
                invariant.run(tx)
            assert said in str(refused.value), change
            for name in broken:
                cursor.execute("SAVEPOINT before")
                with pytest.raises(psycopg2.Error):  # noqa: PT012 - any of a list may be the one
                    values = mapper_at_work(cursor)  # an assignment is Assigned: the page's P5
                    for text in STATEMENTS["P5" if name == "setup" else name]:
                        cursor.execute(text.format(**values))
                cursor.execute("ROLLBACK TO before")
        session.close()
