"""The network cable of a host is pulled out in the middle of a step: exit code, message, next run."""

from __future__ import annotations

import pytest
from faulty import Gate, Proxy
from host_faults import OPEN, await_end, cut, variables, waiting
from instances import Instance

pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.campaign]

REGULAR = ("regular.yml", "-e", "run_id=0")
CONFIGURATION = r"PUT .*/config_\w+\.yaml"


def manifests(instance: Instance) -> list[str]:
    return [key for key in instance.cloud.keys("backups/") if key.endswith("manifest.json")]


def cut_at(
    instance: Instance, proxy: Proxy, request: str, *arguments: str, after: str = ""
) -> None:
    """Cut an apply off while the host waits for the answer to a request, which AWS never gets.

    ``after``: the request is one that comes later than another.
    """
    proxy.rule = gate = Gate(proxy.url, request, after)
    try:
        cut(instance, *arguments, when=gate.reached.is_set)
    finally:
        gate.drop()
    await_end(instance.host)
    proxy.settle()


def cut_in(instance: Instance, program: str, last: str, *arguments: str) -> None:
    """Cut an apply off while the host runs a program; the program does its work."""
    waits = waiting(instance.host, program, last)
    cut(instance, *arguments, when=waits.reached)
    waits.go_on()
    await_end(instance.host)


def test_a_cable_that_is_pulled_out_in_each_kind_of_step(instance: Instance) -> None:
    """Each run goes on where the one before it was cut off; of a transaction: test_host_faults.py."""
    host = instance.host
    with (
        Proxy(instance.cloud.url, host.controller).running() as proxy,
        variables(instance, aws_endpoint_url=proxy.url),
    ):
        cut_at(instance, proxy, "PUT .*/backups/.*zst", "backup.yml")
        assert manifests(instance) == []
        instance.apply("backup.yml")
        assert len(manifests(instance)) == 1

        cut_at(instance, proxy, CONFIGURATION, *REGULAR)
        assert host.query("SELECT run_id FROM runbook.run_marker") == [(0,)]
        instance.expire_lease()

        cut_at(instance, proxy, "POST /$", *REGULAR, after=CONFIGURATION)  # EC2 and EMR
        instance.expire_lease()

        cut_in(instance, "/usr/bin/crontab", "-", *REGULAR)
        instance.expire_lease()

        served = host.run("cat", "/run/apache2/apache2.pid", user="root")
        cut_in(instance, "/etc/init.d/httpd", "restart", *REGULAR)
        instance.apply(*REGULAR)
        assert host.run("cat", "/run/apache2/apache2.pid", user="root") != served
        assert "changed=0" in instance.apply(*REGULAR)
    assert host.query(OPEN) == [(0, 100)]
