"""Memory of a backup and of a restore: it does not grow with the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import psycopg2
import pytest
from backup_support import execute, parameters, url

from runbook import collection

#: Rows of a megabyte that hardly compresses: more than the parts that may be on their way at once.
SMALL, LARGE = 64, 192
#: Megabytes that peaks may differ by: the parts on their way. As CSV the tables differ by 128, as
#: objects by 64.
SLACK = 40

#: Calls the module's logic and prints the peak of the process in megabytes after each.
CALLS = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.labeller.runbook.plugins.modules import s3_table_backup as module
for table in ("small", "large"):
    given = {**json.loads(sys.argv[2]), "prefix": table, "tables": [table]}
    assert module.logic(given, False)["changed"]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


class Noise:
    """A file of rows for COPY, each a megabyte of random hex."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def read(self, _size: int = -1) -> str:
        self._rows -= 1
        return os.urandom(1 << 19).hex() + "\n" if self._rows >= 0 else ""


@pytest.mark.campaign
def test_memory_does_not_grow_with_the_table(
    database: dict[str, Any], aws: dict[str, Any], bucket: str
) -> None:
    for name, rows in (("small", SMALL), ("large", LARGE)):
        execute(database, f"CREATE TABLE {name} (t text)")
        execute(database, f"ALTER TABLE {name} ALTER t SET STORAGE EXTERNAL")
        session = psycopg2.connect(url(database))
        with session, session.cursor() as cursor:
            cursor.copy_expert(f"COPY {name} FROM STDIN", Noise(rows))
        session.close()
    params = parameters(database, aws, bucket, jobs=1)
    for state in ("present", "restored"):
        if state == "restored":
            execute(database, "TRUNCATE small, large")
        done = subprocess.run(
            [sys.executable, "-c", CALLS, str(collection.root() / ".build/collections"),
             json.dumps({**params, "state": state})],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        small, large = map(int, done.stdout.split())
        assert large - small < SLACK, state
    assert execute(database, "SELECT count(*), min(length(t)) FROM large") == [(LARGE, 1 << 20)]
