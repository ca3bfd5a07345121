"""Fingerprints: independent of order, sensitive to every value, additive."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import fingerprint, postgres
from ansible_collections.labeller.runbook.plugins.module_utils.errors import InvalidInput
from backup_support import HASH64, ROWS
from psycopg2 import sql

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def cursor(database: dict[str, Any]) -> Iterator[Any]:
    with postgres.connect(database) as session, session.cursor() as cursor:
        yield cursor


def test_every_server_computes_the_same(cursor: Any) -> None:
    cursor.execute(ROWS)
    assert fingerprint.of_table(cursor, "public", "t") == (500, HASH64)


def test_text_that_copy_wrote_has_the_same_fingerprint(cursor: Any) -> None:
    """The deep verification of a backup relies on it: there the tables are of text."""
    cursor.execute(ROWS)
    columns = fingerprint.columns(cursor, "public", "t")
    texts = ", ".join(f"{column.name} text" for column in columns)
    cursor.execute(f"CREATE TABLE staged ({texts})")
    copied = io.StringIO()
    cursor.copy_expert("COPY t TO STDOUT", copied)
    copied.seek(0)
    cursor.copy_expert("COPY staged FROM STDIN", copied)
    for like in ("", "md5sum:"):
        cursor.execute(
            fingerprint.sql(
                "public", "staged", columns, cursor.connection.server_version, like=like
            )
        )
        assert cursor.fetchone() == fingerprint.of_table(cursor, "public", "t", like=like)


@pytest.mark.parametrize(
    "column",
    [
        "s",
        "i",
        "b",
        "r",
        "d",
        "even",
        "t",
        "v",
        "c",
        "n",
        "at",
        "a",
        "ip",
        "bytes",
        "special",
        "nothing",
    ],
)
def test_every_column_counts(cursor: Any, column: str) -> None:
    cursor.execute(ROWS)
    before = fingerprint.of_table(cursor, "public", "t")
    changed = {"even": "NOT even", "t": "coalesce(t, 'x0')", "v": "'w'", "c": "c || 'x'",
               "at": "at + '1 us'", "a": "a || 1", "ip": "'10.0.0.2'", "bytes": "bytes || bytes",
               "special": "1", "nothing": "'x'"}.get(column, f"{column} + 1")  # fmt: skip
    cursor.execute(f"UPDATE t SET {column} = {changed} WHERE i = 495")
    assert fingerprint.of_table(cursor, "public", "t") != before


def test_values_that_change_places_do_not_cancel_out(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 2), (3, 4), (5, 5)")
    before = fingerprint.of_table(cursor, "public", "t")
    for swap in (
        "a = b, b = a WHERE a = 1",
        "b = 6 - b WHERE a < 5",
        "a = NULL, b = NULL WHERE a = 5",
    ):
        cursor.execute(f"SAVEPOINT s; UPDATE t SET {swap}")
        assert fingerprint.of_table(cursor, "public", "t") != before
        cursor.execute("ROLLBACK TO s")


def test_like_an_older_servers(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t AS SELECT i, 'x' || i AS name FROM generate_series(1, 500) AS i")
    digests = [hashlib.md5(f"({i},x{i})".encode()).hexdigest() for i in range(1, 501)]
    high, low = (sum(int(d[s], 16) for d in digests) % 2**64 for s in (slice(16), slice(16, 32)))
    found = fingerprint.of_table(cursor, "public", "t", like="md5sum:00")
    assert found == (500, f"md5sum:{high:016x}{low:016x}")
    with pytest.raises(InvalidInput, match="this server is older"):
        fingerprint.method(100000, "hash64:00")


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


def test_an_empty_table_has_the_empty_fingerprint(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (i int)")
    assert fingerprint.of_table(cursor, "public", "t") == (0, "hash64:" + "0" * 16)


def test_columns_leave_out_dropped_and_generated_ones(cursor: Any) -> None:
    cursor.execute(
        "CREATE TABLE t (b int, gone int, a varchar(80), g int GENERATED ALWAYS AS (b + 1) STORED)"
    )
    cursor.execute("ALTER TABLE t DROP COLUMN gone")
    expected = [("b", "integer"), ("a", "character varying(80)")]
    assert fingerprint.columns(cursor, "public", "t") == expected
    assert fingerprint.columns(cursor, "public", "missing") == []
