"""``runbook doctor`` as an operator calls it."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Sandbox

from runbook.load import schemas


def test_a_target_that_can_be_operated_and_one_that_cannot(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    before = sandbox.objects()
    found = json.loads(sandbox.run("doctor", "-i", "sandbox", "--json").stdout)
    schemas.validator("doctor").validate(found)
    statuses = {each["check"]: each["status"] for each in found["hosts"]["sandbox"]}
    statuses.pop("leftovers", "")  # of other runs of this user
    assert {name for name, status in statuses.items() if status != "ok"} == {"backup"}
    assert statuses.keys() >= {"python", "disk", "crontab", "tables", "clock", "s3", "ec2", "data"}
    assert sandbox.objects() == before

    broken = ("-e", "bucket=none", "-e", f"labeller_home={tmp_path}")
    said = sandbox.run(
        "doctor", "-i", "sandbox", *broken, exit_code=1, env={"COLUMNS": "80"}
    ).stdout
    assert "bucket none does not exist; check the parameter bucket" in " ".join(said.split())
    assert "fix: set labeller_home to labeller's checkout on this host\n" in said
    assert all(len(line) <= 80 for line in said.splitlines() if "fix: " not in line)

    (tmp_path / "hosts.yml").write_text(
        "all: {hosts: {gone: {ansible_host: 127.0.0.1, ansible_port: 1}}, vars: {aws_access: aaaaaaaaa,\n"
        "  aws_secret: aaaaaaaaa, db_pwd: aaaaaaaaa, secret_key: aaaaaaaaa, github_token: aaaaaaaaa, security_group_id: sg-12345678,\n"
        "  ec2_instance: gone}}\n"
    )
    gone = sandbox.run("doctor", "-i", str(tmp_path / "hosts.yml"), exit_code=4).stdout
    assert gone.startswith("gone:\n  failed   connection ")
    assert gone.endswith("\ngone: 1 failed\n")
