"""A labeller database and its bucket, small: two areas of 900 cells, an old run on the second."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from labeller_support import Labeller, Template, admin

from runbook.sandbox import grid, seed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runbook.sandbox.postgres import PostgresServer

AREAS = [grid.rectangle(328, 553, 3, 3), grid.rectangle(333, 555, 3, 3)]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def labeller_template(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Template:
    name = "labeller_template"
    admin(postgres_server, f"CREATE DATABASE {name}")
    geography = seed.Geography(grid.geojson(AREAS), "areas")
    catalogue: Path = tmp_path_factory.mktemp("catalogue") / "full.csv"
    session = psycopg2.connect(postgres_server.url(name))
    static = seed.fill_database(session, geography, 1, "bucket", catalogue)
    session.close()
    return Template(
        name,
        {
            "grid/aois.geojson": geography.geojson,
            "planet/full.csv": catalogue.read_bytes(),
            "planet/static.csv": static.encode(),
        },
    )


@pytest.fixture
def labeller(
    postgres_server: PostgresServer,
    labeller_template: Template,
    aws: dict[str, Any],
    bucket: str,
) -> Iterator[Labeller]:
    name = f"labeller_{next(_numbers)}"
    admin(postgres_server, f"CREATE DATABASE {name} TEMPLATE {labeller_template.name}")
    login = {
        "login_host": "127.0.0.1", "login_port": postgres_server.port, "login_db": name,
        "login_user": "postgres", "login_password": "test", "connect_timeout": 10,
        "lock_timeout": 5,
    }  # fmt: skip
    made = Labeller(login, dict(aws), bucket)
    for key, body in labeller_template.objects.items():
        made.put(key, body)
    yield made
    # not WITH (FORCE), which PostgreSQL 10 lacks
    gone = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    admin(postgres_server, gone, f"DROP DATABASE {name}")
