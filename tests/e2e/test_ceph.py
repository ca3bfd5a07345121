"""Runs on an S3 server that is neither AWS nor moto: Ceph's, over https, also when it is killed."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ceph
import pytest
from command_line import PROJECT, Sandbox
from faulty import Fault, Request, on

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("ceph")]

_numbers = itertools.count()
POOL = "planet/f_pool_ghana_1.csv"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ceph.Ceph]:
    if missing := ceph.missing():
        pytest.skip(f"needs {missing}: .ci/apt installs what CI has")
    with ceph.running(tmp_path_factory.mktemp("ceph")) as made:
        yield made


@dataclass(frozen=True)
class Target:
    """The sandbox's host, whose bucket is Ceph's."""

    sandbox: Sandbox
    gateway: ceph.Ceph
    front: ceph.Front
    inventory: Path
    bucket: str

    def run(self, command: str, *arguments: str, **options: Any) -> str:
        """The output of a command on it."""
        here = ("-i", str(self.inventory), *arguments)
        environment = {"AWS_CA_BUNDLE": str(self.front.certificate)}
        return self.sandbox.run(*command.split(), *here, env=environment, **options).stdout

    def tables(self) -> dict[str, Any]:
        """Rows that a run replaces."""
        query = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"
        names = ("kml_data", "incoming_names", "hit_data", "scenes_data", "master_grid")
        return {name: self.sandbox.query(query.format(name)) for name in names}

    def keys(self, prefix: str = "") -> list[str]:
        found = self.gateway.s3().list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in found.get("Contents", [])]

    def content(self, key: str) -> bytes:
        body: bytes = self.gateway.s3().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def unfinished(self) -> list[str]:
        """The keys of uploads that were begun and not ended."""
        found = self.gateway.s3().list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in found.get("Uploads", [])]


@pytest.fixture
def target(gateway: ceph.Ceph, sandbox: Sandbox, tmp_path: Path) -> Iterator[Target]:
    s3, bucket = gateway.s3(), f"labeller-{next(_numbers)}"
    s3.create_bucket(Bucket=bucket)
    for entry in sandbox.s3().list_objects_v2(Bucket=sandbox.status()["bucket"])["Contents"]:
        s3.put_object(Bucket=bucket, Key=entry["Key"], Body=sandbox.text(entry["Key"]).encode())
    front = ceph.Front(gateway, str(sandbox.status()["s3_endpoint_url"]), tmp_path)
    inventory = tmp_path / "inventory"
    shutil.copytree(PROJECT / "inventories" / "sandbox" / "group_vars", inventory / "group_vars")
    variables = {
        "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "aws_endpoint_url": front.url, "aws_access": ceph.USER, "aws_secret": ceph.USER,
        "bucket": bucket, "backup_kms_key": ceph.KMS_KEY, "server_side_encryption": "none",
    }  # fmt: skip
    (inventory / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"ceph": variables}}}))
    with front.running():
        yield Target(sandbox, gateway, front, inventory, bucket)


def test_runs_restores_and_undoes(target: Target) -> None:
    before = target.tables()
    assert "failed" not in target.run("doctor")
    target.run("apply regular.yml", "--yes")
    regular, pool = target.tables(), target.content(POOL)
    assert regular != before
    assert "changed=0" in target.run("apply regular.yml", "--yes")
    first = min(key for key in target.keys("backups/") if key.endswith("/manifest.json"))
    for key in target.keys(first.rpartition("/")[0]):
        head = target.gateway.s3().head_object(Bucket=target.bucket, Key=key)
        assert head["ServerSideEncryption"] == "aws:kms"

    plan = target.inventory.parent / "reset.plan"
    target.run("plan reset.yml", "-e", "run_id=1", "-e", "replaced_run=0", "-o", str(plan))
    target.sandbox.run("apply", str(plan), env={"AWS_CA_BUNDLE": str(target.front.certificate)})
    assert target.tables() != regular
    target.run("undo newest", "--yes")
    assert target.tables() == regular
    assert target.content(POOL) == pool

    backup = first.split("/")[-2]
    target.run("apply restore.yml", "--yes", "-e", f"restore_backup={backup}")
    restored = target.tables()
    assert {**restored, "master_grid": None} == {**before, "master_grid": None}
    target.run("backups verify", "--all", "--deep")
    target.run("backups prune", "--keep", "1", "--yes")
    target.run("backups verify", "--all")
    assert target.unfinished() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/backups/"),
        ("PUT", f"{POOL}.*partNumber"),
        ("POST", "planet/.*uploadId="),
    ],
    ids=["in the backup", "in the transaction", "after the commit"],
)
def test_a_run_whose_server_is_killed_is_finished_by_the_next(
    target: Target, method: str, path: str
) -> None:
    """It does the request of the cut first, and dies before it answers."""
    before = target.tables()
    lost = on(method, path, Fault("lose"), 1)
    killed: list[Request] = []

    def rule(request: Request) -> Fault | None:
        if killed:
            target.gateway.kill()
            return Fault("reset")
        if fault := lost(request):
            killed.append(request)
        return fault

    target.front.rule = rule
    failed = target.run("apply regular.yml", "--yes", exit_code=None)
    assert killed, failed
    if method == "PUT":
        assert target.tables() == before, failed
    target.front.rule = lambda _: None
    target.gateway.start()
    target.run("apply regular.yml", "--yes")
    rows = csv.DictReader(io.StringIO(target.content(POOL).decode()))
    drawable = target.sandbox.query("SELECT name FROM master_grid WHERE avail = 'F'")
    assert {row["name"] for row in rows} <= {name for (name,) in drawable}
    assert "changed=0" in target.run("apply regular.yml", "--yes")
    assert target.unfinished() == []
    target.run("backups verify", "--all", "--deep")
