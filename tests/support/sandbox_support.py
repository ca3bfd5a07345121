"""A sandbox as a test uses it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

from runbook.processes import Process
from runbook.sandbox import cloud, grid, postgres, processes
from runbook.sandbox.state import Home, State

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "from runbook.commands.sandbox import group; group()"


@dataclass(frozen=True)
class Box:
    """A sandbox of this test process."""

    runbook_home: Path

    @property
    def home(self) -> Home:
        return Home(self.runbook_home / "sandbox")

    @property
    def state(self) -> State:
        state = State.load(self.home)
        assert state is not None
        return state

    def command(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*options.pop("prefix", []), sys.executable, "-c", PROGRAM, *arguments], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "RUNBOOK_HOME": str(self.runbook_home)}, **options,
        )  # fmt: skip

    def run(self, *arguments: str, **options: Any) -> tuple[str, str]:
        process = self.command(*arguments, **options)
        out, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
        return out, err

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        session = psycopg2.connect(self.state.database_url)
        try:
            with session, session.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            session.close()

    def objects(self) -> dict[str, bytes]:
        s3, bucket = cloud.client("s3", self.state.endpoint_url), self.state.bucket
        return {
            each["Key"]: s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            for each in s3.list_objects_v2(Bucket=bucket)["Contents"]
        }

    def fingerprints(self) -> dict[str, str]:
        """The content of the sandbox, without secrets, which are random by intent."""
        dump = subprocess.run(
            [postgres.binaries() / "pg_dump", "--restrict-key=test", self.state.database_url],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        contents = {"database": dump, **self.objects(), "crontab": self.home.crontab.read_bytes()}
        return {
            name: hashlib.sha256(content).hexdigest()
            for name, content in contents.items()
            if not name.startswith("config_")
        }

    def daemons(self) -> set[Process]:
        return set(processes.daemons(self.home))


def squares(path: Path, *corners: tuple[int, int]) -> Path:
    """A GeoJSON file of areas of 900 cells each."""
    path.write_bytes(grid.geojson([grid.rectangle(column, row, 3, 3) for column, row in corners]))
    return path
