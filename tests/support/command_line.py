"""The command line as a user runs it, against a sandbox of this test process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
import yaml

from runbook.sandbox import lifecycle, postgres
from runbook.sandbox.state import Home

PROJECT = Path(__file__).resolve().parent.parent.parent
RUNBOOK = Path(sys.executable).parent / "runbook"


@dataclass(frozen=True)
class Sandbox:
    """A sandbox below ``home``, and what one asks of it from outside."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """A user's environment, without this test process's own settings."""
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("ANSIBLE_", "PYTEST_", "AWS_", "PG"))
        }
        return {**kept, "RUNBOOK_HOME": str(self.home), "COLUMNS": "200"}

    def run(
        self, *arguments: str, exit_code: int | None = 0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """``runbook ARGUMENTS``; fails the test when it ends with another exit code."""
        environment = {**self.environment, **options.pop("env", {})}
        done = subprocess.run(
            [RUNBOOK, *arguments], env=environment, text=True, capture_output=True,
            stdin=subprocess.DEVNULL, **{"cwd": PROJECT, **options},
        )  # fmt: skip
        if exit_code is not None and done.returncode != exit_code:
            pytest.fail(
                f"runbook {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def apply(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """``runbook apply regular.yml -i sandbox --yes ARGUMENTS``."""
        return self.run("apply", "regular.yml", "-i", "sandbox", "--yes", *arguments, **options)

    def status(self) -> dict[str, Any]:
        """The object that ``sandbox status --json`` prints, without a process for it."""
        return lifecycle.status(Home(self.home / "sandbox"))

    @contextlib.contextmanager
    def database(self) -> Iterator[Any]:
        """A cursor on the sandbox's database, committed at the end."""
        session = psycopg2.connect(self.status()["database_url"])
        try:
            with session, session.cursor() as cursor:
                yield cursor
        finally:
            session.close()

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.database() as cursor:
            cursor.execute(sql, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def s3(self) -> Any:
        """A client of the sandbox's S3."""
        return boto3.client(
            "s3", endpoint_url=self.status()["s3_endpoint_url"], region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def objects(self) -> dict[str, str]:
        """Every object of the bucket: key and sha256 of its content."""
        s3, bucket = self.s3(), self.status()["bucket"]
        found = {}
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                found[entry["Key"]] = hashlib.sha256(body).hexdigest()
        return found

    def text(self, key: str) -> str:
        """The content of an object of the bucket."""
        body: bytes = self.s3().get_object(Bucket=self.status()["bucket"], Key=key)["Body"].read()
        return body.decode()

    def snapshot(self) -> dict[str, Any]:
        """All that a run may change: the database's dump, the bucket, the crontab, config.yaml.

        Of the schema runbook the run marker alone: the lease only names the running holder.
        """
        status = self.status()
        dump = subprocess.run(
            [postgres.binaries() / "pg_dump", "--restrict-key=test", "--exclude-schema=runbook",
             status["database_url"]],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        marked = self.query("SELECT to_regclass('runbook.run_marker') IS NOT NULL") == [(True,)]
        crontab, config = (
            Path(status["crontab"]),
            Path(status["home"]) / "labeller/common/config.yaml",
        )
        return {
            "database": hashlib.sha256(dump).hexdigest(),
            "marker": self.query("SELECT m::text FROM runbook.run_marker m") if marked else [],
            "bucket": self.objects(),
            "crontab": crontab.read_bytes() if crontab.exists() else None,
            "config": config.read_bytes() if config.exists() else None,
        }


def playbook(file: Path, name: str, **module: Mapping[str, Any]) -> Path:
    """Write a playbook of one step, with the parameters and logins that the packaged ones have."""
    play = {
        "name": "Test",
        "hosts": "all",
        "gather_facts": False,
        "roles": [{"role": "labeller.runbook.parameters"}],
        "module_defaults": {
            "group/labeller.runbook.postgres": "{{ postgres_login }}",
            "group/labeller.runbook.aws": "{{ aws_login }}",
        },
        "tasks": [{"name": name, **module}],
    }
    file.write_text(yaml.safe_dump([play], sort_keys=False))
    return file


def runs(text: str) -> list[list[dict[str, Any]]]:
    """The events of each run that ``--json`` printed."""
    found: list[list[dict[str, Any]]] = []
    for line in text.splitlines():
        event = json.loads(line)
        if event["event"] == "run_started":
            found.append([])
        if found:
            found[-1].append(event)
    return found


def require_equal_ways(sandbox: Sandbox, target: str) -> None:
    """Fail unless the fast way and ``RUNBOOK_FAST=0`` give the same, and the one finds done what
    the other did.
    """
    kept = ("task", "status", "changed", "message", "error_kind", "warnings", "diff", "plan")

    def told(fast: str, *arguments: str, exit_code: int = 0) -> list[dict[str, object]]:
        done = sandbox.run(
            *("apply", "regular.yml", "-i", target, "--yes", "--json", *arguments),
            env={"RUNBOOK_FAST": fast}, exit_code=exit_code,
        )  # fmt: skip
        return [
            {name: event[name] for name in kept if name in event}
            for event in events(done)
            if event["event"] == "task_result"
        ]

    assert told("1", "--check") == told("0", "--check")
    failing = ("--check", "-e", "db_port=1")
    assert told("1", *failing, exit_code=4) == told("0", *failing, exit_code=4)
    told("0")
    assert not [result for result in told("1") if result["changed"]]


def events(done: subprocess.CompletedProcess[str] | str) -> list[Mapping[str, Any]]:
    """The objects that ``--json`` printed, or a journal holds, for the last run.

    An apply makes a check run first.
    """
    lines = done if isinstance(done, str) else done.stdout
    found = [json.loads(line) for line in lines.splitlines()]
    begins = [number for number, event in enumerate(found) if event["event"] == "run_started"]
    return found[begins[-1] if begins else 0 :]


def descendants(pid: int) -> list[int]:
    """A process and all that it started, the youngest first."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[::-1]
