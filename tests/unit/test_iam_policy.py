"""The IAM policy of the documentation: an action for each call of the modules, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook import generate
from runbook.errors import InvalidInputError
from runbook.generate import iam_policy


def actions(folder: Path, code: str) -> list[str]:
    utils = folder / "plugins/module_utils"
    utils.mkdir(parents=True)
    (utils / "m.py").write_text(code)
    statements = iam_policy.policy(folder)["Statement"]
    return [action for each in statements for action in each["Action"]]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("client.upload_part(Key=k)", ["s3:PutObject"]),
        ('client.get_paginator("list_multipart_uploads")', ["s3:ListBucketMultipartUploads"]),
        ("ask(client.describe_subnets)", ["ec2:DescribeSubnets"]),
        ("emr.run_job_flow()", ["elasticmapreduce:AddTags", "elasticmapreduce:RunJobFlow"]),
        ("text.strip()", []),
    ],
)
def test_each_call_has_its_action(tmp_path: Path, code: str, expected: list[str]) -> None:
    assert actions(tmp_path, code) == [*expected, "iam:PassRole"]


def test_a_call_of_s3_without_a_known_action_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A helper of that name too: nothing says that it is none."""
    said = "plugins/module_utils/m.py:2: put_bucket_acl is the operation PutBucketAcl of S3, and"
    with pytest.raises(InvalidInputError, match=said):
        actions(tmp_path, "import s3\ns3.put_bucket_acl()")

    def broken(_root: Path) -> list[Path]:
        raise InvalidInputError(said)

    monkeypatch.setattr(generate, "stale", broken)
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out == f"{said}\n"
