"""Helpers of the tests of faults: steps, sessions that hold locks, threads, a full disk."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils.step import Step, Transaction
from labeller_support import admin

from runbook.sandbox.postgres import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ansible_collections.labeller.runbook.plugins.module_utils.change import Change
    from labeller_support import Labeller

    from runbook.sandbox.postgres import PostgresServer


class Act(Step):
    """A step that does what it is given."""

    name = "act"

    def run(self, tx: Transaction) -> list[Change]:
        self.params["act"](tx)
        return []


def absent(reason: str) -> None:
    """Skip where a developer's machine lacks something that CI has to have."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def waiting(labeller: Labeller, table: str) -> bool:
    """Whether a session waits for a lock on the table."""
    return labeller.sql(
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = %s::regclass", table
    ) == [(True,)]


class Held:
    """A session that holds what its statements locked until it is let go."""

    def __init__(self, labeller: Labeller, *statements: str) -> None:
        self.session = labeller.connect()
        self.pid = self.session.info.backend_pid
        for statement in statements:
            self.execute(statement)

    def execute(self, statement: str) -> None:
        with self.session.cursor() as cursor:
            cursor.execute(statement)

    def let_go(self) -> None:
        self.session.rollback()
        self.session.close()


class Background(threading.Thread):
    """A call in a thread; ``result`` waits for it, and raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call
        self._value: Any = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._call()
        except Exception as error:  # noqa: BLE001  # raised by result
            self._error = error

    def result(self) -> Any:
        self.join(60)
        assert not self.is_alive()
        if self._error:
            raise self._error
        return self._value


class SmallDisk:
    """A tablespace ``small`` on a file system that is full but for 64 kB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        found = os.statvfs(self.folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self._resize(used + 64 * 1024)

    def free(self) -> None:
        self._resize(64 * 1024 * 1024)

    def _resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)


@contextmanager
def small_disk(labeller: Labeller, server: PostgresServer, folder: Path) -> Iterator[SmallDisk]:
    """Skips where mounting is not permitted; the test of temp_file_limit is for there."""
    folder.mkdir()
    options = f"size=64m,uid={NOBODY},gid={NOBODY},mode=700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted: {mounted.stderr}")
    try:
        admin(server, f"CREATE TABLESPACE small LOCATION '{folder}'")
        disk = SmallDisk(folder)
        yield disk
        disk.free()
        labeller.sql("ALTER TABLE scenes_data SET TABLESPACE pg_default")
        admin(server, "CHECKPOINT", "DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # the checkpointer keeps files
