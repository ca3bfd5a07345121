"""Faults on the wire and in the server: a clear error, nothing lost, the next run finishes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws as aws_clients
from ansible_collections.labeller.runbook.plugins.module_utils import errors
from ansible_collections.labeller.runbook.plugins.module_utils.backup import make, restore, source
from backup_support import PREFIX, SCHEMA, TABLES, execute, keys, parameters, s3, url
from faulty import Fault, Proxy, on

from runbook import collection

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def proxy(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(aws_clients, "PATIENCE", 12)  # a second an attempt
    monkeypatch.setattr(aws_clients, "ATTEMPTS", 3)
    with Proxy(aws_endpoint).running() as running:
        yield running


@pytest.fixture
def params(
    database: dict[str, Any], aws: dict[str, Any], bucket: str, proxy: Proxy
) -> dict[str, Any]:
    execute(database, SCHEMA)
    return parameters(database, aws, bucket, endpoint_url=proxy.url)


def nothing_left_over(aws: Any, bucket: str, backup_id: str) -> None:
    """Only the named backup is below the prefix, and no part of an upload."""
    assert {key.split("/")[3] for key in keys(aws, bucket, PREFIX)} == {backup_id}
    assert "Uploads" not in s3(aws).list_multipart_uploads(Bucket=bucket)


SLOW_DOWN = Fault("status", 503, "SlowDown")
STALL = Fault("stall", seconds=1.5)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", 500),
        SLOW_DOWN,
        Fault("reset"),
        pytest.param(STALL, marks=pytest.mark.campaign),
    ],
    ids=lambda f: f.kind + f.code,
)
def test_a_fault_that_passes_is_survived(
    params: dict[str, Any], proxy: Proxy, fault: Fault
) -> None:
    proxy.rule = on("PUT", "hit_data", fault, 1)
    assert make.present(params, False)["changed"]
    execute(params, "DELETE FROM assignment_data WHERE assignment_id < 9")
    proxy.rule = on("GET", "assignment_data/0000", fault, 1)
    assert restore.restored(params, False)["changed"]
    assert execute(params, "SELECT count(*) FROM assignment_data") == [(2000,)]


@pytest.mark.parametrize(
    ("method", "path", "again"),
    [
        pytest.param("POST", "[?]uploads$", None, marks=pytest.mark.campaign),
        pytest.param("PUT", "partNumber=2", None, marks=pytest.mark.campaign),
        ("POST", "uploadId=", Fault("status", 404, "NoSuchUpload")),  # as some servers say
        pytest.param("PUT", "manifest.json", None, marks=pytest.mark.campaign),
    ],
    ids=["begin", "part", "complete", "manifest"],
)
def test_a_lost_answer_is_no_failure(
    params: dict[str, Any], aws: Any, bucket: str, proxy: Proxy,
    method: str, path: str, again: Fault | None,
) -> None:  # fmt: skip
    execute(params, BIG)
    given = {**params, "tables": ["noise"]}
    lost, repeated = on(method, path, Fault("lose"), 1), on(method, path, again, 1)
    proxy.rule = lambda request: lost(request) or repeated(request)
    made = make.present(given, False)
    asked = [each for each in proxy.seen if each.method == method and re.search(path, each.path)]
    assert len(asked) == 2
    assert not make.present({**given, "verify": "deep"}, False)["changed"]
    execute(params, "DELETE FROM noise WHERE ctid = (SELECT min(ctid) FROM noise)")
    assert make.present(given, False)["backup_id"] != made["backup_id"]
    assert "Uploads" not in s3(aws).list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Fault("status", 500), errors.ModuleFailure, "write s3://.*hit_data/0000.csv.zst"),
        (SLOW_DOWN, errors.ModuleFailure, "SlowDown"),
        (Fault("reset"), errors.Unreachable, "hit_data/0000.csv.zst"),
        pytest.param(
            STALL,
            errors.Unreachable,
            "hit_data/0000.csv.zst.*Read timeout",
            marks=pytest.mark.campaign,
        ),
        (Fault("status", 403, "AccessDenied"), errors.ModuleFailure, "access denied"),
        (Fault("status", 404, "NoSuchBucket"), errors.InvalidInput, "no such bucket"),
        (Fault("status", 403, "RequestTimeTooSkewed"), errors.ModuleFailure, "clock of this host"),
        (Fault("damage_upload"), errors.ModuleFailure, "the upload is damaged.*hit_data"),
    ],
    ids=lambda value: value.kind + value.code if isinstance(value, Fault) else "",
)
def test_a_fault_that_stays_leaves_no_backup_and_the_next_run_makes_one(
    params: dict[str, Any],
    aws: Any,
    bucket: str,
    proxy: Proxy,
    fault: Fault,
    kind: Any,
    message: str,
) -> None:
    proxy.rule = on("PUT", "hit_data", fault)
    with pytest.raises(kind, match=message):
        make.present(params, False)
    assert not [key for key in keys(aws, bucket) if key.endswith("manifest.json")]
    proxy.rule = lambda _: None
    nothing_left_over(aws, bucket, make.present(params, False)["backup_id"])


BIG = """CREATE TABLE noise AS SELECT g AS id, string_agg(md5(random()::text), '') AS t
    FROM generate_series(1, 6000) g, generate_series(1, 100) h GROUP BY g"""


@pytest.mark.campaign
def test_a_part_that_never_completes(
    params: dict[str, Any], aws: Any, bucket: str, proxy: Proxy
) -> None:
    execute(params, BIG)
    given = {**params, "tables": ["noise"]}
    proxy.rule = on("PUT", "partNumber=1", Fault("stall", seconds=1.5))
    with pytest.raises(errors.Unreachable, match=r"noise/0000.csv.zst"):
        make.present(given, False)
    # the failed run has aborted its upload; one that could not is aborted by the next run
    proxy.rule = lambda _: None
    nothing_left_over(aws, bucket, make.present(given, False)["backup_id"])


def test_an_object_that_cannot_be_read_is_named(params: dict[str, Any], proxy: Proxy) -> None:
    make.present(params, False)
    execute(params, "DELETE FROM assignment_data")
    proxy.rule = on("GET", r"assignment_data/0000\.csv\.zst", Fault("reset"))
    with pytest.raises(
        errors.Unreachable, match=r"cannot read s3://.*assignment_data/0000.csv.zst"
    ):
        restore.restored(params, False)
    assert execute(params, "SELECT count(*) FROM assignment_data") == [(0,)]


def test_truncated_bodies_are_taken_up_where_they_ended(
    params: dict[str, Any], proxy: Proxy
) -> None:
    make.present(params, False)
    execute(params, "DELETE FROM assignment_data; DELETE FROM hit_data")
    proxy.rule = on("GET", r"csv\.zst", Fault("truncate"), 4)
    assert restore.restored(params, False)["changed"]
    assert execute(params, "SELECT count(*) FROM assignment_data") == [(2000,)]


@pytest.mark.parametrize("condition", ["true", "assignment_id < 9"], ids=["emptied", "changed"])
def test_a_body_damaged_on_the_way_changes_nothing(
    params: dict[str, Any], proxy: Proxy, condition: str
) -> None:
    make.present(params, False)
    execute(params, f"DELETE FROM assignment_data WHERE {condition}")
    before = execute(params, "SELECT * FROM assignment_data ORDER BY 1")
    proxy.rule = on("GET", r"assignment_data/0000\.csv\.zst", Fault("damage"))
    with pytest.raises(
        errors.ModuleFailure, match=r"assignment_data/0000.csv.zst is not what was written"
    ):
        restore.restored(params, False)
    assert execute(params, "SELECT * FROM assignment_data ORDER BY 1") == before
    proxy.rule = lambda _: None
    restore.restored(params, False)
    assert execute(params, "SELECT count(*) FROM assignment_data") == [(2000,)]


RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.labeller.runbook.plugins.modules import s3_table_backup as module
module.logic(json.loads(sys.argv[2]), False)
"""


@pytest.mark.parametrize(
    "moment", [4, *[pytest.param(n, marks=pytest.mark.campaign) for n in (8, 12)]]
)
def test_killed_at_any_request_the_next_run_cleans_up(
    params: dict[str, Any], aws: Any, bucket: str, proxy: Proxy, moment: int
) -> None:
    execute(params, BIG)
    given = {**params, "tables": [*TABLES, "noise"]}
    running: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def rule(request: Any) -> Fault | None:
        if request.number == moment:
            ready.wait(10)
            os.kill(running[0].pid, signal.SIGKILL)
            running[0].wait()
        return Fault("reset") if request.number > moment else None

    proxy.rule = rule
    command = [
        sys.executable,
        "-c",
        RUN,
        str(collection.root() / ".build/collections"),
        json.dumps(given),
    ]
    running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    ready.set()
    assert running[0].wait(60) == -signal.SIGKILL
    proxy.settle()  # what the dead process had asked for is still done
    whole = [key for key in keys(aws, bucket) if key.endswith("manifest.json")]
    proxy.rule = lambda _: None
    deadline = time.monotonic() + 10
    while True:
        try:
            done = make.present(given, False)
            break
        except errors.Locked:  # the server has not noticed yet that the client is gone
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert done["changed"] is not bool(whole)
    nothing_left_over(aws, bucket, done["backup_id"])


def sessions_end(database: Any) -> None:
    """The effect of the server's restart on its connections."""
    execute(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip


def test_the_server_restarts_during_a_dump(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, proxy: Proxy
) -> None:
    ended = threading.Event()

    def rule(request: Any) -> Fault | None:
        if request.method == "PUT" and not ended.is_set():
            ended.set()
            sessions_end(database)
        return None

    proxy.rule = rule
    with pytest.raises(errors.Unreachable, match="run it again"):
        make.present(params, False)
    assert not [key for key in keys(aws, bucket) if key.endswith("manifest.json")]
    nothing_left_over(aws, bucket, make.present(params, False)["backup_id"])


def test_the_server_restarts_during_a_load(
    params: dict[str, Any], database: Any, proxy: Proxy
) -> None:
    make.present(params, False)
    execute(database, "DELETE FROM assignment_data WHERE assignment_id < 9")
    left = execute(database, "SELECT * FROM assignment_data ORDER BY 1")
    proxy.rule = lambda request: (
        sessions_end(database)
        if "assignment_data/0000" in request.path and request.method == "GET"
        else None
    )
    with pytest.raises(errors.Unreachable):
        restore.restored(params, False)
    assert execute(database, "SELECT * FROM assignment_data ORDER BY 1") == left
    proxy.rule = lambda _: None
    assert restore.restored(params, False)["changed"]
    assert execute(database, "SELECT count(*) FROM assignment_data") == [(2000,)]


def test_a_table_dropped_or_altered_meanwhile(
    params: dict[str, Any], database: Any, aws: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the lock it is a clear error; after it, the other session waits."""
    make.present(params, False)
    execute(database, "CREATE TABLE going (id int)")
    begin = source.Snapshot.begin

    def dropped(self: Any, mode: str, *, readonly: bool) -> None:
        execute(database, "DROP TABLE going")
        begin(self, mode, readonly=readonly)

    with monkeypatch.context() as patch:
        patch.setattr(source.Snapshot, "begin", dropped)
        with pytest.raises(errors.ModuleFailure, match=r"going.*does not exist"):
            make.present({**params, "tables": ["going", "hit_data"]}, False)

    def altered(self: Any, mode: str, *, readonly: bool) -> None:
        execute(database, "ALTER TABLE hit_data ADD late int; DELETE FROM assignment_data")
        begin(self, mode, readonly=readonly)

    with monkeypatch.context() as patch:
        patch.setattr(source.Snapshot, "begin", altered)
        with pytest.raises(errors.Stale, match="hit_data was altered meanwhile"):
            restore.restored(params, False)

    with source.Snapshot.of(params, TABLES):
        session = psycopg2.connect(url(database), options="-c lock_timeout=100")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            session.cursor().execute("DROP TABLE assignment_data")
        session.close()


@pytest.mark.campaign
def test_a_value_of_a_gigabyte_is_refused_by_name(
    params: dict[str, Any], database: Any, aws: Any, bucket: str
) -> None:
    execute(database, "CREATE TABLE huge (id int, doc bytea); ALTER TABLE huge ALTER doc SET STORAGE EXTERNAL;"
            "INSERT INTO huge VALUES (1, 'small'), (2, convert_to(repeat('x', 540000000), 'UTF8'))")  # fmt: skip
    with pytest.raises(
        errors.InvalidInput,
        match=r"table huge: column doc has a value of 540000000 bytes in the row with ctid \(0,2\)",
    ):
        make.present({**params, "tables": ["hit_data", "huge"]}, False)
    assert not [key for key in keys(aws, bucket) if key.endswith("manifest.json")]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_other_encodings(params: dict[str, Any], database: Any, encoding: str) -> None:
    name = f"{database['login_db']}_{encoding.lower()}"
    admin = psycopg2.connect(url(database))
    admin.autocommit = True
    admin.cursor().execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    try:
        other = {**database, "login_db": name}
        given = {**params, **other, "tables": ["t"]}
        session = psycopg2.connect(url(other))
        session.set_client_encoding(encoding)
        with session, session.cursor() as cursor:
            cursor.execute("CREATE TABLE t (id int, v text)")
            cursor.execute(b"INSERT INTO t VALUES (1, 'caf\xe9'), (2, NULL), (3, '')")
        session.close()
        octets = "SELECT id, encode(convert_to(v, getdatabaseencoding()), 'hex') FROM t ORDER BY 1"
        before = execute(other, octets)
        assert before[0][1] == "636166e9"
        assert make.present({**given, "verify": "deep"}, False)["changed"]
        execute(other, "DELETE FROM t WHERE id = 1")
        assert restore.restored(given, False)["changed"]
        assert execute(other, octets) == before
        execute(other, "DELETE FROM t")
        restore.restored(given, False)
        assert execute(other, octets) == before
    finally:
        admin.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()
