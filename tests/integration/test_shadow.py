"""Shadow tables behave as the real ones do, and leave those alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import (
    errors,
    overlay,
    postgres,
    shadow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = '''
CREATE SEQUENCE "odd Seq" INCREMENT 5;
CREATE TABLE parent (
    id integer PRIMARY KEY DEFAULT nextval('"odd Seq"'),
    code char(2) NOT NULL CHECK (code <> 'zz'), UNIQUE (code)
);
CREATE TABLE other (id serial PRIMARY KEY);
CREATE TABLE "Child ""one""" (
    number integer GENERATED ALWAYS AS IDENTITY (START 10),
    "Parent" integer REFERENCES parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    other integer REFERENCES other,
    doubled integer GENERATED ALWAYS AS ("Parent" * 2) STORED,
    note varchar(5) DEFAULT 'n/a'
);
CREATE UNIQUE INDEX "Child USING note" ON "Child ""one""" (lower(note)) WHERE note <> 'n/a';
INSERT INTO parent (code) VALUES ('aa'), ('bb');
INSERT INTO other DEFAULT VALUES;
INSERT INTO "Child ""one""" ("Parent", other) VALUES (1, 1), (6, 1), (NULL, NULL);
CREATE TABLE lonely (n integer);
INSERT INTO lonely SELECT generate_series(1, 10);
'''
CHILD = 'Child "one"'
NAME = '"Child ""one"""'


@pytest.fixture
def cursor(database: dict[str, Any]) -> Iterator[Any]:
    with postgres.connect(database) as session, session.cursor() as cursor:
        cursor.execute(SCHEMA)
        session.commit()
        yield cursor


def create(cursor: Any, empty: list[str], copied: list[str]) -> None:
    shadow.create(cursor, empty, copied, {})
    cursor.execute("SET TRANSACTION READ ONLY")


def rows(cursor: Any, query: str) -> list[tuple[Any, ...]]:
    cursor.execute(query)
    return list(cursor.fetchall())


def fails(cursor: Any, statement: str, error: type[Exception]) -> None:
    cursor.execute("SAVEPOINT s")
    with pytest.raises(error):
        cursor.execute(f"{statement}; SET CONSTRAINTS ALL IMMEDIATE")
    cursor.execute("ROLLBACK TO s")


def test_rows_are_copied_and_writes_stay_in_the_shadow(cursor: Any) -> None:
    before = rows(cursor, f"SELECT * FROM {NAME} ORDER BY number")
    create(cursor, [], [CHILD])
    assert rows(cursor, f"SELECT * FROM {NAME} ORDER BY number") == before
    cursor.execute(f"DELETE FROM {NAME}")
    assert rows(cursor, f"SELECT * FROM public.{NAME} ORDER BY number") == before
    cursor.connection.rollback()
    assert rows(cursor, f"SELECT * FROM {NAME} ORDER BY number") == before


def test_numbers_go_on_where_the_real_sequences_are(cursor: Any) -> None:
    create(cursor, [], [CHILD, "parent"])
    query = "INSERT INTO parent (code) VALUES ('cc'), ('dd') RETURNING id"
    assert rows(cursor, query) == [(11,), (16,)]
    assert rows(cursor, f"INSERT INTO {NAME} (note) VALUES ('x') RETURNING number") == [(13,)]
    cursor.connection.rollback()
    # nextval is not undone by a rollback; the real sequences were not touched at all.
    assert rows(cursor, "INSERT INTO parent (code) VALUES ('cc') RETURNING id") == [(11,)]
    assert rows(cursor, f"INSERT INTO {NAME} (note) VALUES ('x') RETURNING number") == [(13,)]


def test_a_sequence_that_was_never_used_begins_as_the_real_one(cursor: Any) -> None:
    cursor.execute("CREATE TABLE fresh (id serial, n int)")
    cursor.connection.commit()
    create(cursor, [], ["fresh"])
    assert rows(cursor, "INSERT INTO fresh (n) VALUES (1) RETURNING id") == [(1,)]


def test_constraints_hold(cursor: Any) -> None:
    create(cursor, [], [CHILD])
    fails(cursor, "INSERT INTO parent VALUES (1, 'xx')", psycopg2.errors.UniqueViolation)
    fails(cursor, "INSERT INTO parent (code) VALUES ('aa')", psycopg2.errors.UniqueViolation)
    fails(cursor, "INSERT INTO parent (code) VALUES ('zz')", psycopg2.errors.CheckViolation)
    fails(cursor, "INSERT INTO parent (code) VALUES (NULL)", psycopg2.errors.NotNullViolation)
    foreign = psycopg2.errors.ForeignKeyViolation
    fails(cursor, f'INSERT INTO {NAME} ("Parent") VALUES (99)', foreign)
    fails(cursor, "DELETE FROM other", foreign)
    cursor.execute(f"INSERT INTO {NAME} (note) VALUES ('Ab'), ('n/a'), ('n/a')")
    fails(cursor, f"INSERT INTO {NAME} (note) VALUES ('aB')", psycopg2.errors.UniqueViolation)


def test_cascades_and_generated_columns_work(cursor: Any) -> None:
    create(cursor, [], [CHILD])
    cursor.execute("DELETE FROM parent WHERE id = 1")
    query = f"SELECT number, doubled, note FROM {NAME} ORDER BY number"
    assert rows(cursor, query) == [(11, 12, "n/a"), (12, None, "n/a")]
    cursor.execute(f'UPDATE {NAME} SET "Parent" = NULL')
    assert rows(cursor, f"SELECT DISTINCT doubled FROM {NAME}") == [(None,)]


def test_an_empty_shadow_has_no_rows_and_the_same_columns(cursor: Any) -> None:
    assert shadow.create(cursor, ["lonely"], [], {}) == {"lonely"}
    assert rows(cursor, "SELECT count(*) FROM lonely") == [(0,)]
    assert rows(cursor, "SELECT count(*) FROM public.lonely") == [(10,)]


def test_tables_without_a_shadow_are_the_real_ones_and_cannot_be_written(cursor: Any) -> None:
    create(cursor, [], ["parent"])
    assert rows(cursor, "SELECT count(*) FROM lonely") == [(10,)]
    fails(cursor, "DELETE FROM lonely", psycopg2.errors.ReadOnlySqlTransaction)
    fails(cursor, "DELETE FROM public.parent", psycopg2.errors.ReadOnlySqlTransaction)


def test_missing_tables_are_all_named(cursor: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="has no table missing, more"):
        shadow.create(cursor, ["more"], ["parent", "missing"], {})


def test_a_shadow_takes_no_lock_that_a_writer_meets(cursor: Any) -> None:
    create(cursor, ["lonely"], [CHILD])
    locks = rows(
        cursor,
        "SELECT DISTINCT l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
        " WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'public'::regnamespace",
    )
    assert set(locks) <= {("AccessShareLock",)}


# Views over large tables

LARGE = """
CREATE TABLE grid (
    part integer, gid integer, avail char(1) NOT NULL DEFAULT 'T' CHECK (avail <> 'z'),
    weight integer CHECK (weight < 100), name text, place point,
    twice integer GENERATED ALWAYS AS (gid * 2) STORED, PRIMARY KEY (part, gid)
);
CREATE INDEX ON grid (avail);
INSERT INTO grid SELECT n % 2, n, 'T', n % 7, 'n' || n, point(n, n) FROM generate_series(1, 60) n;
"""

#: Applied in turn to the shadow and to the real table: rows affected, rows returned and errors.
UPDATES = [
    "UPDATE grid SET avail = 'F' WHERE gid < 20",
    "UPDATE grid SET avail = 'F' WHERE avail <> 'F' AND gid < 30",
    # rows that match twice count once
    (
        "UPDATE grid g SET weight = weight + 1 FROM (VALUES (3), (3), (40), (40)) v (gid)"
        " WHERE v.gid = g.gid"
    ),
    (
        "UPDATE grid g SET avail = o.avail, weight = 50 FROM grid o WHERE o.gid = g.gid - 1"
        " RETURNING g.gid, g.avail, g.weight, g.twice"
    ),
    (
        "WITH c AS (UPDATE grid SET avail = 'Q' WHERE gid > 25 RETURNING weight)"
        " SELECT weight, count(*) FROM c GROUP BY 1 ORDER BY 1"
    ),
    "UPDATE grid SET avail = NULL WHERE gid = 5",
    "UPDATE grid SET avail = 'z'",
    "UPDATE grid SET avail = 'two' WHERE gid = 6",
    "UPDATE grid SET weight = weight * 20",
    "UPDATE grid SET weight = NULL WHERE avail = 'F'",
    "UPDATE grid SET weight = 1 WHERE gid = 1000",
    "SELECT avail, count(*), sum(weight) FROM grid GROUP BY 1 ORDER BY 1",
    "SELECT part, gid, avail, weight, name, place::text, twice FROM grid ORDER BY gid",
]


def outcomes(cursor: Any) -> list[Any]:
    """The result of each of UPDATES: rows affected, rows, or the kind of error."""
    found: list[Any] = []
    for statement in UPDATES:
        cursor.execute("SAVEPOINT s")
        try:
            cursor.execute(statement)
            found.append((cursor.rowcount, sorted(cursor.fetchall()) if cursor.description else []))
        except psycopg2.Error as error:
            cursor.execute("ROLLBACK TO s")
            found.append(type(error))
    return found


def kind(cursor: Any, table: str) -> str:
    """r: the shadow is a table, v: it is a view."""
    ((found,),) = rows(cursor, f"SELECT relkind FROM pg_class WHERE oid = '{table}'::regclass")
    return str(found)


@pytest.fixture
def grid(cursor: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(overlay, "LARGE", 0)
    cursor.execute(LARGE)
    cursor.connection.commit()
    return cursor


def test_a_view_does_what_the_table_does(grid: Any) -> None:
    assert shadow.create(grid, [], ["grid"], {"grid": ["avail", "weight"]}) == {"grid"}
    grid.execute("SET TRANSACTION READ ONLY")
    assert kind(grid, "grid") == "v"
    real = rows(grid, "SELECT gid, avail, weight FROM public.grid ORDER BY gid")
    shown = outcomes(grid)
    assert rows(grid, "SELECT gid, avail, weight FROM public.grid ORDER BY gid") == real
    refused = psycopg2.errors.ReadOnlySqlTransaction
    fails(grid, "UPDATE public.grid SET avail = 'F'", refused)
    grid.connection.rollback()
    grid.execute("SET search_path = public")
    assert shown == outcomes(grid)
    assert [errors for errors in shown if isinstance(errors, type)] == [
        psycopg2.errors.NotNullViolation, psycopg2.errors.CheckViolation,
        psycopg2.errors.StringDataRightTruncation, psycopg2.errors.CheckViolation,
    ]  # fmt: skip


def test_a_view_refuses_what_the_step_does_not_declare(grid: Any) -> None:
    shadow.create(grid, [], ["grid"], {"grid": ["avail"]})
    fails(grid, "UPDATE grid SET weight = 1", psycopg2.errors.RaiseException)
    fails(grid, "UPDATE grid SET place = '(1,1)'", psycopg2.errors.RaiseException)
    fails(grid, "DELETE FROM grid", psycopg2.Error)
    fails(grid, "INSERT INTO grid (gid) VALUES (0)", psycopg2.Error)
    grid.execute("UPDATE grid SET avail = 'F', weight = weight")
    assert rows(grid, "SELECT DISTINCT avail FROM grid") == [("F",)]


@pytest.mark.parametrize(
    "more",
    [
        "CREATE UNIQUE INDEX ON grid (gid, avail)",
        "CREATE INDEX ON grid (lower(avail))",
        "CREATE INDEX ON grid (gid) WHERE avail = 'F'",
        "ALTER TABLE grid ADD UNIQUE (avail, gid)",
        "ALTER TABLE grid ADD COLUMN free boolean GENERATED ALWAYS AS (avail = 'T') STORED",
        "ALTER TABLE grid ADD COLUMN other integer REFERENCES other",
        "ALTER TABLE grid DROP CONSTRAINT grid_pkey",
        "ALTER TABLE grid ADD UNIQUE (gid); CREATE TABLE site (gid integer REFERENCES grid (gid))",
        "CREATE TABLE part () INHERITS (grid)",
    ],
)
def test_what_a_view_cannot_hold_makes_a_copy(grid: Any, more: str) -> None:
    grid.execute(more)
    others = ["site"] if "site" in more else []
    shadow.create(grid, [], ["grid", *others], {"grid": ["avail"]})
    assert kind(grid, "grid") == "r"
    assert rows(grid, "SELECT count(*) FROM grid") == [(60,)]


def test_a_small_table_is_copied(grid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    shadow.create(grid, [], ["grid"], {"grid": ["avail"]})
    assert kind(grid, "grid") == "r"


def test_a_view_takes_no_lock_that_a_writer_meets_and_no_space(grid: Any) -> None:
    shadow.create(grid, [], ["grid"], {"grid": ["avail"]})
    grid.execute("UPDATE grid SET avail = 'F' WHERE gid = 7")
    assert rows(
        grid,
        "SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid()"
        " AND relation IN ('public.grid'::regclass, 'public.grid_pkey'::regclass)",
    ) == [("AccessShareLock",)]
    delta = "(SELECT oid FROM pg_class WHERE relname LIKE 'runbook_delta%%' AND relkind = 'r')"
    assert rows(grid, f"SELECT pg_relation_size({delta})".replace("%%", "%")) == [(8192,)]
