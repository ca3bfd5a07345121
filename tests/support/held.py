"""A backup or a restore that is held in its middle until its progress has been seen."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from command_line import PROJECT, RUNBOOK, Sandbox, playbook
from faulty import gate

#: Seconds after which a run that shows no progress is ended, and with it the test.
PATIENCE = 90

ROWS = 30_000

BACKUPS = "backups/progress"
#: A chunk's upload, and the load of one in the middle.
UPLOAD, DOWNLOAD = r"(PUT|POST) /\w+/backups/progress", r"GET /\w+/backups/progress/.*/0002"


def fill(sandbox: Sandbox) -> None:
    """A table of several chunks of a megabyte, other rows each time: no backup holds them."""
    with sandbox.database() as cursor:
        cursor.execute("DROP TABLE IF EXISTS long_table")
        cursor.execute(
            "CREATE TABLE long_table AS SELECT g AS id, repeat(md5(g || %s), 4) AS text"
            " FROM generate_series(1, %s) g",
            (str(uuid.uuid4()), ROWS),
        )
        cursor.execute("ANALYZE long_table")


def play(folder: Path, state: str, prefix: str = BACKUPS) -> Path:
    """A playbook that backs the table up, or restores it."""
    step = {
        "state": state,
        "bucket": "{{ bucket }}",
        "prefix": prefix,
        "tables": ["long_table"],
        "chunk_size": 1,
        "jobs": 1,
    }
    file = folder / f"{state}.yml"
    return playbook(file, "Copy the table", **{"labeller.runbook.s3_table_backup": step})


def until_told(
    sandbox: Sandbox,
    pattern: str,
    told: Callable[[str], bool],
    *arguments: str,
    interrupt: bool = False,
) -> list[str]:
    """Run ``apply ARGUMENTS``, held at a request to S3 until a line of output is as ``told`` wants.

    Then the request is let through and the run ends well, or it is interrupted. Gives all lines.
    """
    with gate(sandbox.status()["s3_endpoint_url"], pattern) as gated:
        run = subprocess.Popen(
            [RUNBOOK, "apply", *arguments, "-e", f"aws_endpoint_url={gated.url}"],
            env=sandbox.environment, cwd=PROJECT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert run.stdout is not None
        ending = threading.Timer(PATIENCE, run.terminate)
        ending.start()
        lines: list[str] = []
        seen = False
        for line in run.stdout:
            lines.append(line)
            if not seen and told(line):
                seen = True
                assert gated.reached.is_set()
                if interrupt:
                    run.send_signal(signal.SIGINT)
                else:
                    gated.open()
        ending.cancel()
        assert (run.wait(), seen) == (130 if interrupt else 0, True), "".join(lines)
    return lines


def progress(lines: list[str]) -> Iterator[dict[str, Any]]:
    """The events of progress among lines of ``--json``."""
    for line in lines:
        event = json.loads(line)
        if event["event"] == "progress":
            yield event


def halfway(phase: str) -> Callable[[str], bool]:
    """Whether a line of ``--json`` says that a table is in the middle of a phase."""

    def told(line: str) -> bool:
        return any(
            event["phase"] == phase and 0 < event["rows"] < event["total_rows"]
            for event in progress([line])
        )

    return told
