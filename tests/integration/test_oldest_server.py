"""The oldest server: PostgreSQL 10, with every choice made as for 9.4 (``server.assumed``)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import servers
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import (
    errors,
    overlay,
    postgres,
    server,
)
from ansible_collections.labeller.runbook.plugins.module_utils.step import Step, Transaction
from ansible_collections.labeller.runbook.plugins.modules import s3_table_backup
from backup_support import parameters
from labeller_support import Labeller, Template, copied, filled

from runbook.sandbox import postgres as embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

#: One worker makes what the tests of this file share.
pytestmark = pytest.mark.xdist_group("oldest_server")

PROJECT = Path(__file__).resolve().parents[2]
TABLES = ["worker_data", "hit_data", "assignment_data", "kml_data", "user_maps"]


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.PostgresServer]:
    """A server of version 10."""
    if not servers.OLDEST.is_dir():
        pytest.skip("needs PostgreSQL 10: .ci/postgres fetches it by npm")
    with servers.running(tmp_path_factory.mktemp("oldest"), servers.OLDEST) as made:
        yield made


@pytest.fixture(scope="module")
def oldest_template(oldest: embedded.PostgresServer) -> Template:
    return filled(oldest)


@pytest.fixture
def old(
    oldest: embedded.PostgresServer,
    oldest_template: Template,
    aws: dict[str, Any],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Labeller]:
    """A labeller on it."""
    monkeypatch.setattr(server, "assumed", server.OLDEST)
    with copied(oldest, oldest_template, aws, bucket) as made:
        yield made


def test_the_version_is_what_is_assumed(old: Labeller) -> None:
    with postgres.connect(old.options) as session:
        assert 100000 <= session.server_version < 110000
        assert server.version(session) == 90400


@pytest.mark.parametrize("large", [0, 1 << 62], ids=["views", "copies"])
def test_the_chain_of_regular_production(
    old: Labeller, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(overlay, "LARGE", large)
    chain = [
        *support.regular(), support.step("configuration", settings={"InitialFnum": 50}),
        support.step("database_consistent", refuse=["static_cells", "queue_names", "scenes"]),
    ]  # fmt: skip
    before = support.state(old)
    seen: dict[str, Any] = {}
    predicted = support.check(old, *chain, observe=lambda tx: seen.update(c=support.dump(tx)))
    assert support.state(old) == before
    done = support.apply(old, *chain, observe=lambda tx: seen.update(a=support.dump(tx)))
    assert done == predicted
    assert done["changed"]
    assert {
        table for table, rows in seen["a"].items() if sorted(seen["c"][table]) != sorted(rows)
    } == set()
    assert old.sql("SELECT min(gid) FROM kml_data") == [(1,)]
    assert support.apply(old, *chain)["in_place"]


class Fails(Step):
    name = "fails"

    def run(self, tx: Transaction) -> list[Any]:
        tx.execute("SELECT 1 / 0")
        return []


def test_a_rollback_takes_sequences_back(old: Labeller) -> None:
    """ALTER SEQUENCE and setval alone would stay, before PostgreSQL 10."""
    owner = (
        "SELECT pg_get_serial_sequence('kml_data', 'gid'), relowner::regrole::text, relacl::text"
        " FROM pg_class WHERE relname = 'kml_data_gid_seq'"
    )
    before, owned = support.state(old), old.sql(owner)
    restarted: list[Any] = []

    def observe(tx: Transaction) -> None:
        restarted.extend(tx.rows("SELECT last_value FROM kml_data_gid_seq"))

    class Looks(Fails):
        def run(self, tx: Transaction) -> list[Any]:
            observe(tx)
            return super().run(tx)

    with pytest.raises(errors.ModuleFailure, match="division by zero"):
        support.apply(
            old, support.clear(tables=["user_maps", *support.clear().params["tables"]]), Looks({})
        )
    assert restarted == [(len(old.sql("SELECT 1 FROM kml_data_static")),)]
    assert support.state(old) == before
    assert old.sql(owner) == owned
    support.apply(old, support.clear())
    assert old.sql(owner) == owned
    assert not old.sql("SELECT 1 FROM pg_class WHERE relname = 'runbook_owner'")


def test_missing_tables_are_named(old: Labeller) -> None:
    old.sql("DROP TABLE qual_user_maps; CREATE SCHEMA elsewhere")
    old.sql("CREATE TABLE elsewhere.qual_user_maps (gid integer)")
    for run in (support.check, support.apply):
        with pytest.raises(errors.InvalidInput, match="has no table qual_user_maps"):
            run(old, support.clear())


def test_a_backup_comes_back(old: Labeller) -> None:
    options = {k: v for k, v in old.options.items() if k not in ("backup", "bucket")}

    def call(state: str, **more: Any) -> dict[str, Any]:
        given = parameters(options, {}, old.bucket, tables=TABLES, state=state, **more)
        return dict(s3_table_backup.logic(given, False))

    before = {k: v for k, v in support.state(old).items() if k != "objects"}
    made = call("present")
    assert made["manifest"]["server_version"].startswith("10.")
    assert all(t["fingerprint"].startswith("md5sum:") for t in made["manifest"]["tables"].values())
    old.sql("DELETE FROM user_maps")
    old.sql("UPDATE assignment_data SET score = 0; SELECT setval('user_maps_gid_seq', 1)")
    done = call("restored", backup_id=made["backup_id"])
    assert done["changed"]
    assert {k: v for k, v in support.state(old).items() if k != "objects"} == before
    assert not call("restored", backup_id=made["backup_id"])["changed"]


def test_another_geography(old: Labeller) -> None:
    objects = {
        "grid": "id,x,y,name,fwts,avail\n7,1,9,TG0000001,3,T\n",
        "reference_grid": "id,x,y,name,fwts,avail\n8,1,8,TG0000002,3,T\n",
        "static_sites": "kml_type,name\nQ,TG0000002\n",
        "reference_fields": "name,category,geom_clean\n",
    }
    for name, body in objects.items():
        old.put(f"geo/{name}.csv", body.replace("TG0000001,3,T", "TG0000001,,T"))
    keys = {name: f"geo/{name}.csv" for name in objects}
    for run in (support.check, support.apply):
        with pytest.raises(
            errors.InvalidInput, match="no id, x, y, name, fwts or avail: TG0000001|no rows"
        ):
            run(old, support.step("geography", **keys))


#: Newer SQL than 9.4's, and where it is used behind a look at the version.
NEWER = {
    r"ON CONFLICT": [], r"SKIP LOCKED": [], r"TABLESAMPLE": [], r"regnamespace|regrole": [],
    r"(INDEX|SEQUENCE|COLUMN|VIEW) IF NOT EXISTS": [], r"num_n(on)?nulls": [], r"jsonb_": [],
    r"array_position": [], r"to_regclass\((?!'|%s\))": [], r"current_setting\([^)]*,": [],
    r"pg_control_|pg_blocking_pids|xact_status|pg_sequences?\b":
        ["applied.py", "server.py"],
    r"wait_event": [],
    r"GROUPING SETS|ROLLUP|CUBE": [], r"EXECUTE FUNCTION": [], r"pg_size_bytes": [],
    r"GENERATED": ["compare.py"], r"parallel_workers": [],
    r"OVERRIDING": ["shadow.py", "swap.py"],
    r"row_security_active": ["guard.py", "cascades.py"],
    r"attidentity": ["shadow.py", "catalog.py"],
    r"attgenerated": ["fingerprint.py", "catalog.py"],
    r"relispartition": ["catalog.py", "guard.py"], r"conparentid": ["catalog.py", "cascades.py"],
    r"conperiod": ["catalog.py"], r"hash\w+extended": ["fingerprint.py"],
    r"_wal_": ["server.py", "source.py"],
    r"row_security\b|idle_in_transaction|client_connection_check":
        ["server.py", "guard.py", "source.py", "transaction.py", "lease.py"],
}  # fmt: skip


def test_sql_is_that_of_9_4() -> None:
    """No construct of a newer version but where the version is looked at."""
    found = {
        (pattern, path.name)
        for path in (PROJECT / "plugins" / "module_utils").rglob("*.py")
        for line in path.read_text().splitlines()
        if not line.strip().startswith("#")
        for pattern in NEWER
        if re.search(pattern, line)
    }
    assert found <= {(pattern, name) for pattern, names in NEWER.items() for name in names}


def test_what_a_sequence_needs_is_checked(old: Labeller) -> None:
    """The role owns the tables, but may not make one beside them."""
    name = old.login["login_db"]
    old.sql(f"""
        CREATE ROLE {name} LOGIN PASSWORD 'test'; GRANT CREATE ON DATABASE {name} TO {name};
        REVOKE CREATE ON SCHEMA public FROM public;
        DO $do$ DECLARE t regclass; BEGIN
            FOR t IN SELECT oid FROM pg_class WHERE relkind IN ('r', 'S')
                     AND relnamespace = 'public'::regnamespace ORDER BY relkind DESC LOOP
                EXECUTE format('ALTER TABLE %s OWNER TO {name}', t);
            END LOOP;
        END $do$
    """)
    before = support.state(old)
    for run in (support.check, support.apply):
        with pytest.raises(errors.Refused, match=f"role {name} lacks CREATE on the schema public"):
            run(old, support.clear(), login_user=name)
    assert support.state(old) == before
    old.sql(f"GRANT CREATE ON SCHEMA public TO {name}")
    assert support.apply(old, support.clear(), login_user=name)["changed"]


#: What runs on the server's statements.
STEPS = (
    "transaction", "steps", "pg_clear", "mode_steps", "iteration", "held", "run_in_place",
    "learner_input", "lease", "geography_info",
)  # fmt: skip


@pytest.mark.campaign
def test_the_tests_of_steps_pass_on_it(oldest: embedded.PostgresServer) -> None:
    """As they are, in a pytest of their own whose servers are of this one's kind."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider",
         "-m", "not campaign", *(f"tests/integration/test_{name}.py" for name in STEPS)],
        cwd=PROJECT, capture_output=True, text=True,
        env={**os.environ, "RUNBOOK_TEST_POSTGRES": "10"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
