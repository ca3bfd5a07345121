"""``runbook status`` and the exit codes of iterate.yml, as a user calls them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from command_line import PROJECT, RUNBOOK, Sandbox
from waiting import until

from runbook.errors import ExitCode
from runbook.load import schemas


def status(sandbox: Sandbox) -> dict[str, Any]:
    """The object that ``runbook status -i sandbox --json`` prints."""
    found = json.loads(sandbox.run("status", "-i", "sandbox", "--json").stdout)
    schemas.validator("status").validate(found)
    host: dict[str, Any] = found["hosts"]["sandbox"]
    return host


def drawn(page: Path) -> dict[str, int]:
    """How many sites the map of a page has, by the classes of their path."""
    found = re.findall(
        r'<path class="site (\w+ \w+)" d="(M[^"]+)"/>$', page.read_text(), re.MULTILINE
    )
    return {kind.replace(" ", ", "): path.count("M") for kind, path in found}


#: It runs every five minutes for months.
CALL = ("apply", "iterate.yml", "-i", "sandbox", "--yes", "-e", "run_id=7")


@pytest.mark.campaign
def test_status_from_open_sites_to_the_next_iteration(sandbox: Sandbox, tmp_path: Path) -> None:
    report = tmp_path / "run.html"
    sandbox.apply("-e", "run_id=7", "-e", "initial_f_count=12", "--report", str(report))
    assert drawn(report) == {"validate, open": 12}
    sandbox.run("sandbox", "work", "--names", "3")
    before = sandbox.snapshot()
    found = status(sandbox)
    # The run in place counts, whatever run_id the parameters have.
    assert (found["run"]["mode"], found["run"]["run_id"]) == ("regular", 7)
    assert (found["phase"], found["processed"], found["total"]) == ("mapping", 3, 12)
    report = tmp_path / "loop.html"
    shown = sandbox.run("status", "-i", "sandbox", "--report", str(report)).stdout
    assert drawn(report) == {"validate, open": 9, "validate, processed": 3}
    assert "  sites      3 of 12 done, the last one mapped in the hour from 20" in shown
    assert sum(row["sites"] for row in found["hours"]) == 3
    assert found["criteria"] == {"max_iterations": 30, "accuracy": 0.85, "gain": 0.01}
    assert found["backup"]["intact"]
    assert "  waits for  mappers: 9 sites of iteration 0 are open\n" in shown
    assert sandbox.snapshot() == before

    # An idle call is one session of the database, and with --quiet, as cron calls it, one line.
    session = psycopg2.connect(sandbox.status()["database_url"])
    session.autocommit = True
    with contextlib.closing(session), session.cursor() as cursor:
        counted = sessions(cursor)
        (line,) = sandbox.run(*CALL, "--quiet").stdout.splitlines()
        assert "nothing to change" in line.lower()
        assert sessions(cursor) == counted + 1

    sandbox.run("sandbox", "work")
    the_next_iteration_begins(sandbox)


@pytest.mark.campaign
def test_a_watched_page_has_the_hosts_that_answer_and_those_that_do_not(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    fleet, report = tmp_path / "fleet", tmp_path / "fleet.html"
    shutil.copytree(PROJECT / "inventories/sandbox", fleet)
    hosts = yaml.safe_load((fleet / "hosts.yml").read_text())
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
    hosts["all"]["hosts"]["gone"] = gone
    (fleet / "hosts.yml").write_text(yaml.safe_dump(hosts))
    watch = subprocess.Popen(
        [RUNBOOK, "status", "-i", fleet, "-i", "nowhere", "--watch=3600", "--report", report],
        env=sandbox.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: report.exists() or watch.poll() is not None)
        first = report.read_text()
        watch.send_signal(signal.SIGINT)
        shown, said = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert (watch.returncode, said.strip()) == (ExitCode.INTERRUPTED, "Interrupted.")
    # Worst first; the page that stays says no more that it is renewed.
    rows = [line.split()[0] for line in shown.splitlines() if line[0] != " "]
    assert rows == ["host", "gone", "nowhere", "sandbox"]
    assert re.search(
        r"^nowhere +needs a person\n    target 'nowhere' does not exist", shown, re.MULTILINE
    )
    assert re.search(r"^sandbox +look at it .*\n    there is no backup", shown, re.MULTILINE)
    assert "Nothing answers there" in first
    assert '<meta http-equiv="refresh" content="3600">' in first
    assert "refresh" not in report.read_text()
    assert sorted(tmp_path.iterdir()) == [fleet, report]


def test_a_page_that_cannot_be_written_is_an_error(shared_sandbox: Sandbox, tmp_path: Path) -> None:
    none = tmp_path / "none/page.html"
    done = shared_sandbox.run("status", "-i", "sandbox", "--report", str(none), exit_code=3)
    assert f"the report {none}: there is no folder to write this file to" in done.stderr


def the_next_iteration_begins(sandbox: Sandbox) -> None:
    sandbox.run(*CALL)
    found = status(sandbox)
    assert (found["phase"], found["iteration"], found["learner"]["state"]) == (
        "mapping",
        1,
        "TERMINATED",
    )
    assert found["metrics"][1]["accuracy"] > 0


@pytest.mark.campaign
def test_status_of_a_learner_that_another_call_starts_and_that_fails(sandbox: Sandbox) -> None:
    assert status(sandbox)["run"] is None
    sandbox.apply("-e", "run_id=7", "-e", "initial_f_count=12")
    sandbox.run("sandbox", "work")

    # Another caller is starting the cluster: locked, and status says so.
    place = "".join(c for c in status(sandbox)["run"]["applied_at"] if c.isalnum())
    claim = {"Bucket": sandbox.status()["bucket"],
             "Key": f"learner/sandbox/ghana_1/run_7_{place}/iteration_1/attempt_1.json"}  # fmt: skip
    sandbox.s3().put_object(**claim, Body=b'{"attempt": 1, "by": "another host"}')
    assert "another host is starting its cluster" in sandbox.run(*CALL, exit_code=6).stdout
    assert "another host" in status(sandbox)["learner"]["problem"]
    sandbox.s3().delete_object(**claim)

    # Nodes are lost: the next call, of the same kind, starts another cluster.
    sandbox.run("sandbox", "fault", "spot")
    assert "attempt 1; the next call starts attempt 2" in sandbox.run(*CALL, exit_code=1).stdout
    found = status(sandbox)
    assert found["learner"]["will_retry"]
    assert found["waits_for"] == "the next call of iterate.yml, which starts the learner again"
    the_next_iteration_begins(sandbox)
    assert "           1 0." in sandbox.run("status", "-i", "sandbox").stdout


def sessions(cursor: Any) -> int:
    """How many sessions the database has seen, counted when all others have ended."""
    for _ in range(1000):
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        if cursor.fetchone() == (0,):
            break
        time.sleep(0.01)
    cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
    (count,) = cursor.fetchone()
    return int(count)
