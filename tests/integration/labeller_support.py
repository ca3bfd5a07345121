"""One test's labeller: its database and bucket."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import psycopg2

if TYPE_CHECKING:
    from runbook.sandbox.postgres import PostgresServer


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

    def keys(self) -> set[str]:
        found = self.s3.list_objects_v2(Bucket=self.bucket)
        return {entry["Key"] for entry in found.get("Contents", [])}


def client(aws: dict[str, Any]) -> Any:
    return _client(aws["endpoint_url"], aws["region"], aws["access_key"], aws["secret_key"])


@functools.cache
def _client(endpoint_url: str, region: str, access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint_url, region_name=region,
        aws_access_key_id=access_key, aws_secret_access_key=secret_key,
    )  # fmt: skip
