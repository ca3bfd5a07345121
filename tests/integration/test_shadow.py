"""Shadow tables behave as the real ones do, and leave those alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, postgres, shadow

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
    shadow.create(cursor, empty, copied, "public")
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
    assert shadow.create(cursor, ["lonely"], [], "public") == {"lonely"}
    assert rows(cursor, "SELECT count(*) FROM lonely") == [(0,)]
    assert rows(cursor, "SELECT count(*) FROM public.lonely") == [(10,)]


def test_tables_without_a_shadow_are_the_real_ones_and_cannot_be_written(cursor: Any) -> None:
    create(cursor, [], ["parent"])
    assert rows(cursor, "SELECT count(*) FROM lonely") == [(10,)]
    fails(cursor, "DELETE FROM lonely", psycopg2.errors.ReadOnlySqlTransaction)
    fails(cursor, "DELETE FROM public.parent", psycopg2.errors.ReadOnlySqlTransaction)


def test_missing_tables_are_all_named(cursor: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="has no table missing, more"):
        shadow.create(cursor, ["more"], ["parent", "missing"], "public")


def test_a_shadow_takes_no_lock_that_a_writer_meets(cursor: Any) -> None:
    create(cursor, ["lonely"], [CHILD])
    locks = rows(
        cursor,
        "SELECT DISTINCT l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
        " WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'public'::regnamespace",
    )
    assert set(locks) <= {("AccessShareLock",)}
