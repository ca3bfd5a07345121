"""Every playbook on the sandbox: a check shows what apply does, and applied twice it is done."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import geographies
import interpreters
import module_examples
import pytest
import yaml
from command_line import PROJECT, Sandbox, runs

from runbook import collection

Steps = dict[str, tuple[Any, Any]]


def steps(run: list[Any]) -> Steps:
    """Plan and diff of each task that has them."""
    return {
        event["task"]: (event.get("plan"), event.get("diff"))
        for event in run
        if event["event"] == "task_result" and event["status"] in ("ok", "changed")
    }


def apply(box: Sandbox, playbook: str, *arguments: str, **options: Any) -> list[list[Any]]:
    """``runbook apply PLAYBOOK -i sandbox --yes --json ARGUMENTS``: events of its runs.

    The first is its check run; a second one follows when there was something to do.
    """
    done = box.run("apply", playbook, "-i", "sandbox", "--yes", "--json", *arguments, **options)
    return runs(done.stdout)


def proved(box: Sandbox, playbook: str, *arguments: str) -> Steps:
    """Check, apply and apply again; gives what the apply did."""
    check, done = apply(box, playbook, *arguments)
    assert steps(check) == steps(done), f"{playbook} did not do what its check showed"
    assert changed(done)
    (again,) = apply(box, playbook, *arguments)
    assert changed(again) == [], f"{playbook} is not done after it was applied"
    return steps(done)


def changed(run: list[Any]) -> list[str]:
    return [e["task"] for e in run if e["event"] == "task_result" and e["status"] == "changed"]


def static_names(box: Sandbox) -> set[str]:
    text = box.text("planet/incoming_names_static_cluster1.csv")
    return {row["name"] for row in csv.DictReader(io.StringIO(text))}


@pytest.mark.campaign
def test_static_names_are_the_sites_of_initial_and_single(sandbox: Sandbox) -> None:
    names = static_names(sandbox)
    config = Path(sandbox.status()["home"]) / "labeller/common/config.yaml"
    before = sandbox.snapshot()
    apply(sandbox, "initial.yml", "--check")
    assert sandbox.snapshot() == before
    for run_id, mode in enumerate(("initial", "single")):
        proved(sandbox, f"{mode}.yml", "-e", f"run_id={run_id}", "-e", "replaced_run=0")
        assert {(n, run_id, 0, "train") for n in names} == set(
            sandbox.query(
                "SELECT name, run, iteration, usage FROM incoming_names WHERE NOT processed"
            )
        )
        assert {(n,) for n in names} == set(
            sandbox.query("SELECT name FROM kml_data WHERE kml_type = 'F'")
        )
        assert "initial" not in yaml.safe_load(config.read_text())["labeller"]
    assert sandbox.query("SELECT mode, run_id FROM runbook.run_marker ORDER BY id") == [
        ("initial", 0),
        ("single", 1),
    ]
    static = "SELECT g.id FROM master_grid g JOIN kml_data k ON k.name = g.name"
    assert sandbox.query(f"SELECT count(*) FROM scenes_data WHERE cell_id NOT IN ({static})") == [
        (0,)
    ]
    assert not [key for key in sandbox.objects() if "f_pool" in key]


@pytest.mark.campaign
def test_a_reset_takes_a_finished_run_to_the_next(sandbox: Sandbox) -> None:
    refused = sandbox.run(
        "apply", "reset.yml", "-i", "sandbox", "--yes", "-e", "run_id=1", exit_code=7
    )
    assert "no playbook has marked" in refused.stdout + refused.stderr
    apply(sandbox, "regular.yml")
    with sandbox.database() as cursor:
        cursor.execute("UPDATE incoming_names SET processed = true WHERE run = 0")
        cursor.execute("UPDATE iteration_metrics SET accuracy = 0.75, tss = 0.5 WHERE run = 0")
    before = sandbox.snapshot()
    apply(sandbox, "reset.yml", "-e", "run_id=2", exit_code=7)
    apply(sandbox, "reset.yml", "-e", "run_id=1", "-e", "aoi_index=2", exit_code=7)
    assert sandbox.snapshot() == before
    done = proved(sandbox, "reset.yml", "-e", "run_id=1", "-e", "earlier_metrics=clear")
    left = json.dumps(done["Reset the database for the run"])
    assert "100 of 100 validate names processed" in left
    assert "last metrics: iteration 0, accuracy 0.75, TSS 0.5" in left
    assert sandbox.query("SELECT run, count(*) FROM incoming_names GROUP BY run") == [(1, 100)]
    assert sandbox.query("SELECT run, iteration FROM iteration_metrics") == [(1, 0)]
    (backup_id,) = sandbox.query(
        "SELECT backup_id FROM runbook.run_marker ORDER BY id DESC LIMIT 1"
    )[0]
    manifest = json.loads(sandbox.text(f"backups/database/sandbox/{backup_id}/manifest.json"))
    assert manifest["label"] == "regular run 0 on ghana, AOI 1"


@pytest.mark.campaign
def test_settings_follow_the_inventory_also_while_a_run_is_in_place(sandbox: Sandbox) -> None:
    apply(sandbox, "regular.yml")
    needed = sandbox.run(
        "apply",
        "regular.yml",
        "-i",
        "sandbox",
        "--yes",
        "-e",
        "crontab_profile=standalone_f",
        exit_code=7,
    )
    assert "Hit_StandAlone=true" in needed.stdout
    given = json.dumps(
        {
            "crontab_profile": "standalone_f",
            "labeller_settings": {"Hit_StandAlone": True, "Hit_MaxAssignmentsF": 4},
            "labeller_secrets": {"instanceF": "a-secret-instance-id"},
        }
    )
    done = proved(sandbox, "regular.yml", "-e", given)
    _, diff = done["Set labeller's settings"]
    assert "Hit_MaxAssignmentsF = 4" in json.dumps(diff)
    assert "a-secret-instance-id" not in json.dumps(done)
    assert sandbox.query("SELECT value FROM configuration WHERE key = 'instanceF'") == [
        ("a-secret-instance-id",)
    ]
    # The run is in place, so a part may run alone; for another run it needs those before it.
    given = json.dumps({**json.loads(given), "labeller_settings": {"Hit_StandAlone": True}})
    run = steps(apply(sandbox, "regular.yml", "-e", given, "--tags", "configuration")[-1])
    assert "Set labeller's settings" in run
    assert "Install the crontab" not in run
    before = sandbox.snapshot()
    for tags in (("--tags", "crontab"), ("--skip-tags", "backup")):
        for check in ((), ("--check",)):
            refused = sandbox.run(
                "apply", "regular.yml", "-i", "sandbox", "--yes", *check, *tags,
                "-e", "run_id=1", "-e", "replaced_run=0", exit_code=7,
            )  # fmt: skip
            assert "leave out" in refused.stdout
    assert sandbox.snapshot() == before
    wrong = sandbox.run(
        "apply", "regular.yml", "-i", "sandbox", "--yes", "-e", '{"labeller_settings": {"Hit_Standalone": 1}}',
        exit_code=3,
    )  # fmt: skip
    assert "did you mean Hit_StandAlone" in wrong.stdout + wrong.stderr


# The others are made of the same tasks.
@pytest.mark.campaign
@pytest.mark.parametrize("name", ["initial", "shutdown"])
def test_stock_ansible_playbook_runs_them_too(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    before = sandbox.snapshot()
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventories/sandbox",
            "--check", f"playbooks/{name}.yml",
        ],
        env={**sandbox.environment, "ANSIBLE_COLLECTIONS_PATH": str(collection.link(tmp_path)), "ANSIBLE_NOCOLOR": "1"},
        cwd=PROJECT, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PLAY [") == 1
    assert sandbox.snapshot() == before


@pytest.mark.campaign
def test_stock_ansible_playbook_that_starts_late_changes_nothing(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    before = sandbox.snapshot()
    # Behind what gates a mode there is no lease, and nothing that the steps need.
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventories/sandbox",
            "playbooks/regular.yml", "--start-at-task", "Set labeller's settings",
        ],
        env={**sandbox.environment, "ANSIBLE_COLLECTIONS_PATH": str(collection.link(tmp_path)), "ANSIBLE_NOCOLOR": "1"},
        cwd=PROJECT, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout
    assert "'marker' is undefined" in done.stdout + done.stderr
    assert "changed=0" in done.stdout
    assert sandbox.snapshot() == before


@pytest.mark.campaign
def test_backup_shutdown_and_start(sandbox: Sandbox) -> None:
    crontab = Path(sandbox.status()["crontab"])
    proved(sandbox, "backup.yml")
    proved(sandbox, "shutdown.yml")
    assert "daemonNanny" not in crontab.read_text()
    proved(sandbox, "start.yml", "-e", "crontab_profile=maintenance")
    assert crontab.read_text().count("daemonNanny.sh") == 1
    proved(sandbox, "start.yml", "-e", "crontab_profile=maintenance notify=T nsites=yes")
    assert "cleanup=T hits=F consensus=F notify=T nsites=T" in crontab.read_text()
    assert "worker_notification_daemon.py" in crontab.read_text()
    standalone = ("-e", "crontab_profile=standalone_f")
    refused = sandbox.run("apply", "start.yml", "-i", "sandbox", "--yes", *standalone, exit_code=7)
    assert "Hit_StandAlone=true" in refused.stdout + refused.stderr
    settings = json.dumps({"labeller_settings": {"Hit_StandAlone": True}})
    proved(sandbox, "start.yml", *standalone, "-e", settings)
    assert "# BEGIN labeller.runbook standalone_f" in crontab.read_text()


@pytest.mark.campaign
def test_tables_of_another_instance_are_restored(sandbox: Sandbox) -> None:
    """The page's own example: kml_data_static, qaqcfields and scenes_data from another instance."""
    tables = ["kml_data_static", "qaqcfields", "scenes_data"]
    contents = [sandbox.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in tables]
    apply(sandbox, "backup.yml")
    move(sandbox, "backups/database/sandbox/", "backups/database/ghana0/")
    with sandbox.database() as cursor:
        cursor.execute("DELETE FROM scenes_data; DELETE FROM kml_data_static WHERE kml_type = 'I'")
        cursor.execute("UPDATE qaqcfields SET category = 'gone'")
    given = json.dumps({"restore_from": "ghana0", "restore_tables": tables})
    proved(sandbox, "restore.yml", "-e", given)
    assert [
        sandbox.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in tables
    ] == contents
    (newest,) = {
        key.split("/")[3] for key in sandbox.objects() if key.startswith("backups/database/ghana0/")
    }
    day = f"{newest[:4]}-{newest[4:6]}-{newest[6:8]}"
    of_day = json.dumps({"restore_from": "ghana0", "restore_backup": day, "restore_tables": tables})
    assert changed(apply(sandbox, "restore.yml", "-e", of_day)[-1]) == []
    address = "s3://activemapper/backups/database/ghana0"
    by_address = json.dumps({"restore_from": address, "restore_tables": tables})
    assert changed(apply(sandbox, "restore.yml", "-e", by_address)[-1]) == []
    nobody = json.dumps({"restore_from": "nobody"})
    missing = sandbox.run(
        "apply", "restore.yml", "-i", "sandbox", "--yes", "-e", nobody, exit_code=3
    )
    assert "there is no backup" in missing.stdout + missing.stderr


def move(box: Sandbox, source: str, target: str) -> None:
    """Make a backup another instance's."""
    s3, bucket = box.s3(), box.status()["bucket"]
    for key in box.objects():
        if key.startswith(source):
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            moved = target + key.removeprefix(source)
            s3.put_object(
                Bucket=bucket, Key=moved, Body=body.replace(source.encode(), target.encode())
            )
            s3.delete_object(Bucket=bucket, Key=key)


@pytest.fixture
def togo(sandbox: Sandbox) -> Sandbox:
    """Another geography's objects in the sandbox's bucket."""
    for key, body in geographies.TOGO.items():
        sandbox.s3().put_object(Bucket=sandbox.status()["bucket"], Key=key, Body=body.encode())
    return sandbox


@pytest.mark.campaign
def test_another_geography(togo: Sandbox) -> None:
    proved(togo, "geography.yml")
    assert togo.query("SELECT count(*) FROM master_grid") == [(52,)]
    assert togo.query("SELECT kml_type, name FROM kml_data ORDER BY gid") == [
        ("I", "TG0000002"),
        ("Q", "TG0000001"),
    ]
    assert "daemonNanny" not in Path(togo.status()["crontab"]).read_text()
    gone = togo.run("apply", "regular.yml", "-i", "sandbox", "--yes", exit_code=3)
    assert "holds no cell of master_grid" in gone.stdout + gone.stderr
    before = togo.snapshot()
    togo.s3().put_object(
        Bucket=togo.status()["bucket"], Key="grid/master_grid.csv", Body=b"id,x\n1,2\n"
    )
    bad = togo.run("apply", "geography.yml", "-i", "sandbox", "--yes", exit_code=3)
    assert "grid/master_grid.csv: column" in bad.stdout + bad.stderr
    after = togo.snapshot()
    assert {k: v for k, v in after.items() if k != "bucket"} == {
        k: v for k, v in before.items() if k != "bucket"
    }


#: What a target needs besides Python (docs/operations.md).
LIBRARIES = ("boto3", "psycopg2-binary", "PyYAML", "zstandard")
#: The oldest Python of a target, where it is there and this ansible-core supports it.
OLDEST = interpreters.found("3.8") if metadata.version("ansible-core") < "2.20" else None


@pytest.mark.campaign
@pytest.mark.parametrize(
    "python",
    [
        pytest.param(None, id="this Python"),
        *([pytest.param(OLDEST, id="Python 3.8")] if OLDEST else []),
    ],
)
def test_the_examples_of_every_module_run_as_they_stand(
    togo: Sandbox, tmp_path: Path, python: Path | None
) -> None:
    options = []
    if python:
        made = interpreters.environment(python, tmp_path / "venv", *LIBRARIES)
        options = ["-e", f"ansible_python_interpreter={made}"]
    playbook = tmp_path / "examples.yml"
    playbook.write_text(yaml.safe_dump(module_examples.play(), sort_keys=False))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventories/sandbox", playbook, *options],
        env={**togo.environment, "ANSIBLE_COLLECTIONS_PATH": str(collection.link(tmp_path)), "ANSIBLE_NOCOLOR": "1"},
        cwd=PROJECT, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout + done.stderr
    for module in module_examples.ORDER:
        for task in module_examples.tasks(module):
            assert f"TASK [{task['name']}]" in done.stdout


@pytest.mark.campaign
def test_of_three_applies_at_once_one_wins_and_its_crontab_stays(sandbox: Sandbox) -> None:
    """Different areas, at the same time; the losers are locked out, or find the winner's run."""
    (crontab,) = {Path(sandbox.status()["crontab"])}
    with ThreadPoolExecutor(3) as executor:
        futures = [
            executor.submit(
                sandbox.apply, "-e", f"aoi_index={n}", "-e", f"run_id={n}", exit_code=None
            )
            for n in (1, 2, 3)
        ]
        ends = [future.result() for future in futures]
    codes = sorted(done.returncode for done in ends)
    assert codes[0] == 0, [done.stdout for done in ends]
    assert set(codes[1:]) <= {5, 6, 7}, [done.stdout for done in ends]
    for done in ends:
        if done.returncode == 6:
            assert "who holds the target since" in done.stdout
    ((run_id,),) = sandbox.query("SELECT run_id FROM runbook.run_marker")
    assert ends[run_id - 1].returncode == 0
    assert "daemonNanny" in crontab.read_text()
    assert (
        f"aoiid: {run_id}"
        in (Path(sandbox.status()["home"]) / "labeller/common/config.yaml").read_text()
    )
    assert (
        "changed=0" in sandbox.apply("-e", f"aoi_index={run_id}", "-e", f"run_id={run_id}").stdout
    )
