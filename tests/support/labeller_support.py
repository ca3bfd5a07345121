"""One test's labeller: its database and bucket."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
from clients import client
from servers import create_database

from runbook.sandbox import grid, seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.sandbox.postgres import PostgresServer


#: Two of 900 cells.
AREAS = [grid.rectangle(328, 553, 3, 3), grid.rectangle(333, 555, 3, 3)]
_numbers = itertools.count()


@dataclass(frozen=True)
class Template:
    """A filled database to copy, and the bucket's objects that belong to it."""

    name: str
    objects: dict[str, bytes]


def admin(server: PostgresServer, *statements: str, database: str = "postgres") -> None:
    """Run statements that no transaction may hold, as CREATE DATABASE."""
    session = psycopg2.connect(server.url(database))
    session.autocommit = True
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    session.close()


@dataclass(frozen=True)
class Labeller:
    """One test's labeller: ``login`` and ``aws`` are the modules' options."""

    login: dict[str, Any]
    aws: dict[str, Any]
    bucket: str

    @property
    def options(self) -> dict[str, Any]:
        return {**self.login, **self.aws, "bucket": self.bucket, "backup": None}

    def connect(self) -> Any:
        return psycopg2.connect(
            host=self.login["login_host"], port=self.login["login_port"],
            dbname=self.login["login_db"], user=self.login["login_user"],
            password=self.login["login_password"],
        )  # fmt: skip

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run SQL and commit; the rows, if it gives any."""
        session = self.connect()
        try:
            with session, session.cursor() as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            session.close()

    @property
    def s3(self) -> Any:
        return client(self.aws)

    def put(self, key: str, text: str | bytes) -> None:
        body = text if isinstance(text, bytes) else text.encode()
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> str:
        return str(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode())

    def template(self) -> Template:
        """This labeller as it is now, to be copied while no session is on it."""
        objects = {key: self.get(key).encode() for key in sorted(self.keys())}
        return Template(self.login["login_db"], objects)

    def keys(self) -> set[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket)
        return {entry["Key"] for entry in found.get("Contents", [])}


def filled(server: PostgresServer, *statements: str) -> Template:
    """A new database with two areas and an old run on the second; ``statements`` are run first."""
    name = "labeller_template"
    admin(server, f"CREATE DATABASE {name}")
    admin(server, *statements, database=name)
    geography = seed.Geography(grid.geojson(AREAS), "areas")
    catalogue = server.folder / "full.csv"
    with contextlib.closing(psycopg2.connect(server.url(name))) as session:
        static = seed.fill_database(session, geography, 1, "bucket", catalogue)
    return Template(
        name,
        {
            "grid/aois.geojson": geography.geojson,
            "planet/full.csv": catalogue.read_bytes(),
            "planet/static.csv": static.encode(),
        },
    )


def copy(server: PostgresServer, template: Template, aws: dict[str, Any], bucket: str) -> Labeller:
    """A labeller with a copy of the template's database, its objects in the bucket."""
    name = f"labeller_{next(_numbers)}"
    create_database(server, name, template.name)
    login = {
        "login_host": "127.0.0.1", "login_port": server.port, "login_db": name,
        "login_user": "postgres", "login_password": "test", "connect_timeout": 10,
        "lock_timeout": 5,
    }  # fmt: skip
    made = Labeller(login, dict(aws), bucket)
    for key, body in template.objects.items():
        made.put(key, body)
    return made


@contextlib.contextmanager
def copied(
    server: PostgresServer, template: Template, aws: dict[str, Any], bucket: str
) -> Iterator[Labeller]:
    """The same, dropped at the end."""
    made = copy(server, template, aws, bucket)
    yield made
    name = made.login["login_db"]
    # not WITH (FORCE), which PostgreSQL 10 lacks
    gone = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    admin(server, gone, f"DROP DATABASE {name}")
