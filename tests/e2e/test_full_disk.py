"""The one disk of a host is full: journal, home, temporary files, and PostgreSQL's data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import Gate, Proxy
from host import LABELLER
from host_faults import OPEN, variables
from instances import Instance

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.campaign]


@pytest.fixture
def small(shared_instance: Instance) -> Iterator[Instance]:
    """The instance as new, on a small disk."""
    shared_instance.host.small = True
    shared_instance.reset()
    yield shared_instance
    shared_instance.host.small = False


def tables(instance: Instance) -> list[Any]:
    return [
        instance.host.query(f"SELECT count(*) FROM {table}") for table in ("kml_data", "hit_data")
    ]


def state(instance: Instance) -> list[Any]:
    """All that a run may change: tables, crontab, daemons, the configuration, the objects."""
    host = instance.host
    configuration = host.run("cat", f"{LABELLER}/common/config.yaml")
    return [
        *tables(instance), host.run("crontab", "-l"), host.daemons(), configuration,
        instance.cloud.keys(""),
    ]  # fmt: skip


def refused(instance: Instance, *arguments: str) -> str:
    return " ".join(instance.run(*arguments, exit_code=1).stdout.split())


def test_the_disk_of_a_host_is_full(small: Instance, tmp_path: Path) -> None:
    """Before a run nothing is changed; after its backup the transaction is not."""
    host, plan = small.host, str(tmp_path / "regular.plan")
    with (
        Proxy(small.cloud.url, host.controller).running() as proxy,
        variables(small, aws_endpoint_url=proxy.url),
    ):
        small.run("plan", "-o", plan, "regular.yml", "-e", "run_id=0")
        before = state(small)
        host.fill_disk()
        said = refused(small, "apply", "regular.yml", "--check")
        assert "No space left on device" in said
        done = small.run("apply", "regular.yml", "--check", exit_code=1, RUNBOOK_FAST="0")
        assert "the host has no room for temporary files" in " ".join(done.stdout.split())
        done = small.run("doctor", "--json", exit_code=1)
        found = json.loads(done.stdout)["hosts"][host.name]
        failed = {each["check"]: each["found"] for each in found if each["status"] == "failed"}
        assert "0.0 GB free" in failed["disk"]
        assert "cannot write a temporary file in /tmp" in failed["httpd"]
        said = refused(small, "apply", plan)
        assert "nothing was changed" in said
        host.free_disk()
        assert state(small) == before

        proxy.rule = gate = Gate(proxy.url, r"PUT .*/backups/.*manifest\.json")
        code, said = small.struck(
            gate.reached.is_set, lambda _: (host.fill_disk(), gate.open()), "apply", plan
        )
        assert code == 1, said
        assert "nothing was changed" in " ".join(said.split())
        host.free_disk()
        assert tables(small) == before[:2]
        assert host.daemons() == []

        small.expire_lease()
        small.apply("regular.yml", "-e", "run_id=0")
        assert host.query(OPEN) == [(0, 100)]
        assert "daemonNanny" in host.run("crontab", "-l")
