"""Restores: what is refused and by which name, what else must stay as it is, how rows are counted."""

from __future__ import annotations

import subprocess
from typing import Any

import psycopg2
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, held
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore, swap
from backup_support import SCHEMA, execute, parameters, s3, url
from faulty import Proxy


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(database, SCHEMA)
    return parameters(database, aws, bucket)


def restored(params: dict[str, Any], *tables: str, **more: Any) -> Any:
    """As check mode said it would be."""
    given = {**params, "tables": list(tables) or params["tables"], **more}
    planned = restore.restored(given, True)
    done = restore.restored({**given, "planned": held.of_result(planned)}, False)
    assert (planned["diff"], planned["tables"]) == (done["diff"], done["tables"])
    assert not restore.restored(given, False)["changed"]
    return done


def test_damage_of_other_tables_does_not_matter(
    params: dict[str, Any], aws: Any, bucket: str
) -> None:
    made = make.present(params, False)["manifest"]
    key = made["tables"]["assignment_data"]["objects"][0]["key"]
    s3(aws).delete_object(Bucket=bucket, Key=key)
    execute(params, "UPDATE worker_data SET note = 'x'")
    assert restored(params, "worker_data")["changed"]


def test_nobody_writes_between_the_comparison_and_the_swap(
    params: dict[str, Any], aws_endpoint: str
) -> None:
    make.present(params, False)
    execute(params, "UPDATE worker_data SET note = 'x'")
    locked = []

    def rule(request: Any) -> None:
        if request.method == "GET" and "worker_data/0000" in request.path:
            session = psycopg2.connect(url(params), options="-c lock_timeout=100")
            with session, session.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM worker_data")
                with pytest.raises(psycopg2.errors.LockNotAvailable):
                    cursor.execute("INSERT INTO worker_data VALUES (999)")
            session.close()
            locked.append(True)

    with Proxy(aws_endpoint).running() as proxy:
        proxy.rule = rule
        restore.restored({**params, "endpoint_url": proxy.url}, False)
    assert locked
    assert execute(params, "SELECT count(*) FROM worker_data") == [(40,)]


def test_rows_without_a_key_are_counted_by_content(params: dict[str, Any]) -> None:
    execute(params, "CREATE TABLE keyless (a int, b text);"
            "INSERT INTO keyless VALUES (1, ''), (1, ''), (2, NULL), (3, 'x')")  # fmt: skip
    given = {**params, "tables": ["keyless"]}
    make.present(given, False)
    execute(params, "DELETE FROM keyless WHERE a = 3 OR ctid = (SELECT min(ctid) FROM keyless);"
            "UPDATE keyless SET b = '' WHERE b IS NULL; INSERT INTO keyless VALUES (4, ''), (4, '')")  # fmt: skip
    counts = {"before": 4, "after": 4, "appear": 3, "vanish": 3, "differ": 0}
    assert restored(given)["tables"] == {"keyless": counts}


def test_rows_are_told_apart_by_the_whole_key(params: dict[str, Any]) -> None:
    execute(params, "CREATE TABLE pairs (a int, b int, v text, PRIMARY KEY (a, b));"
            "INSERT INTO pairs SELECT g / 4, g % 4, 'v' FROM generate_series(0, 15) g")  # fmt: skip
    given = {**params, "tables": ["pairs"]}
    make.present(given, False)
    execute(params, "DELETE FROM pairs WHERE a = 1 AND b > 1; UPDATE pairs SET v = NULL WHERE a = 0;"
            "INSERT INTO pairs VALUES (9, 9, 'v')")  # fmt: skip
    counts = {"before": 15, "after": 16, "appear": 2, "vanish": 1, "differ": 4}
    done = restored(given)
    assert done["tables"] == {"pairs": counts}
    said = "16 rows\n2 rows appear\n1 row vanishes\n4 rows differ\n"
    assert said in done["diff"][0]["after"]


def test_sequences_alone(params: dict[str, Any]) -> None:
    """Set when only they differ, used or not, and under the name that the live column has."""
    execute(
        params, "CREATE TABLE fresh (id serial, v int); INSERT INTO fresh (id, v) VALUES (5, 5)"
    )
    given = {**params, "tables": ["fresh", "hit_data"]}
    make.present(given, False)
    execute(params, "SELECT nextval('fresh_id_seq'), nextval('hit_data_hit_id_seq')")
    execute(params, "ALTER SEQUENCE fresh_id_seq RENAME TO other_seq")
    done = restored(given)
    assert {name: found["appear"] for name, found in done["tables"].items()} == {
        "fresh": 0,
        "hit_data": 0,
    }
    state = "SELECT last_value, is_called FROM "
    assert execute(params, state + "other_seq") == [(1, False)]
    assert execute(params, state + "hit_data_hit_id_seq") == [(300, True)]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"table": "nix"}, "mapping names the table nix, which is not restored"),
        ({"drop": ["nix"]}, "mapping names the column nix, which the backup does not have"),
        ({"columns": {"no": "name"}}, "mapping names the column no, which the backup"),
        ({"columns": {"name": "title"}}, "column title of the backup is missing"),
        ({"columns": {"name": "reward"}}, "column reward is integer, in the backup character"),
        ({"drop": ["reward"]}, "column reward is not in the backup"),
        ({"keep_default": ["reward"]}, "default of column reward, which the backup holds"),
        ({"keep_default": ["nix"]}, "default of column nix, which the table does not have"),
    ],
)
def test_mappings_that_do_not_fit(
    params: dict[str, Any], mapping: dict[str, Any], message: str
) -> None:
    make.present(params, False)
    whole = {"table": "hit_data", "into": "", "columns": {}, "drop": [], "keep_default": []}
    given = {**params, "tables": ["hit_data"], "mapping": [{**whole, **mapping}]}
    with pytest.raises(errors.InvalidInput, match=message):
        restore.restored(given, False)


def test_every_column_that_does_not_fit_is_named(params: dict[str, Any]) -> None:
    make.present(params, False)
    execute(params, "ALTER TABLE hit_data RENAME reward TO war; ALTER TABLE hit_data ADD hit int")
    with pytest.raises(errors.InvalidInput) as caught:
        restore.restored({**params, "tables": ["hit_data"]}, False)
    assert str(caught.value).startswith(
        "table hit_data: column reward of the backup is missing; column war is not in the backup; "
        "column hit is not in the backup; "
    )


def test_partitions_and_children_that_do_not_fit(params: dict[str, Any]) -> None:
    execute(
        params,
        """CREATE TABLE base (id int); CREATE TABLE child (more text) INHERITS (base);
           INSERT INTO child VALUES (1, 'x');
           CREATE FOREIGN DATA WRAPPER none; CREATE SERVER elsewhere FOREIGN DATA WRAPPER none;
           CREATE TABLE parts (id int) PARTITION BY LIST (id);
           CREATE FOREIGN TABLE far PARTITION OF parts FOR VALUES IN (1) SERVER elsewhere""",
    )
    with pytest.raises(errors.InvalidInput, match="parts has the partition far, a foreign table"):
        make.present({**params, "tables": ["parts"]}, False)
    given = {**params, "tables": ["base"]}
    make.present(given, False)
    execute(params, "DELETE FROM base")
    with pytest.raises(errors.InvalidInput, match=r"child inherits from base and has more .*more"):
        restore.restored(given, False)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("DO INSTEAD NOTHING", "0 of 300 rows were inserted"),
        ("DO INSTEAD INSERT INTO copies VALUES (NEW.hit_id)", "does not hold what backup"),
    ],
    ids=["nothing", "elsewhere"],
)
def test_a_rule_that_writes_elsewhere_is_noticed(
    params: dict[str, Any], rule: str, message: str
) -> None:
    make.present(params, False)
    execute(params, "CREATE TABLE copies (id int); UPDATE hit_data SET reward = 0")
    execute(params, f"CREATE RULE r AS ON INSERT TO hit_data {rule}")
    given = {**params, "tables": ["hit_data"]}
    for check_mode in (True, False):
        with pytest.raises(errors.Refused, match=r"rule public\.hit_data\.r; .*allowed_triggers"):
            restore.restored(given, check_mode)
    with pytest.raises(errors.ModuleFailure, match=message):
        restore.restored({**given, "allowed_triggers": ["public.hit_data.r"]}, False)
    assert execute(params, "SELECT count(*), sum(reward) FROM hit_data") == [(300, 0)]


def test_rows_that_an_event_trigger_changes_are_noticed(params: dict[str, Any]) -> None:
    """The restore switches the table's triggers off and on, which such a trigger sees."""
    make.present(params, False)
    execute(
        params,
        """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
           CREATE TRIGGER keep BEFORE INSERT ON hit_data FOR EACH ROW EXECUTE PROCEDURE keep();
           UPDATE hit_data SET reward = 0;
           CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql
               AS 'BEGIN UPDATE hit_data SET reward = 1000; END';
           CREATE EVENT TRIGGER meddle ON ddl_command_end WHEN TAG IN ('ALTER TABLE')
               EXECUTE PROCEDURE meddle()""",
    )
    with pytest.raises(errors.ModuleFailure, match="hit_data does not hold what backup"):
        restore.restored({**params, "tables": ["hit_data"]}, False)
    assert execute(params, "SELECT count(*), sum(reward) FROM hit_data") == [(300, 0)]


def test_a_rule_that_writes_more_and_columns_that_are_left_out(params: dict[str, Any]) -> None:
    """The table is compared afterwards over the columns that are restored."""
    make.present(params, False)
    execute(params, "CREATE TABLE copies (id int); UPDATE hit_data SET name = 'x', reward = 0")
    execute(params, "CREATE RULE r AS ON INSERT TO hit_data DO ALSO INSERT INTO copies VALUES (1)")
    mapping = {"table": "hit_data", "into": "", "columns": {}, "drop": ["reward"], "keep_default": ["reward"]}  # fmt: skip
    given = {**params, "allowed_triggers": ["public.hit_data.r"]}
    restore.restored({**given, "tables": ["hit_data"], "mapping": [mapping]}, False)
    counts = "SELECT count(*), count(reward), count(*) FILTER (WHERE name = 'x') FROM hit_data"
    assert execute(params, counts) == [(300, 0, 0)]


def test_objects_of_unchanged_tables_are_not_read(
    params: dict[str, Any], aws_endpoint: str
) -> None:
    make.present(params, False)
    execute(params, "DELETE FROM assignment_data WHERE assignment_id = 3")
    with Proxy(aws_endpoint).running() as proxy:
        restore.restored({**params, "endpoint_url": proxy.url}, False)
    read = [request.path for request in proxy.seen if request.method == "GET"]
    assert [path.split("/")[-2] for path in read if path.endswith(".csv.zst")] == [
        "assignment_data"
    ]


def test_memory_for_indexes_is_raised_only(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_REBUILD_ROWS", 100)
    execute(params, "CREATE TABLE noted (memory text)")
    make.present(params, False)
    seen = []
    rebuild = swap.Swap._rebuild

    def noted(self: Any, indexes: Any) -> None:
        rebuild(self, indexes)
        self.cursor.execute("SHOW maintenance_work_mem")
        seen.append(self.cursor.fetchone()[0])

    monkeypatch.setattr(swap.Swap, "_rebuild", noted)
    for setting in ("16MB", "1GB"):
        execute(
            params,
            f"ALTER DATABASE \"{params['login_db']}\" SET maintenance_work_mem = '{setting}'",
        )
        execute(params, "TRUNCATE assignment_data")
        restore.restored({**params, "tables": ["assignment_data"]}, False)
    assert seen == ["256MB", "1GB"]


def test_a_temporary_table_hides_no_table(params: dict[str, Any], database: Any) -> None:
    session = psycopg2.connect(url(database))
    session.cursor().execute("CREATE TEMPORARY TABLE only_here (id int)")
    with pytest.raises(errors.InvalidInput, match="no table only_here"):
        make.present({**params, "tables": ["only_here"]}, False)
    session.close()


def test_an_old_dump_of_another_encoding_and_several_tables(
    params: dict[str, Any], aws: Any, bucket: str, postgres_server: Any
) -> None:
    execute(params, "CREATE TABLE noted (id int PRIMARY KEY, v text);"
            "INSERT INTO noted VALUES (1, 'café'), (2, NULL), (3, ''), (4, E'a\\tb\\\\.')")  # fmt: skip
    query = "SELECT * FROM noted ORDER BY 1"
    before = execute(params, query)
    dump = subprocess.run(
        [postgres_server.bin / "pg_dump", "-a", "-E", "LATIN1", "-t", "hit_data", "-t", "noted",
         url(params)],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert "café".encode("latin1") in dump
    key = "labeller3/2019-03-01/noted.sql"
    s3(aws).put_object(Bucket=bucket, Key=key, Body=dump)
    execute(params, "DELETE FROM noted WHERE id < 3")
    old = {"prefix": "labeller3", "backup_id": "2019-03-01"}
    assert restored(params, "noted", **old)["tables"]["noted"]["appear"] == 2
    assert execute(params, query) == before
    # Its last words alone do not make it whole, nor where a row says them.
    words = b"-- PostgreSQL database dump complete\n"
    for cut in (
        dump[: dump.index(b"3\t\n")] + b"--\n" + words,
        dump[: dump.index(b"3\t\n")] + b"3\t" + words + b"\\.\n",
    ):
        s3(aws).put_object(Bucket=bucket, Key=key, Body=cut)
        with pytest.raises(errors.ModuleFailure, match=r"noted.sql was cut off"):
            restore.restored({**params, "tables": ["noted"], **old}, False)
        assert execute(params, query) == before


def test_a_whole_backup_comes_before_dumps_beside_it(
    params: dict[str, Any], aws: Any, bucket: str
) -> None:
    made = make.present(params, False)["manifest"]
    s3(aws).put_object(Bucket=bucket, Key=made["prefix"] + "hit_data.sql", Body=b"not looked at")
    execute(params, "DELETE FROM assignment_data")
    assert list(restored(params, backup_id=made["backup_id"])["tables"]) == ["assignment_data"]
