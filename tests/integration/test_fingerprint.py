"""Fingerprints: independent of order, sensitive to every value, additive."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import fingerprint, postgres
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cursor(database: dict[str, Any]) -> Iterator[Any]:
    with postgres.connect(database) as session, session.cursor() as cursor:
        yield cursor


def test_equals_an_independent_computation(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t AS SELECT i, 'x' || i AS name FROM generate_series(1, 500) AS i")
    digests = [hashlib.md5(f"({i},x{i})".encode()).hexdigest() for i in range(1, 501)]
    high, low = (sum(int(d[s], 16) for d in digests) % 2**64 for s in (slice(16), slice(16, 32)))
    assert fingerprint.of_table(cursor, "public", "t") == (500, f"md5sum:{high:016x}{low:016x}")


def test_order_does_not_matter_and_every_value_does(cursor: Any) -> None:
    cursor.execute("CREATE TABLE a (n int, v text); CREATE TABLE b (n int, v text)")
    cursor.execute("INSERT INTO a VALUES (1, 'x'), (2, NULL), (2, NULL)")
    cursor.execute("INSERT INTO b VALUES (2, NULL), (1, 'x'), (2, NULL)")
    a, b = (fingerprint.of_table(cursor, "public", t) for t in "ab")
    assert a == b
    for change in ("UPDATE b SET v = '' WHERE n = 2", "DELETE FROM b WHERE n = 1",
                   "INSERT INTO b VALUES (3, 'y')"):  # fmt: skip
        cursor.execute("SAVEPOINT s")
        cursor.execute(change)
        assert fingerprint.of_table(cursor, "public", "b") != a
        cursor.execute("ROLLBACK TO s")


def test_parts_combine_to_the_whole(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i")
    parts = [
        fingerprint.of_table(cursor, "public", "t", sql.SQL("i % 3 = {}").format(sql.Literal(k)))
        for k in range(3)
    ]
    assert fingerprint.combine(parts) == fingerprint.of_table(cursor, "public", "t")
    assert fingerprint.combine([]) == fingerprint.EMPTY


def test_an_empty_table_has_the_empty_fingerprint(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (i int)")
    assert fingerprint.of_table(cursor, "public", "t") == fingerprint.EMPTY


def test_columns_leave_out_dropped_and_generated_ones(cursor: Any) -> None:
    cursor.execute(
        "CREATE TABLE t (b int, gone int, a varchar(80), g int GENERATED ALWAYS AS (b + 1) STORED)"
    )
    cursor.execute("ALTER TABLE t DROP COLUMN gone")
    expected = [("b", "integer"), ("a", "character varying(80)")]
    assert fingerprint.columns(cursor, "public", "t") == expected
    assert fingerprint.columns(cursor, "public", "missing") == []
