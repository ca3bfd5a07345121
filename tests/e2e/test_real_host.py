"""Every playbook on a host of its own: its root folder, network, users, cron, sudo, PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import host
import pytest
from geographies import TOGO
from host import LABELLER
from instances import Instance
from waiting import until

#: One worker makes the image of the hosts.
pytestmark = [pytest.mark.xdist_group("host"), pytest.mark.campaign]


def converged(instance: Instance, playbook: str, *parameters: str) -> str:
    """Apply a playbook, and again: the second time there is nothing to do."""
    given = [word for each in parameters for word in ("-e", each)]
    done = instance.apply(playbook, *given)
    assert "changed=0" in instance.apply(playbook, *given)
    return done


def test_every_run_mode(instance: Instance) -> None:
    """As ``mapper`` over ssh: three runs that replace each other, and an iteration of the last."""
    host = instance.host
    converged(instance, "initial.yml", "run_id=0")
    instance.apply("single.yml", "-e", "run_id=1", "-e", "replaced_run=0")
    regular = ("run_id=2", "replaced_run=1")
    converged(instance, "regular.yml", *regular)
    host.cron()
    assert host.daemons() == OURS
    readable = host.run("stat", "-c", "%a %U %G", f"{LABELLER}/common/config.yaml")
    assert readable == "640 mapper mapper\n", "the web server reads it by its group"
    instance.run("drift", "regular.yml", *(word for each in regular for word in ("-e", each)))

    instance.map_sites()
    instance.apply("iterate.yml", "-e", "run_id=2")
    assert host.query("SELECT iteration FROM iteration_metrics WHERE run = 2 ORDER BY 1") == [
        (0,), (1,)
    ]  # fmt: skip
    told = instance.run("status", "-e", "run_id=2").stdout
    assert "iteration 1" in told

    before = host.query("SELECT * FROM incoming_names ORDER BY 1, 2, 3")
    instance.apply("reset.yml", "-e", "run_id=3", "-e", "replaced_run=2")
    instance.run("undo", "newest", "--yes")
    assert host.query("SELECT * FROM incoming_names ORDER BY 1, 2, 3") == before
    host.cron()
    assert host.daemons() == OURS
    runs = instance.run("history").stdout
    assert [
        runs.count(f"{mode}.yml") for mode in ("initial", "single", "regular", "iterate", "reset")
    ] == [1] * 5


def test_the_other_playbooks(instance: Instance) -> None:
    host = instance.host
    found = json.loads(instance.run("doctor", "--json").stdout)["hosts"][host.name]
    assert {each["check"] for each in found if each["status"] != "ok"} == {"backup"}, found
    converged(instance, "backup.yml")
    converged(instance, "shutdown.yml")
    assert host.daemons() == []
    assert "daemonNanny" not in host.run("crontab", "-l")
    converged(instance, "start.yml", "crontab_profile=maintenance")
    host.cron()
    assert host.daemons() == ["cleanup_absent_worker"]

    served = host.run("cat", "/run/apache2/apache2.pid", user="root")
    instance.apply("restart_httpd.yml")
    assert host.run("cat", "/run/apache2/apache2.pid", user="root") != served

    static = host.query("SELECT * FROM kml_data_static ORDER BY 1")
    host.query("DELETE FROM kml_data_static")
    converged(instance, "restore.yml", 'restore_tables=["kml_data_static"]')
    assert host.query("SELECT * FROM kml_data_static ORDER BY 1") == static

    for key, body in TOGO.items():
        instance.cloud.put(key, body)
    converged(instance, "geography.yml")
    assert host.query("SELECT count(*) FROM master_grid") == [(52,)]


#: The daemons of the profile ``no_n_notifier``, the default.
OURS = [
    "cleanup_absent_worker", "create_hit_daemon", "generate_consensus_daemon",
    "worker_notification_daemon",
]  # fmt: skip


START = """
import sys
from pathlib import Path
from host import Host
made = Host(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]], "")
made.start([])
print(made.link, made.pid, flush=True)
sys.stdin.read()
"""


def test_a_host_ends_with_the_process_that_started_it(
    shared_instance: Instance, tmp_path: Path
) -> None:
    """However that ends: what a killed test leaves behind would meet the next one."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, tmp_path, *shared_instance.host.layers],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(host.__file__).parent,
    )  # fmt: skip
    link, pid = process.stdout.readline().split()
    assert Path("/sys/class/net", link).exists()
    process.kill()
    process.communicate()
    until(lambda: not Path("/proc", pid).exists() and not Path("/sys/class/net", link).exists())
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
