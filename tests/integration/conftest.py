"""A labeller database and its bucket, small: two areas of 900 cells, an old run on the second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import transaction_support
from labeller_support import Labeller, Template, client, copied, copy, filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.sandbox.postgres import PostgresServer


@pytest.fixture(scope="session")
def labeller_template(postgres_server: PostgresServer) -> Template:
    return filled(postgres_server)


@pytest.fixture(scope="session")
def regular_template(
    postgres_server: PostgresServer, labeller_template: Template, aws_endpoint: str
) -> Template:
    """The same after regular production of run 91: 50 initial sites, none mapped yet."""
    aws = {"access_key": "test", "secret_key": "test", "region": "us-east-1"}
    aws["endpoint_url"] = aws_endpoint
    client(aws).create_bucket(Bucket="regular-template")
    made = copy(postgres_server, labeller_template, aws, "regular-template")
    transaction_support.apply(made, *transaction_support.regular())
    return made.template()


@pytest.fixture
def regular_run(
    postgres_server: PostgresServer,
    regular_template: Template,
    aws: dict[str, Any],
    bucket: str,
) -> Iterator[Labeller]:
    """A labeller with that run in place."""
    with copied(postgres_server, regular_template, aws, bucket) as made:
        yield made


@pytest.fixture
def labeller(
    postgres_server: PostgresServer,
    labeller_template: Template,
    aws: dict[str, Any],
    bucket: str,
) -> Iterator[Labeller]:
    with copied(postgres_server, labeller_template, aws, bucket) as made:
        yield made
