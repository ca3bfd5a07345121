"""s3_table_backup, state restored: what is in the tables afterwards, dry runs, guards, old dumps."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import errors, held, marker
from ansible_collections.labeller.runbook.plugins.module_utils.backup import (
    make,
    restore,
    store,
    swap,
    verify,
)
from backup_support import PREFIX, SCHEMA, TABLES, content, execute, keys, parameters, s3, url


@pytest.fixture
def params(database: dict[str, Any], aws: dict[str, Any], bucket: str) -> dict[str, Any]:
    execute(database, SCHEMA)
    return parameters(database, aws, bucket)


def everything(database: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: execute(database, f"SELECT * FROM {name} ORDER BY 1") for name in TABLES
    }
    for name in ("hit_data_hit_id_seq", "assignment_data_assignment_id_seq"):
        found[name] = execute(database, f"SELECT last_value, is_called FROM {name}")
    return found


SPOIL = """
DELETE FROM assignment_data WHERE assignment_id % 2 = 0;
UPDATE worker_data SET note = 'changed' WHERE worker_id IN (1, 2);
INSERT INTO worker_data VALUES (100);
INSERT INTO hit_data (name) VALUES ('new');
"""


def test_restore_brings_back_every_row_and_sequence(params: dict[str, Any], database: Any) -> None:
    before = everything(database)
    make.present(params, False)
    execute(database, SPOIL)
    spoilt = everything(database)
    planned = restore.restored(params, True)
    assert everything(database) == spoilt
    done = restore.restored(params, False)
    assert everything(database) == before
    assert planned["diff"] == done["diff"]
    assert planned["tables"] == done["tables"]
    assert done["tables"]["worker_data"] == {
        "before": 41,
        "after": 40,
        "appear": 0,
        "vanish": 1,
        "differ": 2,
    }
    assert done["tables"]["assignment_data"] == {
        "before": 1000,
        "after": 2000,
        "appear": 1000,
        "vanish": 0,
        "differ": 0,
    }
    again = restore.restored(params, False)
    assert (again["changed"], again["diff"]) == (False, [])
    constraints = execute(
        database, "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"
    )
    assert constraints == [(2,)]


MARKED = f"""
CREATE SCHEMA runbook;
CREATE TABLE runbook.run_marker {marker.DEFINITION};
INSERT INTO runbook.run_marker (mode, aoi_name, aoi_index, run_id, applied_by)
    VALUES ('regular', 'G', 1, 7, 'test');
"""


@pytest.mark.parametrize(
    ("meanwhile", "named"),
    [
        (
            "DELETE FROM assignment_data WHERE assignment_id = 1",
            "table assignment_data: planned rows_before 1,000, .* found rows_before 999,",
        ),
        (
            "UPDATE worker_data SET note = 'again' WHERE worker_id = 1",
            "table worker_data: its content is not what the check read",
        ),
        (
            "SELECT setval('hit_data_hit_id_seq', 4711)",
            "table hit_data: planned .*hit_data_hit_id_seq at 301, found .* at 4711",
        ),
        (
            "UPDATE runbook.run_marker SET run_id = 8",
            "run marker: planned regular run 7 on G.* found regular run 8 on G",
        ),
        ("DELETE FROM runbook.run_marker", "planned .*run marker .* found nothing"),
    ],
)
def test_a_restore_is_held_to_what_its_check_found(
    params: dict[str, Any], database: Any, meanwhile: str, named: str
) -> None:
    execute(database, "CREATE TABLE incoming_names (name text PRIMARY KEY)")
    params = {**params, "tables": [*TABLES, "incoming_names"], "same_instance": False}
    make.present(params, False)
    execute(database, SPOIL)
    execute(database, MARKED)
    planned = held.of_result(restore.restored(params, True))
    before = execute(database, "SELECT * FROM runbook.run_marker"), everything(database)
    execute(database, meanwhile)
    after = execute(database, "SELECT * FROM runbook.run_marker"), everything(database)
    assert after != before
    with pytest.raises(errors.Stale) as caught:
        restore.restored({**params, "planned": planned}, False)
    assert re.search(named, str(caught.value)), caught.value
    assert (execute(database, "SELECT * FROM runbook.run_marker"), everything(database)) == after
    planned = held.of_result(restore.restored(params, True))
    assert restore.restored({**params, "planned": planned}, False)["changed"]


def test_a_restore_is_held_to_the_backup_that_its_check_read(
    params: dict[str, Any], database: Any
) -> None:
    """Another one has as many rows, and the restore changes as many."""
    make.present(params, False)
    execute(database, "UPDATE worker_data SET note = 'one' WHERE worker_id = 1")
    planned = held.of_result(restore.restored(params, True))
    execute(database, "UPDATE worker_data SET note = 'two' WHERE worker_id = 1")
    make.present(params, False)
    execute(database, "UPDATE worker_data SET note = 'one' WHERE worker_id = 1")
    with pytest.raises(errors.Stale, match="table worker_data: its content is not what"):
        restore.restored({**params, "planned": planned}, False)
    backup_id = restore.restored(params, False)["backup_id"]
    in_place = held.of_result(restore.restored({**params, "backup_id": backup_id}, True))
    assert not restore.restored({**params, "planned": in_place}, False)["changed"]
    execute(database, "DELETE FROM assignment_data")
    with pytest.raises(errors.Stale, match="rows_before 2,000.* found rows_before 0"):
        restore.restored({**params, "planned": in_place}, False)


def test_unchanged_tables_are_left_alone(params: dict[str, Any], database: Any) -> None:
    make.present(params, False)
    execute(database, "DELETE FROM assignment_data WHERE assignment_id = 3")
    file_of = "SELECT relname, relfilenode FROM pg_class WHERE relname IN ('worker_data', 'hit_data') ORDER BY 1"
    files = execute(database, file_of)
    done = restore.restored(params, False)
    assert list(done["tables"]) == ["assignment_data"]
    assert execute(database, file_of) == files


def test_a_parent_alone_does_not_cascade(params: dict[str, Any], database: Any) -> None:
    """The old way deleted the parent's rows first: with ON DELETE CASCADE the children went too."""
    execute(database, "CREATE TABLE review (id int PRIMARY KEY, worker_id int REFERENCES worker_data ON DELETE CASCADE);"
            "INSERT INTO review SELECT g, g FROM generate_series(1, 40) g")  # fmt: skip
    make.present(params, False)
    execute(database, "UPDATE worker_data SET note = 'x'")
    restore.restored({**params, "tables": ["worker_data"]}, False)
    assert execute(database, "SELECT count(*) FROM review") == [(40,)]
    assert execute(database, "SELECT count(*) FROM worker_data WHERE note = 'x'") == [(0,)]
    execute(database, "INSERT INTO worker_data VALUES (77); INSERT INTO review VALUES (77, 77)")
    with pytest.raises(errors.InvalidInput, match=r"review.*Nothing was changed"):
        restore.restored({**params, "tables": ["worker_data"]}, False)
    assert execute(database, "SELECT count(*) FROM worker_data") == [(41,)]


def test_a_failure_in_the_swap_changes_nothing(
    params: dict[str, Any], database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.present(params, False)
    execute(database, SPOIL)
    spoilt = everything(database)

    def fails(*_: Any) -> None:
        raise errors.ModuleFailure("after all was swapped")

    original = swap.Swap.apply
    monkeypatch.setattr(swap.Swap, "apply", lambda self: (original(self), fails()))
    with pytest.raises(errors.ModuleFailure, match="after all"):
        restore.restored(params, False)
    assert everything(database) == spoilt


@pytest.mark.parametrize("how", ["tampered", "truncated", "swapped", "missing"])
def test_damaged_objects_are_found_before_the_database_is_touched(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, how: str
) -> None:
    made = make.present(params, False)["manifest"]
    execute(database, SPOIL)
    spoilt = everything(database)
    key = made["tables"]["hit_data"]["objects"][0]["key"]
    body = content(aws, bucket, key)
    if how == "missing":
        s3(aws).delete_object(Bucket=bucket, Key=key)
    else:
        other = content(aws, bucket, made["tables"]["worker_data"]["objects"][0]["key"])
        new = {
            "tampered": bytes([body[0] ^ 1]) + body[1:],
            "truncated": body[:-5],
            "swapped": other,
        }[how]
        s3(aws).put_object(Bucket=bucket, Key=key, Body=new)
    with pytest.raises(errors.InvalidInput, match=f"damaged, the database was not touched.*{key}"):
        restore.restored({**params, "login_port": 1}, False)  # would not even connect
    assert everything(database) == spoilt


def test_an_object_that_changes_after_the_check_is_noticed(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make.present(params, False)["manifest"]
    execute(database, SPOIL)
    spoilt = everything(database)
    key = made["tables"]["hit_data"]["objects"][0]["key"]
    s3(aws).put_object(
        Bucket=bucket,
        Key=key,
        Body=content(aws, bucket, made["tables"]["worker_data"]["objects"][0]["key"]),
    )
    monkeypatch.setattr(store, "problems", lambda *_: [])
    with pytest.raises(errors.ModuleFailure):
        restore.restored(params, False)
    assert everything(database) == spoilt


@pytest.mark.parametrize("left", [201, 0])
def test_rows_that_are_not_those_of_the_manifest_are_refused(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, left: int
) -> None:
    """An object that is whole, but another than the fingerprint was taken of."""
    import hashlib
    import json

    import zstandard

    made = make.present(params, False)["manifest"]
    entry = made["tables"]["hit_data"]["objects"][0]
    text = (
        zstandard.ZstdDecompressor().decompressobj().decompress(content(aws, bucket, entry["key"]))
    )
    body = zstandard.ZstdCompressor().compress(text.replace(b"GH17,", b"XX17,"))
    answer = s3(aws).put_object(Bucket=bucket, Key=entry["key"], Body=body)
    entry.update(
        size=len(body), sha256=hashlib.sha256(body).hexdigest(), etag=answer["ETag"].strip('"')
    )
    s3(aws).put_object(
        Bucket=bucket, Key=made["prefix"] + "manifest.json", Body=json.dumps(made).encode()
    )
    execute(database, "DELETE FROM assignment_data")
    execute(database, "DELETE FROM hit_data WHERE hit_id < 100")
    with pytest.raises(
        errors.ModuleFailure, match="hit_data: its rows do not have the fingerprint"
    ):
        restore.restored(params, False)
    assert execute(database, "SELECT count(*) FROM hit_data") == [(201,)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"format_version": 2}', "format version 2.*use a newer runbook"),
        (b'{"format_version": 1, "tables": {', "is not a manifest"),
        (b'{"format_version": 1}', "backup_id is missing"),
        (b"\xff", "is not a manifest"),
    ],
)
def test_manifests_that_cannot_be_used(
    params: dict[str, Any], aws: Any, bucket: str, body: bytes, message: str
) -> None:
    made = make.present(params, False)["manifest"]
    s3(aws).put_object(Bucket=bucket, Key=made["prefix"] + "manifest.json", Body=body)
    with pytest.raises(errors.InvalidInput, match=message):
        restore.restored(params, False)


def test_into_another_database_table_and_column_order(
    params: dict[str, Any], database: Any, postgres_server: Any
) -> None:
    make.present(params, False)
    execute(database, """
        CREATE TABLE "Other" (reward int, hit_id int PRIMARY KEY, title varchar(80), extra int DEFAULT 7);
    """)  # fmt: skip
    mapping = {
        "table": "hit_data",
        "into": "Other",
        "columns": {"name": "title"},
        "drop": [],
        "keep_default": ["extra"],
    }
    done = restore.restored({**params, "tables": ["hit_data"], "mapping": [mapping]}, False)
    assert done["changed"]
    assert execute(
        database, 'SELECT hit_id, title, reward, extra FROM "Other" ORDER BY 1 LIMIT 1'
    ) == [(1, "GH1", 1, 7)]
    assert execute(database, 'SELECT count(*) FROM "Other"') == [(300,)]
    assert not restore.restored({**params, "tables": ["hit_data"], "mapping": [mapping]}, False)[
        "changed"
    ]
    dropped = {**mapping, "drop": ["reward"], "keep_default": ["extra", "reward"]}
    execute(database, """UPDATE "Other" SET title = 'x' WHERE hit_id = 9""")
    assert restore.restored({**params, "tables": ["hit_data"], "mapping": [dropped]}, False)[
        "changed"
    ]
    assert execute(
        database, """SELECT count(reward), count(*) FILTER (WHERE title = 'x') FROM "Other" """
    ) == [(0, 0)]
    # the sequence of the live table's is left alone, the table's own is set
    execute(database, """
        CREATE TABLE beside (LIKE hit_data INCLUDING DEFAULTS);
        CREATE TABLE apart (hit_id serial, name varchar(80), reward int);
        SELECT setval('hit_data_hit_id_seq', 5000);
    """)  # fmt: skip
    for table in ("beside", "apart"):
        into = {"table": "hit_data", "into": table}
        given = {**params, "tables": ["hit_data"], "mapping": [into]}
        assert restore.restored(given, False)["changed"]
        assert not restore.restored(given, False)["changed"]
    assert execute(database, "SELECT last_value FROM hit_data_hit_id_seq") == [(5000,)]
    assert execute(database, "SELECT last_value FROM apart_hit_id_seq") == [(300,)]
    execute(database, "SELECT setval('hit_data_hit_id_seq', 300)")
    # another database, empty tables of the same shape
    execute(database, "CREATE SCHEMA x")
    session = psycopg2.connect(url(database))
    session.autocommit = True
    name = database["login_db"] + "_copy"
    session.cursor().execute(f'CREATE DATABASE "{name}"')
    try:
        other = {**database, "login_db": name}
        execute(
            other,
            SCHEMA + "DELETE FROM assignment_data; DELETE FROM hit_data; DELETE FROM worker_data;",
        )
        restore.restored({**params, "login_db": name}, False)
        assert everything(other) == everything(database)
    finally:
        session.cursor().execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        session.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER TABLE hit_data DROP COLUMN reward", "column reward of the backup is missing"),
        ("ALTER TABLE hit_data ADD COLUMN more int", "column more is not in the backup"),
        (
            "ALTER TABLE hit_data ALTER reward TYPE bigint",
            "column reward is bigint, in the backup integer",
        ),
        ("DROP TABLE assignment_data; DROP TABLE hit_data", "no table hit_data"),
    ],
)
def test_tables_that_changed_shape_are_refused(
    params: dict[str, Any], database: Any, statement: str, message: str
) -> None:
    make.present(params, False)
    execute(database, statement)
    for check_mode in (True, False):
        with pytest.raises(errors.InvalidInput, match=message):
            restore.restored({**params, "tables": ["hit_data"]}, check_mode)


def test_names_that_no_backup_has(params: dict[str, Any], database: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="there is no backup below"):
        restore.restored(params, False)
    made = make.present(params, False)
    with pytest.raises(errors.InvalidInput, match=f"no backup 2020.*{made['backup_id']}"):
        restore.restored({**params, "backup_id": "2020"}, False)
    begun = {**params, "backup_id": made["backup_id"][:20]}
    assert restore.restored(begun, False)["backup_id"] == made["backup_id"]
    execute(database, "DELETE FROM assignment_data")
    second = make.present(params, False)["backup_id"]
    for check_mode in (True, False):
        with pytest.raises(
            errors.InvalidInput,
            match=f"several backups below .* begin with 20: {second}, {made['backup_id']}$",
        ):
            restore.restored({**params, "backup_id": "20"}, check_mode)
    unfinished = "20260101T000000000Z-abcdef-0123"
    s3(params).put_object(Bucket=params["bucket"], Key=f"{PREFIX}/{unfinished}/t", Body=b"x")
    with pytest.raises(
        errors.InvalidInput, match=f"{unfinished} .* was never finished; .* {made['backup_id']}$"
    ):
        restore.restored({**params, "backup_id": unfinished}, False)
    both = {**params, "mapping": [{"table": "hit_data", "into": "worker_data"}]}
    with pytest.raises(errors.InvalidInput, match="two tables are to be restored into worker_data"):
        restore.restored({**both, "tables": ["hit_data", "worker_data"]}, False)
    with pytest.raises(errors.InvalidInput, match="has no table nix; it holds assignment_data"):
        restore.restored({**params, "tables": ["nix"]}, False)


def test_partitions_children_identity_triggers_and_generated_columns(
    params: dict[str, Any], database: Any
) -> None:
    execute(database, '''
        CREATE TABLE parts (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE parts_2 (v text, id int NOT NULL);
        ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20);
        INSERT INTO parts SELECT g, 'p' || g FROM generate_series(0, 19) g;
        CREATE FUNCTION as_it_is() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER partly BEFORE INSERT ON parts FOR EACH ROW EXECUTE FUNCTION as_it_is();
        ALTER TABLE parts_2 DISABLE TRIGGER partly;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
        CREATE TRIGGER whole BEFORE INSERT OR TRUNCATE ON parts FOR EACH STATEMENT EXECUTE FUNCTION refuse();
        CREATE TABLE refers (id int, "odd {0} %s" int CONSTRAINT "named {0} %s" REFERENCES parts);
        COMMENT ON CONSTRAINT "named {0} %s" ON refers IS 'as it''s said';
        INSERT INTO refers VALUES (1, 3), (2, 14);
        CREATE TABLE base (id int);
        CREATE TABLE child () INHERITS (base);
        INSERT INTO base VALUES (1), (2);
        INSERT INTO child VALUES (3);
        CREATE TABLE "Odd ""T""" (id int GENERATED ALWAYS AS IDENTITY, "Col umn" text, twice int GENERATED ALWAYS AS (7) STORED);
        INSERT INTO "Odd ""T""" ("Col umn") VALUES ('x'), (NULL), (''), (E'a\\nb"c,d'), ('\\.');
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW."Col umn" := 'TRIGGER'; RETURN NEW; END $$;
        CREATE TRIGGER shout BEFORE INSERT ON "Odd ""T""" FOR EACH ROW EXECUTE FUNCTION shout();
        CREATE TRIGGER always BEFORE INSERT ON "Odd ""T""" FOR EACH ROW EXECUTE FUNCTION shout();
        ALTER TABLE "Odd ""T""" ENABLE ALWAYS TRIGGER always;
        CREATE TRIGGER never BEFORE INSERT ON "Odd ""T""" FOR EACH ROW EXECUTE FUNCTION shout();
        ALTER TABLE "Odd ""T""" DISABLE TRIGGER never;
    ''')  # fmt: skip
    names = ["parts", "refers", "base", 'Odd "T"']
    given = {**params, "tables": names}
    make.present(given, False)
    state = [
        "SELECT tableoid::regclass::text, * FROM base ORDER BY id",
        "SELECT tableoid::regclass::text, * FROM parts ORDER BY id",
        'SELECT * FROM "Odd ""T""" ORDER BY id',
    ]
    before = [execute(database, query) for query in state]
    execute(
        database,
        'DELETE FROM refers; DELETE FROM parts WHERE id < 12; DELETE FROM base; DELETE FROM "Odd ""T""" WHERE id > 2',
    )
    done = restore.restored(given, False)
    assert sorted(done["tables"]) == sorted(names)
    assert [execute(database, query) for query in state] == before
    assert execute(
        database,
        "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = %s::regclass ORDER BY 1",
        '"Odd ""T"""',
    ) == [("always", "A"), ("never", "D"), ("shout", "O")]
    assert execute(
        database,
        "SELECT tgrelid::regclass::text, tgenabled FROM pg_trigger WHERE tgname = 'partly' ORDER BY 1",
    ) == [("parts", "O"), ("parts_1", "O"), ("parts_2", "D")]
    assert execute(
        database,
        "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint"
        " WHERE conname = 'named {0} %%s' AND contype = 'f' AND conparentid = 0",
        (),
    ) == [("as it's said",)]
    assert execute(
        database, 'INSERT INTO "Odd ""T""" ("Col umn") VALUES (1) RETURNING id, "Col umn"'
    ) == [(6, "TRIGGER")]


def test_a_writer_is_waited_for_and_then_named(params: dict[str, Any], database: Any) -> None:
    make.present(params, False)
    execute(database, SPOIL)
    session = psycopg2.connect(url(database))
    session.cursor().execute("UPDATE worker_data SET note = 'mine' WHERE worker_id = 5")
    try:
        pid = session.info.backend_pid
        with pytest.raises(errors.Locked, match=f"public.worker_data.*process {pid} .*UPDATE work"):
            restore.restored({**params, "lock_timeout": 1}, False)
    finally:
        session.close()
    assert restore.restored(params, False)["changed"]


@pytest.fixture
def old_dump(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, postgres_server: Any
) -> str:
    """A backup of the old scripts: pg_dump -a of each table in a folder with a date."""
    for name in TABLES:
        dump = subprocess.run(
            [postgres_server.bin / "pg_dump", "-a", "-t", name, url(database)],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        s3(aws).put_object(Bucket=bucket, Key=f"labeller3/2019-03-01/{name}.sql", Body=dump)
    return "2019-03-01"


def test_old_dumps_restore_through_the_same_path(
    params: dict[str, Any], database: Any, old_dump: str
) -> None:
    before = everything(database)
    execute(database, SPOIL)
    given = {**params, "prefix": "labeller3", "backup_id": old_dump, "tables": None}
    planned = restore.restored(given, True)
    done = restore.restored(given, False)
    assert everything(database) == before
    assert planned["tables"] == done["tables"]
    assert done["tables"]["worker_data"]["differ"] == 2
    assert not restore.restored(given, False)["changed"]


@pytest.mark.parametrize("root", ["labeller3", "backups/database/labeller3"])
def test_the_newest_backup_may_be_one_of_the_old_scripts(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, old_dump: str, root: str
) -> None:
    """Their two layouts; beside runbook's own backups the later one is the newest."""
    before = everything(database)
    if root != "labeller3":
        for key in keys(aws, bucket, "labeller3/"):
            source = {"Bucket": bucket, "Key": key}
            s3(aws).copy_object(Bucket=bucket, Key=f"backups/database/{key}", CopySource=source)
            s3(aws).delete_object(**source)
    given = {**params, "prefix": root, "tables": None}

    def info(**more: Any) -> Any:
        return verify.info({**given, "backup_id": "", "verify": "none", **more}, False)

    (row,) = info()["backups"]
    assert (row["backup_id"], row["created"], row["tables"], row["rows"], row["intact"]) == (
        old_dump, "2019-03-02T00:00:00Z", 3, None, None,
    )  # fmt: skip
    assert info(verify="head")["backups"][0]["intact"]
    assert info(verify="deep", backup_id="newest")["backups"][0]["rows"] == 2340
    shown = info(backup_id="newest")["manifest"]
    assert shown["prefix"] == f"{root}/{old_dump}/"
    assert sorted(shown["tables"]) == sorted(TABLES)
    execute(database, SPOIL)
    other = "labeller3" if root != "labeller3" else "backups/database/labeller3"
    assert info(prefix=other) == {**info(prefix=other), "backups": []}
    assert info(prefix=other)["old_location"] == f"s3://{bucket}/{root}"
    with pytest.raises(errors.InvalidInput, match=f"give restore_from=s3://{bucket}/{root}$"):
        restore.restored({**given, "prefix": other}, True)
    done = restore.restored(given, False)
    assert (done["backup_id"], everything(database)) == (old_dump, before)

    execute(database, SPOIL)
    own = make.present({**params, "prefix": root}, False)["backup_id"]
    assert [row["backup_id"] for row in info()["backups"]] == [own, old_dump]
    assert restore.restored(given, True)["backup_id"] == own
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    for key in keys(aws, bucket, f"{root}/2019"):
        again = key.replace(old_dump, today)
        source = {"Bucket": bucket, "Key": key}
        s3(aws).copy_object(Bucket=bucket, Key=again, CopySource=source)
    assert [row["backup_id"] for row in info()["backups"]] == [today, own, old_dump]
    for newest in ("newest", today):
        named = {**given, "backup_id": newest}
        assert restore.restored(named, True)["backup_id"] == today
    assert make.present({**params, "prefix": root}, False)["backup_id"] == own
    s3(aws).put_object(Bucket=bucket, Key=f"{root}/{today}/hit_data.sql", Body=b"")
    (damaged, *_) = info(verify="head")["backups"]
    assert damaged["problems"] == [
        f"s3://{bucket}/{root}/{today}/hit_data.sql is empty: pg_dump failed"
    ]


def test_no_sql_of_an_old_dump_is_executed(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, old_dump: str
) -> None:
    key = f"labeller3/{old_dump}/worker_data.sql"
    body = content(aws, bucket, key)
    evil = b"CREATE TABLE evil (id int);\nDROP TABLE assignment_data;\n"
    s3(aws).put_object(Bucket=bucket, Key=key, Body=evil + body.replace(b"\\.\n", b"\\.\n" + evil))
    execute(database, "UPDATE worker_data SET note = 'changed'")
    given = {**params, "prefix": "labeller3", "backup_id": old_dump, "tables": ["worker_data"]}
    assert restore.restored(given, False)["changed"]
    assert execute(database, "SELECT to_regclass('evil'), count(*) FROM assignment_data") == [
        (None, 2000)
    ]


def test_an_old_dump_that_was_cut_off_is_refused(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, old_dump: str
) -> None:
    key = f"labeller3/{old_dump}/worker_data.sql"
    body = content(aws, bucket, key)
    s3(aws).put_object(
        Bucket=bucket, Key=key, Body=body[: body.index(b"-- PostgreSQL database dump complete")]
    )
    with pytest.raises(errors.InvalidInput, match="cut off"):
        restore.restored(
            {**params, "prefix": "labeller3", "backup_id": old_dump, "tables": ["worker_data"]},
            False,
        )
    s3(aws).put_object(
        Bucket=bucket, Key=key, Body=b""
    )  # pg_dump -t of a missing table left such files
    with pytest.raises(errors.InvalidInput, match=r"no COPY block|cut off"):
        restore.restored(
            {**params, "prefix": "labeller3", "backup_id": old_dump, "tables": ["worker_data"]},
            False,
        )


def test_deep_verification_reads_every_row(params: dict[str, Any], aws: Any, bucket: str) -> None:
    done = make.present({**params, "verify": "deep"}, False)
    assert done["changed"]
    from ansible_collections.labeller.runbook.plugins.module_utils.s3 import Bucket

    held = done["manifest"]
    assert verify.problems(params, Bucket(bucket, params), held, "deep") == []
    held["tables"]["hit_data"]["fingerprint"] = "hash64:" + "0" * 16
    (problem,) = verify.problems(params, Bucket(bucket, params), held, "deep")
    assert "hit_data: its objects hold 300 rows" in problem


#: What the catalogue says of a table's indexes and constraints; not their oids.
INDEXES = """
    SELECT c.relname, pg_get_indexdef(c.oid), i.indisprimary, i.indisunique, i.indisclustered,
           i.indisreplident, i.indisvalid, obj_description(c.oid, 'pg_class'), k.conname, k.contype,
           pg_get_constraintdef(k.oid), c.reloptions
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = i.indrelid
    WHERE i.indrelid = 'grid'::regclass ORDER BY 1
"""
GRID = """
    CREATE TABLE grid (id int PRIMARY KEY, name char(9), n int UNIQUE, place point, "odd %s {}" int);
    CREATE INDEX name_gix ON grid (name) WITH (fillfactor = 80);
    ALTER TABLE grid CLUSTER ON name_gix;
    CREATE INDEX "odd %s {}" ON grid ((n % 7 + "odd %s {}")) WHERE name <> '{}';
    CREATE INDEX told ON grid (name); COMMENT ON INDEX told IS 'why';
    CREATE INDEX counted ON grid ((n + 1)); ALTER INDEX counted ALTER COLUMN 1 SET STATISTICS 50;
    ALTER TABLE grid ADD CONSTRAINT later UNIQUE (n, id) DEFERRABLE;
    ALTER TABLE grid ADD EXCLUDE USING gist (place WITH ~=);
    CREATE UNIQUE INDEX known ON grid (n, name, id);
    CREATE TABLE child (grid int REFERENCES grid, n int REFERENCES grid (n));
    CREATE VIEW grouped AS SELECT id, name FROM grid GROUP BY id;
    INSERT INTO grid SELECT i, 'GH' || i, -i, point(i, i), i FROM generate_series(1, 300) AS i;
    INSERT INTO child VALUES (3, -3)
"""


@pytest.mark.parametrize(
    "emptied", ["TRUNCATE grid, child", "DELETE FROM child; DELETE FROM grid WHERE id < 9"]
)
def test_indexes_are_made_again_as_they_were(
    params: dict[str, Any], database: Any, monkeypatch: pytest.MonkeyPatch, emptied: str
) -> None:
    monkeypatch.setattr(swap, "_REBUILD_ROWS", 100)
    execute(database, GRID)
    params["tables"] = ["grid", "child"]
    before, rows = (
        execute(database, INDEXES),
        execute(database, "SELECT id, n FROM grid ORDER BY 1"),
    )
    files = "SELECT relname, oid FROM pg_class WHERE relkind = 'i' AND relname = ANY (%s)"
    kept = ["told", "counted", "later", "grid_pkey"]  # the view needs the primary key
    oids = execute(database, files, kept)
    make.present(params, False)
    execute(database, emptied)
    restore.restored(params, False)
    assert execute(database, INDEXES) == before
    assert execute(database, "SELECT id, n FROM grid ORDER BY 1") == rows
    assert execute(database, files, kept) == oids
    others = "SELECT count(*) FROM pg_class WHERE relkind = 'i' AND oid > %s AND relname = ANY (%s)"
    made = ["name_gix", "odd %s {}", "known", "grid_n_key"]
    assert execute(database, others, max(oid for _, oid in oids), made) == [(len(made),)]


def test_rows_that_an_index_forbids_are_refused(
    params: dict[str, Any], database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_REBUILD_ROWS", 100)
    execute(database, "CREATE TABLE twice AS SELECT i % 200 AS n FROM generate_series(1, 300) AS i")
    params["tables"] = ["twice"]
    make.present(params, False)
    execute(database, "TRUNCATE twice; CREATE UNIQUE INDEX once ON twice (n)")
    for check_mode in (True, False):
        with pytest.raises(errors.InvalidInput, match=r"as it is now: .* on \(n\); nothing"):
            restore.restored(params, check_mode)
    assert execute(database, "SELECT count(*) FROM twice") == [(0,)]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("restored_table", ["hit_data", "assignment_data", "emptied"])
def test_rows_that_do_not_fit_the_others_are_refused_by_the_check_too(
    restored_table: str,
    check_mode: bool,
    database: dict[str, Any],
    aws: dict[str, Any],
    bucket: str,
) -> None:
    execute(database, SCHEMA)
    params = parameters(database, aws, bucket)
    make.present(params, False)
    if restored_table == "hit_data":  # the hit that a new assignment refers to would vanish
        execute(database, "INSERT INTO hit_data VALUES (999, 'GH999', 1)")
        execute(database, "INSERT INTO assignment_data (hit_id) VALUES (999)")
    else:  # the old assignments refer to a hit that is gone
        some = "true" if restored_table == "emptied" else "hit_id = 7"
        execute(database, f"DELETE FROM assignment_data WHERE {some}")
        execute(database, "DELETE FROM hit_data WHERE hit_id = 7")
        restored_table = "assignment_data"
    before = execute(database, "SELECT count(*) FROM hit_data, assignment_data")
    with pytest.raises(
        errors.InvalidInput,
        match=r"the restored rows do not fit the others \(foreign key assignment_data_hit_id_fkey of",
    ):
        restore.restored({**params, "backup_id": "newest", "tables": [restored_table]}, check_mode)
    assert execute(database, "SELECT count(*) FROM hit_data, assignment_data") == before
    both = {**params, "backup_id": "newest", "tables": ["hit_data", "assignment_data"]}
    assert restore.restored(both, check_mode)["changed"]
