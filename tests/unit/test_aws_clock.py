"""A wrong clock is not reported as wrong credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws
from ansible_collections.labeller.runbook.plugins.module_utils.errors import ModuleFailure
from botocore.exceptions import ClientError


@pytest.mark.parametrize(
    ("code", "minutes", "said"),
    [
        ("403", 60, "the clock of this host is wrong"),
        ("403", -60, "the clock of this host is wrong"),
        ("SignatureDoesNotMatch", 6, "the clock of this host is wrong"),
        ("RequestTimeTooSkewed", 0, "the clock of this host is wrong"),
        ("403", 4, "access denied"),
        ("SignatureDoesNotMatch", 0, "check aws_access and aws_secret"),
        ("NoSuchBucket", 60, "no such bucket"),
    ],
)
def test_what_a_refusal_is_put_down_to(code: str, minutes: int, said: str) -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(minutes=minutes), usegmt=True)
    answer = {
        "Error": {"Code": code, "Message": "no"},
        "ResponseMetadata": {"HTTPHeaders": {"date": date}},
    }
    with pytest.raises(ModuleFailure, match=said), aws.translated("use it"):
        raise ClientError(answer, "HeadBucket")  # type: ignore[arg-type]


def test_an_answer_without_a_date_says_nothing_about_the_clock() -> None:
    assert aws.skew("", datetime.now(UTC)) == 0
    assert aws.skew("yesterday", datetime.now(UTC)) == 0
