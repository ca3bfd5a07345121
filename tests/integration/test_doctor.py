"""Findings of the doctor on targets that are not as they must be, and its remedies."""

from __future__ import annotations

import importlib
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import daemons, doctor, ec2, files
from faulty import Fault, Proxy, on
from labeller_support import Labeller

Found = dict[str, list[doctor.Finding]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A labeller checkout, as far as the doctor looks at one."""
    common = tmp_path / "labeller/common"
    common.mkdir(parents=True)
    for name in ("daemonNanny.sh", "config_template.yaml"):
        (common / name).touch()
    return tmp_path / "labeller"


@pytest.fixture(autouse=True)
def instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The target's EC2 instance, and a user's home and temporary files that are the test's own."""
    user = SimpleNamespace(pw_dir=str(tmp_path), pw_name="mapper")
    monkeypatch.setattr(doctor.pwd, "getpwuid", lambda _: user)
    monkeypatch.setattr(files, "temporary_folder", lambda: str(tmp_path / "tmp"))
    found = ec2.Instance("i-1", "10.0.0.7", "subnet-1")
    monkeypatch.setattr(ec2, "running_instance", lambda *_: found)


def examined(labeller: Labeller, home: Path, **params: Any) -> Found:
    defaults = {name: spec.get("default") for name, spec in doctor.ARGUMENTS.items()}
    crontab = home / "crontab"
    crontab.touch()
    given = {
        **defaults, **labeller.login, **labeller.aws, "bucket": labeller.bucket, "home": str(home),
        "crontab_file": str(crontab), "journal_folder": str(home / "journal"), "prefix": "backups",
        "ec2_instance": "labeller3", "tables": ["kml_data", "hit_data"], "learner_command": "true",
    }  # fmt: skip
    found: Found = {}
    for finding in doctor.examine({**given, **params}):
        found.setdefault(finding.check, []).append(finding)
    return found


def wrong(found: Found) -> dict[str, str]:
    """The checks with a finding that is not well, and what that is."""
    return {
        check: f"{each.status}: {each.found} | {each.fix}"
        for check, findings in found.items()
        for each in findings
        if each.status != doctor.OK
    }


def test_a_target_as_it_must_be(labeller: Labeller, home: Path) -> None:
    before = labeller.keys()
    found = examined(labeller, home)
    assert wrong(found) == {}
    assert found["run"][0].found == "no run"
    assert "i-1" in found["ec2"][0].found
    assert labeller.keys() == before


@pytest.mark.parametrize(
    ("statement", "check", "said"),
    [
        ("DROP TABLE hit_data CASCADE", "tables", "failed: .* has no hit_data"),
        (
            "CREATE ROLE poor LOGIN PASSWORD 'test'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO poor",
            "tables", "failed: .*role poor lacks INSERT.* | Log in (db_user) as the owner",
        ),
        ("ALTER TABLE kml_data RENAME TO k; CREATE VIEW kml_data AS TABLE k", "tables", "failed: "),
    ],
)  # fmt: skip
def test_a_database_that_a_run_cannot_use(
    labeller: Labeller, home: Path, statement: str, check: str, said: str
) -> None:
    labeller.sql(statement)
    poor = {"login_user": "poor"} if "poor" in statement else {}
    try:
        found = wrong(examined(labeller, home, **poor))
    finally:
        if poor:
            labeller.sql("DROP OWNED BY poor; DROP ROLE poor")
    first, *more = said.split(".*")
    assert found[check].startswith(first)
    assert all(part in found[check] for part in more)


def test_a_database_that_does_not_answer(labeller: Labeller, home: Path) -> None:
    found = examined(labeller, home, login_port=1)
    assert "is PostgreSQL running" in wrong(found)["database"]
    assert found["s3"][0].status == doctor.OK  # the others are looked at nevertheless


def wrong_behind(labeller: Labeller, home: Path, rule: Any) -> dict[str, str]:
    """The checks that fail where a proxy before S3 answers by ``rule``."""
    with Proxy(labeller.aws["endpoint_url"]).running() as proxy:
        proxy.rule = rule
        return wrong(examined(labeller, home, endpoint_url=proxy.url))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (on("PUT", "doctor-", Fault("status", 403, "AccessDenied")), "s3:PutObject"),
        (on("POST", "delete", Fault("status", 403, "AccessDenied")), "s3:DeleteObject"),
        (on("POST", "uploads", Fault("status", 403, "AccessDenied")), "s3:AbortMultipartUpload"),
        (on("HEAD", "", Fault("status", 404, "NoSuchBucket")), "does not exist"),
    ],
)
def test_a_right_on_s3_that_is_missing(
    labeller: Labeller, home: Path, rule: Any, said: str
) -> None:
    found = wrong_behind(labeller, home, rule)
    assert said in found["s3"]
    assert set(found) == {"s3"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda _: Fault("unencrypted"), "is not encrypted: the S3 server ignores"),
        (lambda _: Fault("unconditional"), "does not refuse to overwrite"),
    ],
)
def test_a_server_that_does_less_than_s3(
    labeller: Labeller, home: Path, rule: Any, said: str
) -> None:
    """No right is missing there."""
    found = wrong_behind(labeller, home, rule)
    assert said in found["s3"]
    assert "| docs/operations.md has what" in found["s3"]


def test_the_doctor_encrypts_as_a_run_does(labeller: Labeller, home: Path) -> None:
    with Proxy(labeller.aws["endpoint_url"]).running() as proxy:
        proxy.rule = lambda _: Fault("unencrypted")
        none = examined(labeller, home, endpoint_url=proxy.url, server_side_encryption="none")
        key = examined(labeller, home, endpoint_url=proxy.url, server_side_encryption="none",
                       sse_kms_key_id="k")  # fmt: skip
    assert wrong(none) == {}
    assert "asked for aws:kms" in wrong(key)["s3"]


def test_a_checkout_that_is_missing(labeller: Labeller, home: Path) -> None:
    (home / "common").rename(home / "elsewhere")
    found = wrong(examined(labeller, home))
    assert f"there is no folder {home}/common | set labeller_home" in found["labeller"]


def test_a_disk_that_is_nearly_full(
    labeller: Labeller, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SCARCE", 10**18)
    assert "warning: " in wrong(examined(labeller, home))["disk"]
    monkeypatch.setattr(files, "ROOM", 10**18)
    assert "failed: " in wrong(examined(labeller, home))["disk"]


def test_what_killed_modules_left_is_named(home: Path, tmp_path: Path) -> None:
    """Only of this user, and not of modules that may still run."""
    code = tmp_path / "tmp/ansible_labeller.runbook.lease_payload_x"
    module = tmp_path / ".ansible/tmp/ansible-tmp-1/AnsiballZ_lease.py"
    for folder in (code, module.parent):
        folder.mkdir(parents=True)
    module.touch()
    assert [*doctor._leftovers({})] == []
    old = time.time() - files.STALE - 60
    for left in (code, module, module.parent):
        os.utime(left, (old, old))
    found = [*doctor._leftovers({})]
    assert {each.status for each in found} == {doctor.WARNING}
    said = "1 left by killed modules, with"
    assert [each.found for each in found] == [
        f"{tmp_path}/.ansible/tmp: {said} their arguments, which may be secret",
        f"{tmp_path}/tmp: {said}out their arguments",
    ]
    for each in found:
        subprocess.run(["/bin/sh", "-c", each.fix], check=True)
    assert not code.exists()
    assert not module.parent.exists()


def test_a_library_that_is_missing(
    labeller: Labeller, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(name: str) -> Any:
        if name == "zstandard":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", without)
    assert "failed: zstandard missing | " in wrong(examined(labeller, home))["python"]
    assert "-m pip install zstandard" in wrong(examined(labeller, home))["python"]


def test_the_loop_needs_its_inventory_and_runbook_on_the_host(
    labeller: Labeller, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of a run mode would refuse it."""
    monkeypatch.setenv("HOME", str(home))
    unset = wrong(examined(labeller, home, learner_command=""))["loop"]
    assert unset.startswith("failed: learner_loop is on, and learner_inventory is not set")
    given = {"learner_command": "", "learner_inventory": str(home)}
    program = home / "runbook/bin/runbook"
    assert wrong(examined(labeller, home, **given))["loop"] == (
        f"failed: {program} missing | runbook apply bootstrap.yml puts it there"
    )
    program.parent.mkdir(parents=True)
    program.touch()
    assert wrong(examined(labeller, home, **given)) == {}
    assert "loop" not in examined(labeller, home, learner_command="", learner_loop=False)


def test_the_old_loop_needs_its_terraform_folder(labeller: Labeller, home: Path) -> None:
    found = wrong(examined(labeller, home, learner_loop=False))
    assert found["terraform"].startswith(f"failed: there is no folder {home}/terraform")


def test_few_connections_and_a_lock_are_warnings(
    labeller: Labeller, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SESSIONS", 10**6)
    monkeypatch.setattr(doctor.lease, "holder", lambda _: {
        "number": 1, "holder": "olli@laptop", "since": datetime.now(UTC), "state": "locked",
        "reason": "by hand", "until": None,
    })  # fmt: skip
    found = wrong(examined(labeller, home))
    assert "max_connections" in found["connections"]
    assert found["lock"].startswith("warning: held by olli@laptop: by hand | ")


@pytest.mark.parametrize(
    ("minute", "status"), [(0, doctor.OK), (2, doctor.WARNING), (20, doctor.FAILED)]
)
def test_a_clock_that_is_off(minute: int, status: str) -> None:
    now = datetime(2026, 1, 14, 9, minute, tzinfo=UTC)
    assert doctor.clock("Wed, 14 Jan 2026 09:00:00 GMT", now).status == status


def test_a_web_server_that_is_down(labeller: Labeller, home: Path) -> None:
    found = wrong(examined(labeller, home, httpd_service="no-such-httpd"))
    assert "no-such-httpd is not active | sudo " in found["httpd"]


def test_daemons_that_run_are_named(
    labeller: Labeller, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = daemons.Process("create_hit_daemon", "daemon", 1)
    monkeypatch.setattr(daemons, "find", lambda *_: [process])
    assert "running: create_hit_daemon" in examined(labeller, home)["labeller"][0].found
