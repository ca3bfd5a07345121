"""The loop: a call of iterate.yml with nothing to do, and 10,000 names that the learner brought.

The idle call is ``runbook apply iterate.yml -i sandbox`` as the crontab makes it, with the sessions
that it opens at the database. The names go through the module ``iteration`` (read from S3, held
against the grid, made sites, counted up) beside what register_f_sites.py did, a commit a name.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg2

from benchmarks.engine import BIN, PROJECT, TIMES, clean_environment, seconds
from runbook import collection

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = 10_000
METRICS, OUTGOING = "bench/metrics.csv", "bench/outgoing.csv"


class Bench:
    """A sandbox with a run of regular production in place."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**clean_environment(), "RUNBOOK_HOME": str(folder / "home")}
        sys.path[:0] = [
            str(collection.link(folder / "collections")),
            str(PROJECT / "tests" / "support"),
        ]

    def runbook(self, *arguments: str) -> float:
        """Seconds of a call that ends well."""
        return seconds([str(BIN / "runbook"), *arguments], self.environment)

    def up(self) -> None:
        """Make the sandbox and open a session that counts."""
        self.runbook("sandbox", "up")
        self.runbook("apply", "regular.yml", "-i", "sandbox", "--yes")
        asked = [str(BIN / "runbook"), "sandbox", "status", "--json"]
        told = subprocess.run(asked, env=self.environment, capture_output=True, check=True)
        self.status: dict[str, Any] = json.loads(told.stdout)
        self.session = psycopg2.connect(self.status["database_url"])
        self.session.autocommit = True

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own."""
        with self.session.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def counted(self, column: str) -> int:
        """A counter of pg_stat_database, once no other session is connected."""
        others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
        while self.rows(others + "pg_backend_pid() AND backend_type = 'client backend'"):
            time.sleep(0.01)
        self.rows("SELECT pg_stat_clear_snapshot()")
        ((value,),) = self.rows(
            f"SELECT {column} FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(value)

    def idle(self) -> tuple[float, float]:
        """Median seconds of a call with nothing to do, and the database sessions of one."""
        call = ("apply", "iterate.yml", "-i", "sandbox", "--yes")
        self.runbook(*call)
        before = self.counted("sessions")
        taken = statistics.median(self.runbook(*call) for _ in range(TIMES))
        return taken, (self.counted("sessions") - before) / TIMES

    def names(self) -> tuple[float, float]:
        """Seconds for NAMES names: ours, from the learner's objects to the queue; the old way."""
        import old_way
        from ansible_collections.labeller.runbook.plugins.module_utils.steps import iteration

        self.rows("UPDATE incoming_names SET processed = true, label = true")
        self.rows("UPDATE kml_data SET mappers_needed = mapped_count WHERE kml_type = 'F'")
        found = self.rows(
            "SELECT name FROM master_grid WHERE name NOT IN (SELECT name FROM kml_data)"
            " AND name NOT IN (SELECT name FROM incoming_names) ORDER BY name LIMIT %s",
            2 * NAMES,
        )
        names = [name for (name,) in found]
        assert len(names) == 2 * NAMES
        s3 = boto3.client(
            "s3", endpoint_url=self.status["s3_endpoint_url"], region_name="us-east-1",
            aws_access_key_id="bench", aws_secret_access_key="bench",
        )  # fmt: skip
        metrics = "run,iteration,accuracy\n0,1,0.5\n"
        outgoing = "name,run,iteration,processed,usage\n"
        outgoing += "".join(f"{name},0,1,False,train\n" for name in names[:NAMES])
        for key, text in ((METRICS, metrics), (OUTGOING, outgoing)):
            s3.put_object(Bucket=self.status["bucket"], Key=key, Body=text.encode())
        url = self.session.get_dsn_parameters()
        params = {
            "login_host": url["host"], "login_port": int(url["port"]), "login_db": url["dbname"],
            "login_user": url["user"], "login_password": self.session.info.password,
            "connect_timeout": 10, "lock_timeout": 30, "access_key": "bench",
            "secret_key": "bench", "region": "us-east-1",
            "endpoint_url": self.status["s3_endpoint_url"], "bucket": self.status["bucket"],
            "backup": None, "state": "advanced", "aoi_name": "ghana", "aoi_index": 1, "run_id": 0,
            "iteration": 0, "incoming_names": None, "metrics": METRICS, "outgoing": OUTGOING,
        }  # fmt: skip
        ours = _timed(lambda: iteration.logic(params, False))
        assert self.rows("SELECT count(*) FROM kml_data WHERE name = ANY (%s)", names) == [(NAMES,)]
        self.rows("UPDATE incoming_names SET processed = true")
        self.rows("INSERT INTO iteration_metrics (run, iteration) VALUES (0, 2)")
        self.rows(
            "INSERT INTO incoming_names (name, run, iteration, usage)"
            " SELECT unnest(%s::text[]), 0, 2, 'train'",
            names[NAMES:],
        )
        return ours, _timed(lambda: old_way.register_f_sites(self.session))


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            bench.up()
            idle, sessions = bench.idle()
            ours, old = bench.names()
        finally:
            bench.runbook("sandbox", "down")
    print("\n| loop | figure | held to |\n|---|---|---|")
    print(f"| runbook apply iterate.yml, nothing to do: seconds (median) | {idle:.2f} | 1.5 |")
    print(f"| its database connections | {sessions:g} | 1 |")
    print(f"| {NAMES:,} names, iteration advanced: seconds | {ours:.2f} | |")
    print(f"| register_f_sites.py's statements, a commit a name: seconds | {old:.2f} | |")
    print(f"| ratio, without fsync, which flatters the old way | {old / ours:.1f} | above 1 |")
