"""Whatever is in a table comes back: random schemas and rows through backup and restore."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg2
import psycopg2.sql
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore
from backup_support import execute, parameters, url
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=12
) | st.sampled_from(
    ["", "\\.", "\\N", "NULL", '"', ",", "\n", "\r\n", "\\", "'", " ", "\t", "é漢😀"]
)
INT = st.integers(-(2**31), 2**31 - 1).map(str) | st.sampled_from(["0", "2147483647"])
DATE = st.dates().map(str) | st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31"]
)


def array(element: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def quoted(value: str | None) -> str:
        return (
            "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        )

    return st.lists(st.none() | element, max_size=4).map(
        lambda items: "{" + ",".join(map(quoted, items)) + "}"
    )


#: Types in reach, and texts that PostgreSQL takes for values of them.
TYPES: dict[str, st.SearchStrategy[str]] = {
    "integer": INT,
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "boolean": st.sampled_from(["t", "f"]),
    "text": TEXT,
    "character varying(12)": TEXT,
    "character(12)": TEXT,
    '"char"': st.sampled_from(["x", "", "\\101"]),
    "bytea": st.binary(max_size=20).map(lambda value: "\\x" + value.hex()),
    "numeric": st.decimals(allow_infinity=False).map(str).filter(lambda v: v not in ("sNaN", "-sNaN", "-NaN"))
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "1.10", "1.1", "1e-16383", "9" * 200 + "." + "9" * 200]),
    "numeric(10,3)": st.integers(-(10**9), 10**9).map(lambda v: f"{v / 1000:.3f}"),
    "double precision": st.floats().map(str) | st.sampled_from(["-0", "NaN", "Infinity", "-Infinity", "5e-324"]),
    "real": st.floats(width=32).map(str),
    "date": DATE,
    "timestamp with time zone": st.datetimes().map(str) | st.sampled_from(["infinity", "-infinity", "0044-03-15 12:00 BC"]),
    "timestamp(3) without time zone": st.datetimes().map(str),
    "interval": st.sampled_from(["1 year -2 mons 3 days 04:05:06.789", "-1 day", "178000000 years", "0"]),
    "uuid": st.uuids().map(str),
    "json": st.sampled_from(['{"a" : 1, "a":2}', "[]", '"\\u00e9"', "null", '  {"x": "y\\n"}']),
    "jsonb": st.sampled_from(['{"a": [1, 2, {"b": null}]}', "[]", '"x\\"y"']),
    "integer[]": array(INT),
    "text[]": array(TEXT),
    "text[][]": st.sampled_from(["{{a,b},{c,NULL}}", "{}", "[0:1]={a,b}"]),
    "point": st.sampled_from(["(1,2)", "(-0,1e300)", "(NaN,Infinity)"]),
    "polygon": st.just("((0,0),(0,1),(1,1))"),
    "int4range": st.sampled_from(["[1,5)", "empty", "(,3)", "(,)"]),
    "inet": st.sampled_from(["10.0.0.1/8", "::1"]),
    "bit varying": st.sampled_from(["", "101", "0"]),
    "money": st.sampled_from(["1.50", "-2.00"]),
    "tsvector": st.sampled_from(["a fat cat", "'it''s':1A"]),
    "mood": st.sampled_from(["sad", "so, so"]),
    "pair": st.sampled_from(["(1,x)", '(,"a,b")', "(,)"]),
}  # fmt: skip

NAME = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8
).filter(lambda name: len(name.encode()) <= 60)
TABLE = st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=6).flatmap(
    lambda types: st.tuples(
        st.just(types),
        st.lists(NAME, min_size=len(types), max_size=len(types), unique=True),
        st.lists(st.tuples(*(st.none() | TYPES[kind] for kind in types)), max_size=8),
    )
)
_numbers = itertools.count()


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(
        database, "CREATE TYPE mood AS ENUM ('sad', 'so, so'); CREATE TYPE pair AS (a int, b text)"
    )
    return parameters(database, aws, bucket, jobs=1)


TABLES = given(TABLE, NAME, st.sampled_from(["DELETE FROM {}", "TRUNCATE {}", "DELETE FROM {0} WHERE ctid IN (SELECT ctid FROM {0} LIMIT 1)",
                                             "INSERT INTO {0} SELECT * FROM {0}"]))  # fmt: skip


def examples(number: int) -> settings:
    """So many examples, none of which is made smaller."""
    return settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )


@examples(5)
@TABLES
def test_every_row_comes_back(params: dict[str, Any], shape: Any, name: str, harm: str) -> None:
    comes_back(params, shape, name, harm)


@pytest.mark.campaign
@examples(60)
@TABLES
def test_every_row_of_many_tables_comes_back(
    params: dict[str, Any], shape: Any, name: str, harm: str
) -> None:
    comes_back(params, shape, name, harm)


def comes_back(params: dict[str, Any], shape: Any, name: str, harm: str) -> None:
    """Back up a table, harm it and restore it."""
    types, columns, rows = shape
    quote = psycopg2.sql.Identifier
    number = next(_numbers)
    table = quote(f"{name}{number}")
    session = psycopg2.connect(url(params))
    try:
        cursor = session.cursor()
        definition = psycopg2.sql.SQL(", ").join(
            psycopg2.sql.SQL("{} " + kind).format(quote(column))
            for column, kind in zip(columns, types, strict=True)
        )
        cursor.execute(psycopg2.sql.SQL("CREATE TABLE {} ({})").format(table, definition))
        values = psycopg2.sql.SQL(", ").join(
            psycopg2.sql.SQL("%s::text::" + kind) for kind in types
        )
        insert = psycopg2.sql.SQL("INSERT INTO {} VALUES ({})").format(table, values)
        for row in rows:
            cursor.execute("SAVEPOINT row")
            try:
                cursor.execute(
                    insert.as_string(cursor).replace("%", "%%").replace("%%s::text", "%s::text"),
                    row,
                )
            except psycopg2.DataError:  # no value of the type after all
                cursor.execute("ROLLBACK TO row")
        session.commit()
        read = psycopg2.sql.SQL("SELECT ROW(t.*)::text FROM {} AS t ORDER BY 1").format(table)
        cursor.execute(read)
        before = cursor.fetchall()
        session.commit()
        chosen = {
            **params,
            "tables": [f"{name}{number}"],
            "prefix": f"b/{number}",
            "verify": "deep",
        }
        held = make.present(chosen, False)["manifest"]["tables"][f"{name}{number}"]
        assert held["rows"] == len(before)
        cursor.execute(psycopg2.sql.SQL(harm).format(table))
        session.commit()
        planned = restore.restored(chosen, True)
        done = restore.restored(chosen, False)
        assert (planned["diff"], planned["tables"]) == (done["diff"], done["tables"])
        cursor.execute(read)
        assert cursor.fetchall() == before
        session.commit()
        assert not restore.restored(chosen, False)["changed"]
        cursor.execute(psycopg2.sql.SQL("DROP TABLE {}").format(table))
        session.commit()
    finally:
        session.close()
