"""``runbook backups``: list, verify and prune against a sandbox, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Sandbox


def test_backups_are_listed_verified_and_pruned(sandbox: Sandbox, tmp_path: Path) -> None:
    def backups(*arguments: str, exit_code: int = 0) -> str:
        return sandbox.run(
            "backups", "-i", "sandbox", *arguments, exit_code=exit_code, cwd=tmp_path
        ).stdout

    sandbox.run("apply", "backup.yml", "-i", "sandbox", "--yes")
    with sandbox.database() as cursor:
        cursor.execute(
            "UPDATE worker_data SET last_time = now() WHERE worker_id = (SELECT min(worker_id) FROM worker_data)"
        )
    sandbox.run("apply", "backup.yml", "-i", "sandbox", "--yes")
    listed = json.loads(backups("--json", "list"))["backups"]
    new, old = (row["backup_id"] for row in listed)
    assert new > old
    assert new in backups("verify", "--deep")

    bucket, prefix = "activemapper", "backups/database/sandbox"
    key = f"{prefix}/{old}/worker_data/0000.csv.zst"
    sandbox.s3().put_object(Bucket=bucket, Key=key, Body=b"x")
    assert key in backups("verify", "--all", exit_code=1)
    manifest = {"Bucket": bucket, "Key": f"{prefix}/{old}/manifest.json"}
    held = sandbox.s3().get_object(**manifest)["Body"].read()
    sandbox.s3().delete_object(**manifest)
    assert "never finished" in backups("verify", "--all")
    sandbox.s3().put_object(**manifest, Body=b"{")
    assert "is not a manifest" in backups("verify", "--all", exit_code=1)
    sandbox.s3().put_object(**manifest, Body=held)

    typed = f"{old}x"
    unknown = sandbox.run("backups", "-i", "sandbox", "prune", typed, "--yes", exit_code=3)
    assert f"(did you mean {old}?)" in unknown.stderr
    assert f"{old} removed" in backups("prune", "--keep", "1", "--yes")
    assert sandbox.s3().list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/{old}")["KeyCount"] == 0
    refused = sandbox.run("backups", "-i", "sandbox", "prune", new, "--yes", exit_code=7)
    assert "the newest good backup" in refused.stderr
