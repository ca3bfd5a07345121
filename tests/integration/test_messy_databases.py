"""Check and apply, of a chain and of a restore, agree on databases not as labeller makes them.

Both refuse with the same message, or both succeed with the same changes and the same rows. They
log in as an own role that owns the tables, unless the mess takes them away from it.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import errors, held
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore, swap
from backup_support import parameters
from labeller_support import Labeller, Template, admin, client, copied, copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.sandbox.postgres import PostgresServer

ROLE = "labeller_owner"
_numbers = itertools.count()

OWN = f"""
DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'S', 'v')
        AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'e'))
    LOOP EXECUTE format('ALTER TABLE %s OWNER TO {ROLE}', found.name); END LOOP;
END $$;
GRANT ALL ON SCHEMA public TO {ROLE};
"""

FUNCTION = """
CREATE TABLE written (what text); GRANT ALL ON written TO PUBLIC;
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
"""
NULL, RAISE = FUNCTION.format("RETURN NULL;"), FUNCTION.format("RAISE 'no'; RETURN NEW;")
ELSEWHERE = FUNCTION.format("INSERT INTO written VALUES (TG_NAME); RETURN NEW;")
ON_GRID = "CREATE TRIGGER act BEFORE UPDATE ON master_grid FOR EACH ROW EXECUTE PROCEDURE act();"
ON_QUEUE = "CREATE TRIGGER act AFTER DELETE ON kml_data FOR EACH STATEMENT EXECUTE PROCEDURE act();"
TRIGGER = r"trigger public\.master_grid\.act"

#: What is done to the database, by name, and what both must say; empty where both must succeed.
MESSES: dict[str, tuple[str, str]] = {
    "nothing": ("", ""),
    # owners and privileges
    "table of another": ("ALTER TABLE kml_data OWNER TO postgres", r"INSERT on public\.kml_data"),
    "table and number of another, all granted": (
        f"ALTER TABLE kml_data OWNER TO postgres; GRANT ALL ON kml_data, kml_data_gid_seq TO {ROLE}",
        r"lacks ownership on sequence kml_data_gid_seq \(owner postgres\)",
    ),
    "table of another whose number does not restart": (
        f"ALTER TABLE hit_data OWNER TO postgres; GRANT ALL ON hit_data, hit_data_hit_id_seq TO {ROLE}",
        "",
    ),
    "no delete": (
        f"ALTER TABLE user_maps OWNER TO postgres; GRANT SELECT, INSERT ON user_maps TO {ROLE}",
        r"lacks UPDATE on public\.user_maps \(owner postgres\), DELETE on public\.user_maps",
    ),
    "some columns only": (
        (
            "ALTER TABLE master_grid OWNER TO postgres;"
            f"GRANT SELECT, DELETE, INSERT, UPDATE (avail) ON master_grid TO {ROLE}"
        ),
        r"lacks UPDATE on public\.master_grid",
    ),
    "number without usage": (
        f"ALTER TABLE master_grid OWNER TO postgres; GRANT ALL ON master_grid TO {ROLE}",
        "USAGE on sequence master_grid_gid_seq1",
    ),
    "reference data read only": (
        f"ALTER TABLE kml_data_static OWNER TO postgres; GRANT SELECT ON kml_data_static TO {ROLE}",
        r"lacks UPDATE or DELETE or TRUNCATE on public\.kml_data_static",
    ),
    "a table referred to that cannot be read": (
        "ALTER TABLE worker_data OWNER TO postgres; REVOKE ALL ON worker_data FROM PUBLIC",
        r"lacks SELECT on public\.worker_data",
    ),
    "no place for the marker": (
        f"REVOKE CREATE ON DATABASE {{database}} FROM {ROLE}",
        "CREATE on the database",
    ),
    "a schema for the marker that is another's": (
        f"CREATE SCHEMA runbook; GRANT USAGE ON SCHEMA runbook TO {ROLE}",
        "CREATE on the schema runbook",
    ),
    "no temporary tables": (
        "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        "temporary|TEMPORARY on the database",
    ),
    # row level security
    "rls for others": ("ALTER TABLE kml_data ENABLE ROW LEVEL SECURITY", ""),
    "rls forced": (
        "ALTER TABLE kml_data ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        r"row level security of table public\.kml_data applies to role labeller_owner",
    ),
    "rls with a policy": (
        (
            "ALTER TABLE kml_data_static ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            "CREATE POLICY few ON kml_data_static USING (kml_type = 'I')"
        ),
        r"row level security of table public\.kml_data_static",
    ),
    # triggers and rules
    "trigger that returns NULL": (NULL + ON_GRID, TRIGGER),
    "trigger that raises": (RAISE + ON_GRID, TRIGGER),
    "trigger that writes elsewhere": (ELSEWHERE + ON_QUEUE, r"trigger public\.kml_data\.act"),
    "trigger enabled always": (
        NULL + ON_GRID + "ALTER TABLE master_grid ENABLE ALWAYS TRIGGER act",
        TRIGGER,
    ),
    "trigger of a replica": (
        NULL + ON_GRID + "ALTER TABLE master_grid ENABLE REPLICA TRIGGER act",
        TRIGGER,
    ),
    "trigger that is disabled": (
        NULL + ON_GRID + "ALTER TABLE master_grid DISABLE TRIGGER act",
        "",
    ),
    "constraint trigger at the commit": (
        RAISE + "CREATE CONSTRAINT TRIGGER act AFTER INSERT ON incoming_names"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE PROCEDURE act()",
        r"trigger public\.incoming_names\.act",
    ),
    "trigger on a table that is only read": (
        RAISE + "CREATE TRIGGER act BEFORE UPDATE ON kml_data_static"
        " FOR EACH ROW EXECUTE PROCEDURE act()",
        "",
    ),
    "rule that does nothing": (
        "CREATE RULE keep AS ON DELETE TO user_maps DO INSTEAD NOTHING",
        r"rule public\.user_maps\.keep",
    ),
    "rule that does more": (
        ELSEWHERE
        + "CREATE RULE more AS ON INSERT TO kml_data DO ALSO INSERT INTO written VALUES ('')",
        r"rule public\.kml_data\.more",
    ),
    "foreign keys disabled": (
        "ALTER TABLE hit_data DISABLE TRIGGER ALL",
        r"foreign key hit_data_name_fkey of public\.hit_data is not enforced",
    ),
    # foreign keys
    **{
        f"foreign key from elsewhere, {action}": (
            (
                "CREATE SCHEMA archive; CREATE TABLE archive.user_maps (name text DEFAULT NULL"
                f" REFERENCES kml_data (name) ON DELETE {action});"
                "INSERT INTO archive.user_maps SELECT name FROM kml_data LIMIT 3;"
                f"GRANT USAGE ON SCHEMA archive TO {ROLE}; GRANT SELECT ON archive.user_maps TO {ROLE}"
            ),
            r"3 rows of archive\.user_maps that refer to public\.kml_data",
        )
        for action in ("CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")
    },
    "foreign key from a table that may not be read": (
        (
            "CREATE SCHEMA archive; CREATE TABLE archive.user_maps (name text"
            " REFERENCES kml_data (name) ON DELETE CASCADE)"
        ),
        r"rows of archive\.user_maps, which this role may not read",
    ),
    "foreign key from elsewhere without rows": (
        (
            "CREATE SCHEMA archive; CREATE TABLE archive.user_maps (name text"
            f" REFERENCES kml_data (name) ON DELETE CASCADE); GRANT USAGE ON SCHEMA archive TO {ROLE};"
            f"GRANT SELECT ON archive.user_maps TO {ROLE}"
        ),
        "",
    ),
    "foreign key to elsewhere": (
        (
            "CREATE SCHEMA archive; CREATE TABLE archive.kinds (kind text PRIMARY KEY);"
            "INSERT INTO archive.kinds SELECT DISTINCT kml_type FROM kml_data;"
            "ALTER TABLE kml_data ADD FOREIGN KEY (kml_type) REFERENCES archive.kinds"
        ),
        r"public\.kml_data refers to archive\.kinds in another schema",
    ),
    "foreign key to a table without the new values": (
        (
            "CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds VALUES ('I'), ('Q');"
            f"DELETE FROM user_maps; DELETE FROM accuracy_data; DELETE FROM assignment_data;"
            "DELETE FROM hit_data; DELETE FROM kml_data WHERE kml_type = 'F';"
            f"GRANT ALL ON kinds TO {ROLE};"
            "ALTER TABLE kml_data ADD FOREIGN KEY (kml_type) REFERENCES kinds"
        ),
        "kml_type",
    ),
    "foreign key to itself": (
        (
            "ALTER TABLE kml_data ADD COLUMN parent text REFERENCES kml_data (name) ON DELETE CASCADE;"
            "UPDATE kml_data SET parent = (SELECT min(name) FROM kml_data)"
        ),
        "",
    ),
    "deferred foreign key that holds": (
        (
            "ALTER TABLE hit_data DROP CONSTRAINT hit_data_name_fkey, ADD FOREIGN KEY (name)"
            " REFERENCES kml_data (name) DEFERRABLE INITIALLY DEFERRED"
        ),
        "",
    ),
    "deferred foreign key that breaks at the commit": (
        (
            "CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds SELECT DISTINCT usage"
            " FROM incoming_names WHERE usage <> 'validate'; DELETE FROM incoming_names;"
            f"GRANT ALL ON kinds TO {ROLE}; ALTER TABLE incoming_names ADD FOREIGN KEY (usage)"
            " REFERENCES kinds DEFERRABLE INITIALLY DEFERRED"
        ),
        "violates foreign key",
    ),
    "deferred unique that holds": (
        "ALTER TABLE kml_data ADD UNIQUE (name, kml_type) DEFERRABLE INITIALLY DEFERRED",
        "",
    ),
    # tables of other kinds
    "view in place of a table": (
        (
            "ALTER TABLE machine_maps RENAME TO maps; CREATE VIEW machine_maps AS SELECT * FROM maps;"
            f"GRANT ALL ON machine_maps TO {ROLE}"
        ),
        r"public\.machine_maps is a view, not a table",
    ),
    "materialized view that is read": (
        (
            "ALTER TABLE kml_data_static RENAME TO kept;"
            "CREATE MATERIALIZED VIEW kml_data_static AS SELECT * FROM kept;"
            f"GRANT ALL ON kml_data_static TO {ROLE}"
        ),
        "is a materialized view, not a table",
    ),
    "partitioned": (
        (
            "DROP TABLE machine_maps; CREATE TABLE machine_maps (gid serial, name text)"
            f" PARTITION BY RANGE (gid); GRANT ALL ON machine_maps, machine_maps_gid_seq TO {ROLE}"
        ),
        r"public\.machine_maps is a partitioned table",
    ),
    "partition": (
        (
            "DROP TABLE machine_maps; CREATE TABLE maps (gid serial, name text) PARTITION BY LIST (name);"
            "CREATE TABLE machine_maps PARTITION OF maps FOR VALUES IN ('x')"
        ),
        r"table public\.machine_maps is a partition",
    ),
    "children": (
        "CREATE TABLE more_maps (more text) INHERITS (machine_maps)",
        r"table public\.machine_maps has rows in others that inherit from it: more_maps",
    ),
    "child": (
        "CREATE TABLE maps (gid integer NOT NULL); ALTER TABLE machine_maps INHERIT maps;",
        "",
    ),
    "unlogged": ("ALTER TABLE machine_maps SET UNLOGGED", ""),
    # columns and constraints
    "generated column": (
        (
            "ALTER TABLE master_grid ADD COLUMN place text GENERATED ALWAYS AS (x::text || y) STORED;"
            "ALTER TABLE kml_data ADD COLUMN both_ text GENERATED ALWAYS AS (kml_type || name) STORED"
        ),
        "",
    ),
    "identity always": (
        (
            "ALTER TABLE incoming_names ADD COLUMN id int GENERATED ALWAYS AS IDENTITY;"
            "ALTER TABLE machine_maps ADD COLUMN id int GENERATED ALWAYS AS IDENTITY"
        ),
        "",
    ),
    "identity in place of a serial": (
        (
            "ALTER TABLE kml_data ALTER COLUMN gid DROP DEFAULT; DROP SEQUENCE kml_data_gid_seq;"
            "ALTER TABLE kml_data ALTER COLUMN gid ADD GENERATED BY DEFAULT AS IDENTITY (START 7)"
        ),
        "",
    ),
    "domain": (
        (
            "CREATE DOMAIN kind AS text CHECK (VALUE <> 'F');"
            "ALTER TABLE kml_data ALTER COLUMN kml_type TYPE kind USING"
            " CASE kml_type WHEN 'F' THEN 'N' ELSE kml_type END"
        ),
        "kind",
    ),
    "check": (
        (
            "UPDATE incoming_names SET usage = 'train';"
            "ALTER TABLE incoming_names ADD CHECK (usage <> 'validate')"
        ),
        "violates check",
    ),
    "check that was not validated": (
        "ALTER TABLE master_grid ADD CONSTRAINT east CHECK (x > 1000) NOT VALID",
        "violates check",
    ),
    "check that was not validated and does not matter": (
        "ALTER TABLE incoming_names ADD CONSTRAINT new CHECK (NOT processed) NOT VALID",
        "",
    ),
    "not null": (
        (
            "ALTER TABLE kml_data ADD COLUMN need text NOT NULL DEFAULT ''; "
            "ALTER TABLE kml_data ALTER COLUMN need DROP DEFAULT"
        ),
        "need",
    ),
    "default of another function": (
        (
            "CREATE FUNCTION stamp() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'x'::text $$;"
            "ALTER TABLE kml_data ADD COLUMN stamp text DEFAULT stamp()"
        ),
        "",
    ),
    "unique index over an expression": (
        "CREATE UNIQUE INDEX ON kml_data (lower(name)) WHERE kml_type = 'F'",
        "",
    ),
    "exclusion": (
        "ALTER TABLE system_data ADD EXCLUDE USING btree (key WITH =)",
        "",
    ),
    "number with another step": ("ALTER SEQUENCE kml_data_gid_seq INCREMENT 5", ""),
    "number at its end": (
        (
            "SELECT setval('assignment_review_rid_seq', 1); ALTER SEQUENCE kml_data_gid_seq MAXVALUE 300"
            " CYCLE"
        ),
        "",
    ),
    "published without an identity": (
        (
            "ALTER TABLE master_grid DROP CONSTRAINT IF EXISTS master_grid_pkey;"
            "CREATE PUBLICATION everything FOR ALL TABLES"
        ),
        "replica identity",
    ),
    "published with a filter of another column": (
        "CREATE PUBLICATION few FOR TABLE kml_data WHERE (mapped_count > 0)",
        r"replica identity of table public\.kml_data does not fit .* publication few",
    ),
    "published with a filter and all columns as identity": (
        (
            "ALTER TABLE kml_data REPLICA IDENTITY FULL;"
            "CREATE PUBLICATION few FOR TABLE kml_data WHERE (mapped_count > 0)"
        ),
        "",
    ),
    "published without the column of the key": (
        "CREATE PUBLICATION few FOR TABLE hit_data (name)",
        r"replica identity of table public\.hit_data does not fit .* publication few",
    ),
}


#: Those that ``make test`` runs; all of them are a campaign.
USUAL = frozenset({
    "nothing", "table and number of another, all granted", "rls with a policy",
    "trigger that returns NULL", "foreign key to a table without the new values",
    "deferred foreign key that breaks at the commit",
    "check that was not validated and does not matter", "published without an identity",
})  # fmt: skip


@pytest.fixture(scope="module")
def owned_template(postgres_server: PostgresServer, labeller_template: Template) -> Template:
    """The filled database, its tables owned by a role that is no superuser."""
    name = "labeller_owned"
    admin(postgres_server, f"CREATE ROLE {ROLE} LOGIN PASSWORD 'test'")
    admin(postgres_server, f"CREATE DATABASE {name} TEMPLATE {labeller_template.name}")
    admin(postgres_server, OWN, database=name)
    return dataclasses.replace(labeller_template, name=name)


@pytest.fixture
def owned(
    postgres_server: PostgresServer, owned_template: Template, aws: dict[str, Any], bucket: str
) -> Iterator[Labeller]:
    """A database of its own, with the login of its administrator."""
    with copied(postgres_server, owned_template, aws, bucket) as made:
        made.sql(f"GRANT CREATE ON DATABASE {made.login['login_db']} TO {ROLE}")
        yield made


@pytest.fixture(scope="module")
def spoiled_template(
    postgres_server: PostgresServer, owned_template: Template, aws_endpoint: str
) -> tuple[Template, dict[str, Any], str]:
    """The database as it is after a backup and SPOIL; the AWS options and bucket of the backup."""
    aws = {"access_key": "test", "secret_key": "test", "region": "us-east-1"}
    aws["endpoint_url"] = aws_endpoint
    bucket = f"messy-{os.getpid()}"
    client(aws).create_bucket(Bucket=bucket)
    made = copy(postgres_server, owned_template, aws, bucket)
    make.present(restore_parameters(made), False)
    made.sql(SPOIL)
    return Template(made.login["login_db"], {}), aws, bucket


@pytest.fixture
def spoiled(
    postgres_server: PostgresServer, spoiled_template: tuple[Template, dict[str, Any], str]
) -> Iterator[Labeller]:
    """A database of its own to restore; its bucket is that of all, which a restore only reads."""
    template, aws, bucket = spoiled_template
    with copied(postgres_server, template, aws, bucket) as made:
        made.sql(f"GRANT CREATE ON DATABASE {made.login['login_db']} TO {ROLE}")
        yield made


def restore_parameters(labeller: Labeller) -> dict[str, Any]:
    tables = [table for table in support.TABLES if table != "worker_data"]
    return parameters(labeller.login, labeller.aws, labeller.bucket, tables=tables)


def outcome(labeller: Labeller, run: Any) -> tuple[Any, Any]:
    """The result and all rows, or the failure."""
    rows: dict[str, Any] = {}
    try:
        result = run(
            labeller, *support.regular(), support.step("worker_qualifications", state="reset"),
            observe=lambda tx: rows.update(support.dump(tx)),
        )  # fmt: skip
    except errors.ModuleFailure as error:
        return type(error), str(error)
    return result, rows


@pytest.mark.parametrize(
    "mess",
    [
        pytest.param(mess, marks=() if mess in USUAL else pytest.mark.campaign, id=mess)
        for mess in MESSES
    ],
)
def test_check_and_apply_agree(owned: Labeller, mess: str) -> None:
    statements, expected = MESSES[mess]
    if statements:
        owned.sql(statements.replace("{database}", owned.login["login_db"]))
    login = {**owned.login, "login_user": ROLE}
    labeller = dataclasses.replace(owned, login=login)
    before = support.state(owned)
    checked = outcome(labeller, support.check)
    assert support.state(owned) == before
    applied = outcome(labeller, support.apply)
    assert applied == checked
    if expected:
        assert re.search(expected, str(applied[1])), applied
        assert support.state(owned) == before
    else:
        assert isinstance(applied[0], dict), applied


#: What is changed since the backup: tables with and without foreign keys, and a number.
SPOIL = """
UPDATE user_maps SET name = name || 'x' WHERE gid % 2 = 0; DELETE FROM accuracy_data;
DELETE FROM user_maps WHERE gid % 3 = 0; INSERT INTO machine_maps (name) VALUES ('x');
UPDATE hit_data SET name = (SELECT min(name) FROM kml_data); UPDATE kml_data SET mapped_count = 7;
UPDATE incoming_names SET processed = NOT processed; UPDATE master_grid SET avail = 'T' WHERE gid < 9;
SELECT nextval('kml_data_gid_seq'); UPDATE system_data SET value = value || 'x';
"""

INSERT_RULE = "CREATE RULE more AS ON INSERT TO kml_data DO ALSO INSERT INTO written VALUES ('')"
#: What a restore says of a mess, if it is refused; the others of MESSES the check and the apply treat alike.
RESTORES: dict[str, tuple[str, str]] = {
    "nothing": ("", ""),
    "table of another, all granted": (
        f"ALTER TABLE hit_data OWNER TO postgres; GRANT ALL ON hit_data, hit_data_hit_id_seq TO {ROLE}",
        r"lacks ownership of public\.hit_data \(owner postgres; its foreign key hit_data_name_fkey",
    ),
    "table of another without foreign keys": (
        f"ALTER TABLE system_data OWNER TO postgres; GRANT ALL ON system_data TO {ROLE}",
        "",
    ),
    "no delete": (MESSES["no delete"][0], r"lacks UPDATE or DELETE or TRUNCATE on public\.user_maps"),
    "number of another": (
        (f"ALTER SEQUENCE kml_data_gid_seq OWNED BY NONE; ALTER SEQUENCE kml_data_gid_seq OWNER TO"
        f" postgres; GRANT ALL ON SEQUENCE kml_data_gid_seq TO {ROLE}"),
        r"lacks ownership of sequence public\.kml_data_gid_seq \(owner postgres; its value is set\)",
    ),
    "no temporary tables": (MESSES["no temporary tables"][0], "TEMPORARY on the database"),
    "rls forced": (
        MESSES["rls forced"][0],
        r"row level security of table public\.kml_data applies to role labeller_owner",
    ),
    "rls on a table that refers": (
        ("CREATE TABLE notes (name text REFERENCES kml_data (name));"
        f"ALTER TABLE notes OWNER TO {ROLE};"
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
        r"row level security of table public\.notes applies",
    ),
    "view over a table in another schema": (
        ("CREATE SCHEMA archive; ALTER TABLE machine_maps SET SCHEMA archive;"
        "CREATE VIEW machine_maps AS SELECT * FROM archive.machine_maps"),
        "machine_maps is a view, not a table",
    ),
    "triggers, which are stopped": (RAISE + ON_GRID + ON_QUEUE, ""),
    "trigger on a table of another": (
        ELSEWHERE
        + "CREATE TRIGGER act BEFORE INSERT ON machine_maps FOR EACH ROW EXECUTE PROCEDURE act();"
        f"ALTER TABLE machine_maps OWNER TO postgres; GRANT ALL ON machine_maps TO {ROLE};"
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
        r"ownership of public\.machine_maps \(owner postgres; its trigger act is stopped meanwhile\)",
    ),
    "rule that does more": (ELSEWHERE + INSERT_RULE, r"rule public\.kml_data\.more; nothing was"),
    "rule that does not matter": (MESSES["rule that does nothing"][0], ""),
    "foreign keys disabled": (
        MESSES["foreign keys disabled"][0],
        r"foreign key hit_data_name_fkey of public\.hit_data is not enforced",
    ),
    "foreign key from elsewhere that the rows break": (
        ("CREATE SCHEMA archive; GRANT USAGE ON SCHEMA archive TO {role};"
        "INSERT INTO kml_data (kml_type, name) VALUES ('F', 'new');"
        "CREATE TABLE archive.user_maps (name text REFERENCES kml_data (name) ON DELETE CASCADE);"
        "INSERT INTO archive.user_maps VALUES ('new'); ALTER TABLE archive.user_maps OWNER TO {role}"),
        r"not fit the others \(foreign key user_maps_name_fkey of table archive\.user_maps",
    ),
    "foreign key from elsewhere that holds": (
        ("CREATE SCHEMA archive; GRANT USAGE, CREATE ON SCHEMA archive TO {role};"
        "CREATE TABLE archive.user_maps (name text REFERENCES kml_data (name) ON DELETE CASCADE);"
        "INSERT INTO archive.user_maps SELECT name FROM kml_data LIMIT 3;"
        "ALTER TABLE archive.user_maps OWNER TO {role}"),
        "",
    ),
    "foreign key from a table of another": (
        MESSES["foreign key from a table that may not be read"][0],
        r"lacks SELECT on archive\.user_maps .*ownership of archive\.user_maps",
    ),
    "foreign key to a table of another": (
        ("CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds SELECT DISTINCT kml_type"
        " FROM kml_data; ALTER TABLE kml_data ADD FOREIGN KEY (kml_type) REFERENCES kinds;"
        "GRANT SELECT ON kinds TO {role}"),
        r"lacks REFERENCES on public\.kinds \(owner postgres\)",
    ),
    "view in place of a table": (MESSES["view in place of a table"][0], "machine_maps is a view"),
    "children": (MESSES["children"][0], r"lacks SELECT on public\.more_maps"),
    "published without an identity": (MESSES["published without an identity"][0], ""),
    "check that the rows break": (
        MESSES["check that was not validated and does not matter"][0],
        r"do not fit table incoming_names as it is now: they violate check constraint new",
    ),
    "unique that the rows break": (
        "DELETE FROM incoming_names; CREATE UNIQUE INDEX ON incoming_names (usage)",
        r"table incoming_names as it is now: they violate a unique or exclusion .* on \(usage\)",
    ),
    "no place for indexes": (
        ("REVOKE CREATE ON SCHEMA public FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM {role};"
        "GRANT USAGE ON SCHEMA public TO {role}"),
        "",
    ),
}  # fmt: skip
RESTORES_USUAL = frozenset({
    "table of another, all granted", "rule that does more", "triggers, which are stopped",
    "foreign key from elsewhere that the rows break", "no place for indexes",
    "check that the rows break",
})  # fmt: skip
_restores = {
    **{name: (statements, None) for name, (statements, _) in MESSES.items()},
    **RESTORES,
}


@pytest.mark.parametrize(
    "mess",
    [
        pytest.param(mess, marks=() if mess in RESTORES_USUAL else pytest.mark.campaign, id=mess)
        for mess in _restores
    ],
)
def test_check_and_apply_of_a_restore_agree(
    spoiled: Labeller, mess: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_REBUILD_ROWS", 100)
    statements, expected = _restores[mess]
    if statements:
        database = spoiled.login["login_db"]
        spoiled.sql(statements.replace("{database}", database).replace("{role}", ROLE))
    before = support.state(spoiled)
    outcomes: list[tuple[Any, Any]] = []
    given = {**restore_parameters(spoiled), "login_user": ROLE}
    for check in (True, False):
        try:
            done = restore.restored(given, check)
            given["planned"] = held.of_result(done)
            outcomes.append((done["diff"], done["tables"]))
        except errors.ModuleFailure as error:
            # How many rows break a foreign key is not known to the apply: it says one of them.
            outcomes.append((type(error), str(error).partition("): ")[0]))
        if check:
            assert support.state(spoiled) == before
    checked, applied = outcomes
    assert applied == checked
    if isinstance(applied[0], type):
        assert support.state(spoiled) == before
    if expected:
        assert re.search(expected, str(applied[1])), applied
    elif expected == "":
        assert isinstance(applied[0], list), applied
        assert {"kml_data", "hit_data", "user_maps", "machine_maps"} <= set(applied[1])
