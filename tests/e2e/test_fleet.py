"""Several hosts: shown, held, failed and resumed each for itself; and sixteen of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pexpect
import pytest
from command_line import PROJECT, RUNBOOK, Sandbox
from fleet import Fleet


@pytest.fixture
def fleet(shared_sandbox: Sandbox) -> Fleet:
    """Three hosts in the sandbox of this test process."""
    made = Fleet(shared_sandbox, ("area01", "area02", "area03"))
    made.renew()
    return made


def in_service(fleet: Fleet) -> list[str]:
    """The hosts whose crontab starts labeller's daemons."""
    return [h for h in fleet.hosts if "daemonNanny" in (fleet.home(h) / "crontab").read_text()]


def half_done(fleet: Fleet, plan: Path, playbook: str = "shutdown.yml") -> list[str]:
    """Apply a plan that one host, area02, is not as planned for any more; gives the output."""
    fleet.run(f"plan {playbook}", "-o", str(plan))
    with (fleet.home("area02") / "crontab").open("a") as crontab:
        crontab.write("5 5 * * * echo mine\n")
    return fleet.box.run("apply", str(plan), exit_code=5).stdout.splitlines()


def test_a_host_that_fails_stops_no_other_and_is_resumed_alone(
    fleet: Fleet, tmp_path: Path
) -> None:
    before = (fleet.home("area01") / "crontab").read_text()
    said = half_done(fleet, tmp_path / "fleet.plan")
    assert "Stopped: 2 of 3 hosts are done." in said
    assert "  area02: failed at 'Remove the crontab'; nothing was changed there" in said
    assert "  area01, area03: done" in said
    assert in_service(fleet) == ["area02"]
    # What is left is done there only, whatever became of the others.
    (fleet.home("area01") / "crontab").write_text(before)
    done = fleet.run("resume", "--yes")
    assert ", on area02\n" in done.stderr
    assert in_service(fleet) == ["area01"]


@pytest.mark.campaign
def test_a_check_shows_the_others_and_an_undo_takes_the_changed(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.write(area03={"db_port": 1})
    done = fleet.run("apply backup.yml", "--yes", exit_code=4)
    assert "Made or changed on area01, area02 (" in done.stdout
    assert "The check failed on 1 of 3 hosts: area03.\n" in done.stdout
    assert "--limit 'all:!area03'" in done.stderr
    done = fleet.run("drift shutdown.yml", "--limit", "pilot", exit_code=2)
    assert "drifted on area01, area02" in done.stdout
    head, *rows = fleet.run("status", exit_code=4).stdout.splitlines()
    assert [row.split()[0] for row in rows if row[0] != " "] == ["area03", "area01", "area02"]
    fleet.write()

    half_done(fleet, tmp_path / "fleet.plan")
    head, run = fleet.run("history").stdout.splitlines()
    assert head.split() == ["run", "operator", "playbook", "outcome"]
    assert run.endswith("done on area01, area03")
    done = fleet.run("undo", run.split()[0], "--yes")
    assert "changed nothing on area02.\n" in done.stderr
    assert in_service(fleet) == ["area01", "area02", "area03"]


def shutdown(folder: Path, **options: object) -> str:
    """A playbook of the operator's own: shutdown.yml by two hosts, with options of its play."""
    text = (PROJECT / "playbooks" / "shutdown.yml").read_text()
    given = {"serial": 2, "order": "sorted", **options}
    lines = "".join(f"  {name}: {value}\n" for name, value in given.items())
    text = text.replace("  gather_facts: false\n", "  gather_facts: false\n" + lines)
    file = folder / "own.yml"
    file.write_text(
        text.replace("import_tasks: tasks/", f"import_tasks: {PROJECT}/playbooks/tasks/")
    )
    return str(file)


def lost(shown: str) -> dict[str, str]:
    """The other losses by host, as a plan lists them; of hosts that it names twice the last."""
    head = shown.index("  host  ")
    return dict(re.findall(r"^  (\w+) +(\d+)\r?$", shown[head:], re.MULTILINE))


def resumed(fleet: Fleet) -> tuple[str, str]:
    """The output of ``resume`` before and after its question, which is answered yes."""
    command = ["resume", "-i", str(fleet.inventory)]
    child = pexpect.spawn(
        str(RUNBOOK), command, env={**fleet.box.environment, "TERM": "dumb"}, cwd=str(PROJECT),
        encoding="utf-8", timeout=120, dimensions=(60, 200),
    )  # fmt: skip
    child.expect(r"Make these changes on ghana, area02, area03\? \(y/N\): ?")
    shown = child.before
    child.sendline("y")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return shown, child.before


@pytest.mark.campaign
def test_batches_of_hosts_end_where_too_many_failed(fleet: Fleet, tmp_path: Path) -> None:
    """One that fails of one at a time is too many, of two at a time few enough to go on."""
    crontab = {"crontab_file": "{{ labeller_home | dirname }}/crontab"}
    fleet.write(**dict.fromkeys(fleet.hosts, crontab))
    playbook, plan = shutdown(tmp_path, serial=1, max_fail_percentage=99), tmp_path / "fleet.plan"
    said = half_done(fleet, plan, playbook)
    saved = json.loads(plan.read_text())
    assert [*saved["hosts"]] == [*fleet.hosts]
    assert {name: saved["parameters"].get(f"crontab_file [{name}]") for name in fleet.hosts} == {
        name: str(fleet.home(name) / "crontab") for name in fleet.hosts
    }
    assert said[said.index("Stopped: 1 of 3 hosts are done.") + 1 :][:3] == [
        "  area02: failed at 'Remove the crontab'; nothing was changed there",
        "  area03: not begun",
        "  area01: done",
    ]
    assert in_service(fleet) == ["area02", "area03"]
    shown, after = resumed(fleet)
    # All batches are checked and shown before the one question, and nothing is done before it.
    assert lost(shown) == {"area02": "1", "area03": "1", "total": "2"}
    assert "(y/N)" not in after
    assert in_service(fleet) == []

    fleet.renew()
    playbook = shutdown(tmp_path, max_fail_percentage=50)
    said = half_done(fleet, tmp_path / "fleet.plan", playbook)
    assert "Stopped: 2 of 3 hosts are done." in said
    hosts = re.findall(r"^\w+: .* \[(area\d\d)\]", "\n".join(said), re.MULTILINE)
    assert [last for last, _ in groupby(host == "area03" for host in hosts)] == [False, True]
    assert in_service(fleet) == ["area02"]
    assert ", on area02\n" in fleet.run("resume", "--yes").stderr
    assert in_service(fleet) == []


@pytest.fixture
def sixteen(tmp_path: Path) -> Iterator[Fleet]:
    """Sixteen hosts, in a sandbox of their own with an area for each."""
    box = Sandbox(tmp_path / "home")
    try:
        yield Fleet.of(box, tmp_path, 16)
    finally:
        box.run("sandbox", "down")


@pytest.mark.campaign
def test_sixteen_areas(sixteen: Fleet, tmp_path: Path) -> None:
    plan, report = tmp_path / "fleet.plan", tmp_path / "plan.md"
    # All at a time would be more connections than their one server has.
    few = ("--forks", "5")
    shown = sixteen.run("plan regular.yml", *few, "-o", str(plan), "--report", str(report)).stdout
    assert len(shown.splitlines()) < 80
    lost = re.search(
        r"^  host +rows deleted +other losses\n(  area\d\d .*\n){16}  total ", shown, re.MULTILINE
    )
    assert lost, shown
    assert len(report.read_text()) < 65_536
    assert len(json.loads(plan.read_text())["hosts"]) == 16
    with (sixteen.home("area07") / "crontab").open("a") as crontab:
        crontab.write("5 5 * * * echo mine\n")
    done = sixteen.box.run("apply", str(plan), *few, exit_code=5)
    said = done.stdout.splitlines()
    assert "Stopped: 15 of 16 hosts are done." in said
    assert "  all but area07: done" in said
    head, worst, *others = sixteen.run("status").stdout.splitlines()
    assert head.split()[:2] == ["host", "state"]
    assert worst.startswith("area07") or "area07" in "".join(others)
    assert len([line for line in others if "100 sites of iteration 0 are open" in line]) == 15
    assert sixteen.run("resume", "--yes").stderr.count(", on area07\n") == 1
    assert all(
        sixteen.query(host, "SELECT run_id FROM runbook.run_marker") for host in sixteen.hosts
    )
