"""Indexes that a restore drops and makes again, and those that it must leave where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore, swap
from backup_support import execute, parameters, url

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What makes an index what it is, and its oid, which only one that was not dropped keeps.
INDEXES = """
    SELECT c.relname, c.oid, pg_get_indexdef(c.oid), i.indisprimary, i.indisreplident, s.spcname,
           k.contype
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
    LEFT JOIN pg_constraint k ON k.conindid = c.oid
    WHERE i.indrelid = 'grid'::regclass ORDER BY 1
"""


@pytest.fixture
def params(
    database: dict[str, Any], aws: dict[str, Any], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setattr(swap, "_REBUILD_ROWS", 100)
    execute(
        database,
        """CREATE TABLE grid (id int PRIMARY KEY, name text NOT NULL, n int);
           CREATE INDEX grid_n ON grid (n);
           INSERT INTO grid SELECT i, 'GH' || i, -i FROM generate_series(1, 300) AS i""",
    )
    return parameters(database, aws, bucket, tables=["grid"])


@pytest.fixture
def tablespace(params: dict[str, Any]) -> Iterator[str]:
    name = params["login_db"] + "_space"
    session = psycopg2.connect(url(params), options="-c allow_in_place_tablespaces=on")
    session.autocommit = True
    session.cursor().execute(f"CREATE TABLESPACE {name} LOCATION ''")
    yield name
    for statement in ("DROP TABLE grid", "CHECKPOINT", f"DROP TABLESPACE {name}"):
        session.cursor().execute(statement)
    session.close()


def restored(params: dict[str, Any], **login: str) -> tuple[set[str], list[Any], list[Any]]:
    """The indexes that kept their oid, and all of them before and after, without."""
    make.present(params, False)
    before = execute(params, INDEXES)
    execute(params, "DELETE FROM grid WHERE id < 50")
    restore.restored({**params, **login}, False)
    after = execute(params, INDEXES)
    kept = {row[0] for row in before} & {
        new[0] for new, old in zip(after, before, strict=True) if new[1] == old[1]
    }
    return kept, [(row[0], *row[2:]) for row in before], [(row[0], *row[2:]) for row in after]


def test_a_primary_key_is_made_again_as_one(params: dict[str, Any]) -> None:
    kept, before, after = restored(params)
    assert kept == set()
    assert after == before


def test_tablespaces_and_replication_keep_theirs(params: dict[str, Any], tablespace: str) -> None:
    execute(params, f"CREATE INDEX elsewhere ON grid (name) TABLESPACE {tablespace};"
            "CREATE UNIQUE INDEX replicated ON grid (name);"
            "ALTER TABLE grid REPLICA IDENTITY USING INDEX replicated")  # fmt: skip
    kept, before, after = restored(params)
    assert kept == {"elsewhere", "replicated"}
    assert after == before


def test_who_does_not_own_the_table_drops_none(params: dict[str, Any]) -> None:
    user = params["login_db"] + "_user"
    execute(params, f"CREATE ROLE {user} LOGIN PASSWORD 'test';"
            f"GRANT SELECT, INSERT, TRUNCATE ON grid TO {user}")  # fmt: skip
    try:
        kept, before, after = restored(params, login_user=user)
    finally:
        execute(params, f"DROP OWNED BY {user}; DROP ROLE {user}")
    assert kept == {"grid_n", "grid_pkey"}
    assert after == before
    assert execute(params, "SELECT count(*) FROM grid") == [(300,)]
