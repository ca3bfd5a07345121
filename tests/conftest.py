"""Fixtures of every test: a real PostgreSQL, moto's server over HTTP, the collection's code."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import clients
import hypothesis
import psycopg2
import pytest
import servers

from runbook import collection
from runbook.sandbox import emr, postgres

PROJECT = Path(__file__).resolve().parent.parent

# Sandboxes of tests do without spark-submit, whose JVM starts for seconds; its own test asks for it.
os.environ[emr.SPARK] = "off"

# Of a thousand processes each would compile the engine anew where bytecode is not kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes is no result of a test: the machine may be busy.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

# The modules' code imports as ansible_collections.labeller.runbook.plugins.module_utils.*
_COLLECTIONS = collection.link(PROJECT / ".build" / "collections")
sys.path.insert(0, str(_COLLECTIONS))


def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores: a test also waits, for disks and for the ends of processes."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", len(os.sched_getaffinity(0)) + 1))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.PostgresServer]:
    """A PostgreSQL 18 of this test process, gone with it.

    With ``RUNBOOK_TEST_POSTGRES=10`` the oldest there is, used as if it was older still
    (test_oldest_server).
    """
    programs = postgres.binaries()
    if os.environ.get("RUNBOOK_TEST_POSTGRES") == "10":
        from ansible_collections.labeller.runbook.plugins.module_utils import server as versions

        programs, versions.assumed = servers.OLDEST, versions.OLDEST
    with servers.running(tmp_path_factory.mktemp("postgres"), programs) as server:
        yield server


_numbers = itertools.count()


@pytest.fixture
def database(postgres_server: postgres.PostgresServer) -> Iterator[dict[str, object]]:
    """An empty database of its own, as the modules' connection options."""
    name = f"test_{next(_numbers)}"
    servers.create_database(postgres_server, name)
    yield {
        "login_host": "127.0.0.1",
        "login_port": postgres_server.port,
        "login_db": name,
        "login_user": "postgres",
        "login_password": "test",
        "connect_timeout": 10,
        "lock_timeout": 5,
    }
    admin = psycopg2.connect(postgres_server.url("postgres"))
    admin.autocommit = True
    with admin.cursor() as cursor:
        # not WITH (FORCE), which PostgreSQL 10 lacks
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        cursor.execute(f'DROP DATABASE "{name}"')
    admin.close()


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """moto's server of this test process: the URL of its AWS APIs."""
    port = postgres.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Running on" in line:
            break
    else:
        pytest.fail("moto's server did not start")
    # It writes a line a request: a pipe that is not read would stop it when full.
    drain = threading.Thread(target=process.stderr.read)
    drain.start()
    with clients.shared(f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()
    drain.join()
    process.stderr.close()


@pytest.fixture
def aws(aws_endpoint: str) -> dict[str, object]:
    """The modules' AWS options for moto's server."""
    return {
        "access_key": "test",
        "secret_key": "test",
        "region": "us-east-1",
        "endpoint_url": aws_endpoint,
    }


@pytest.fixture
def bucket(aws: dict[str, object]) -> str:
    """A fresh bucket of this test."""
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    clients.client(aws).create_bucket(Bucket=name)
    return name


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse versions of pytest that pytest-xdist cannot group tests of."""
    workers = getattr(session.config, "workerinput", {}).get("workercount", 1)
    grouped = (item for item in session.items if item.get_closest_marker("xdist_group"))
    if workers > 1 and any("@" not in each.nodeid for each in grouped):
        raise pytest.UsageError(
            "pytest-xdist does not keep the tests of an xdist_group together: install the versions "
            "of constraints.txt (make test does)"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failure: what it would have proven is not proven."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what this machine could not run: each reason once, in one line."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        each = (f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        terminalreporter.write_line(f"Skipped here: {'; '.join(each)}")
