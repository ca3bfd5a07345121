"""A labeller database and its bucket, small: two areas of 900 cells, an old run on the second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from labeller_support import Labeller, Template, copied, filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.sandbox.postgres import PostgresServer


@pytest.fixture(scope="session")
def labeller_template(postgres_server: PostgresServer) -> Template:
    return filled(postgres_server)


@pytest.fixture
def labeller(
    postgres_server: PostgresServer,
    labeller_template: Template,
    aws: dict[str, Any],
    bucket: str,
) -> Iterator[Labeller]:
    with copied(postgres_server, labeller_template, aws, bucket) as made:
        yield made
