"""``runbook backups``: list, verify and prune against a sandbox, as a user calls them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from command_line import PROJECT, Sandbox


def two_backups(sandbox: Sandbox) -> tuple[str, str]:
    """Back up, change a row, back up again; the ids as ``backups list`` gives them."""
    sandbox.run("apply", "backup.yml", "-i", "sandbox", "--yes")
    with sandbox.database() as cursor:
        cursor.execute(
            "UPDATE worker_data SET last_time = now() WHERE worker_id = (SELECT min(worker_id) FROM worker_data)"
        )
    sandbox.run("apply", "backup.yml", "-i", "sandbox", "--yes")
    listed = json.loads(sandbox.run("backups", "-i", "sandbox", "--json", "list").stdout)
    new, old = (row["backup_id"] for row in listed["backups"])
    return old, new


@pytest.mark.campaign
def test_a_damaged_backup_is_named_and_the_newest_good_one_is_kept(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    def backups(*arguments: str, exit_code: int = 0) -> str:
        return sandbox.run(
            "backups", "-i", "sandbox", *arguments, exit_code=exit_code, cwd=tmp_path
        ).stdout

    old, new = two_backups(sandbox)
    assert new > old
    journals = [file.read_text() for file in (sandbox.home / "runs").glob("*/events.jsonl")]
    assert [f'"backup_id": "{new}"' in text for text in journals].count(True) == 1
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
    kept = {key.split("/")[3] for key in sandbox.objects() if key.startswith("backups/")}
    assert kept == {new}
    refused = sandbox.run("backups", "-i", "sandbox", "prune", new, "--yes", exit_code=7)
    assert "the newest good backup" in refused.stderr


@pytest.mark.campaign
def test_the_restores_that_the_documentation_names(sandbox: Sandbox, tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "backups.md").read_text()
    block = re.findall(r"```\n(.*?)```", text.partition("## Restoring\n")[2], re.DOTALL)[0]
    commands = [re.sub(r"  +.*", "", line) for line in block.splitlines()]
    assert len(commands) == 6
    sandbox.run("apply", "backup.yml", "-i", "sandbox", "--yes")
    listed = json.loads(sandbox.run("backups", "-i", "sandbox", "--json", "list").stdout)
    with sandbox.database() as cursor:
        cursor.execute("UPDATE assignment_data SET score = coalesce(score, 0) + 1")
        changed = cursor.rowcount
    sandbox.run("apply", "restore.yml", "-i", "sandbox", "--yes")
    with sandbox.database() as cursor:
        cursor.execute("UPDATE hit_data SET reward = coalesce(reward, 0) + 1")
        cursor.execute("UPDATE worker_data SET last_time = now()")
    ids = {"ID": listed["backups"][0]["backup_id"], "labeller3": "sandbox", "labeller4": "sandbox"}
    shown = []
    before = ("-e", "restore_from=sandbox-before-restore")
    kept = sandbox.run("backups", "-i", "sandbox", *before, "--json", "list")
    assert len(json.loads(kept.stdout)["backups"]) == 1
    for command in commands:
        words = shlex.split(re.sub(r"ID$|labeller\d", lambda name: ids[name[0]], command))
        done = sandbox.run(*words[1:], "--diff", *(["--check"] if "--check" not in words else []))
        shown.append(done.stdout)
    newest, named, some, other, undo, service = shown
    assert "table hit_data" in newest
    assert "table worker_data" in newest
    assert "table hit_data" in some
    assert "table worker_data" not in some
    for output in (newest, named, other, undo):
        assert ("table assignment_data" in output) == (output is undo)
    assert f"+{changed} rows differ" in undo
    assert "Install the crontab" in service


@pytest.mark.parametrize("command", [("backups", "list"), ("status",)])
def test_a_misspelt_parameter_or_host_is_said_before_anything_is_asked(
    command: tuple[str, ...], shared_sandbox: Sandbox
) -> None:
    typed = shared_sandbox.run(*command, "-i", "sandbox", "-e", "buket=x", exit_code=3)
    assert "did you mean bucket?" in typed.stderr
    limited = shared_sandbox.run(*command, "-i", "sandbox", "-l", "elsewhere", exit_code=3)
    assert "--limit elsewhere: matches no host of sandbox" in limited.stderr
