"""PostgreSQL servers of the tests: each ends with the block that it was started in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from runbook.sandbox.postgres import NOBODY, PostgresServer, free_port

#: The programs of PostgreSQL 10, where .ci/postgres could fetch them.
OLDEST = Path(__file__).resolve().parents[2] / ".build" / "postgresql-10" / "bin"


@contextmanager
def running(folder: Path, programs: Path) -> Iterator[PostgresServer]:
    """A new server with its data in ``folder``, run from the folder ``programs``."""
    server = PostgresServer(folder, free_port(), "test", programs)
    try:
        server.create()
        server.start()
        _hash_password_once(server)
        yield server
    finally:
        server.stop("immediate")


def _hash_password_once(server: PostgresServer) -> None:
    """Let a login hash its password once instead of 4,096 times: tests log in thousands of times."""
    session = psycopg2.connect(server.url("postgres"))
    if session.server_version >= 160000:  # the first with the setting
        with session, session.cursor() as cursor:
            cursor.execute("SET scram_iterations = 1")
            cursor.execute("ALTER ROLE postgres PASSWORD %s", (server.password,))
    session.close()


@contextmanager
def standby(folder: Path, primary: PostgresServer) -> Iterator[PostgresServer]:
    """A hot standby that has all that the running ``primary`` has, and follows it."""
    folder.mkdir()
    made = PostgresServer(folder, free_port(), primary.password, primary.bin)
    subprocess.run(
        [primary.bin / "pg_basebackup", "--pgdata", made.pgdata, "--write-recovery-conf",
         "--checkpoint=fast", "--no-sync", "--dbname", primary.url("postgres")],
        check=True, capture_output=True,
    )  # fmt: skip
    for path in (folder, made.pgdata, *made.pgdata.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    try:
        made.start()
        yield made
    finally:
        made.stop("immediate")


def create_database(server: PostgresServer, name: str, template: str = "template1") -> None:
    """A copy of another database, by its files where the version has the choice: half of the CPU."""
    session = psycopg2.connect(server.url("postgres"))
    session.autocommit = True
    strategy = "STRATEGY file_copy" if session.server_version >= 150000 else ""
    with session.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
    session.close()


def debian() -> Path | None:
    """The programs of Debian's newest PostgreSQL that has PostGIS; None where there is none."""
    controls = Path("/usr/share/postgresql").glob("*/extension/postgis.control")
    versions = sorted((control.parents[1].name for control in controls), key=float, reverse=True)
    folders = [Path("/usr/lib/postgresql", version, "bin") for version in versions]
    return next((folder for folder in folders if (folder / "postgres").exists()), None)
