"""The embedded target: what is in it, and that it comes through faults."""

from __future__ import annotations

import csv
import io
import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sandbox_support import Box, squares
from waiting import until

from runbook.errors import InvalidInputError, RefusedError
from runbook.sandbox import checkout, cloud, lifecycle, processes

if TYPE_CHECKING:
    from collections.abc import Iterator


#: One worker makes what the tests of this file share.
pytestmark = pytest.mark.xdist_group("sandbox")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, list[tuple[int, str]]]]:
    """The sandbox of this process, made once, by two at the same time: exit codes and stderr."""
    box = Box(tmp_path_factory.mktemp("box"))
    both = [box.command("up"), box.command("up")]
    said = [each.communicate(timeout=180)[1] for each in both]
    yield box, [(each.returncode, err) for each, err in zip(both, said, strict=True)]
    box.run("down")
    assert not processes.of(box.home)


@pytest.fixture(scope="session")
def box(made: tuple[Box, list[tuple[int, str]]]) -> Box:
    """The same; tests that change its content reset it."""
    return made[0]


def test_two_that_start_at_once_make_one(made: tuple[Box, list[tuple[int, str]]]) -> None:
    box, said = made
    assert [code for code, _ in said] == [0, 0], said
    assert sum("Making the sandbox" in err for _, err in said) == 1
    assert len([p for p in processes.of(box.home) if p not in box.daemons()]) >= 3
    assert not box.state.dead()


@pytest.fixture
def here(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """The sandbox, up, as the one of this process's environment."""
    monkeypatch.setenv("RUNBOOK_HOME", str(box.runbook_home))
    lifecycle.ensure_up()
    return box


def test_there_is_something_to_lose(here: Box) -> None:
    rows = {
        table: here.query(f"SELECT count(*) FROM {table}")[0][0]
        for table in [
            "master_grid",
            "worker_data",
            "users",
            "kml_data",
            "kml_data_static",
            "qaqcfields",
            "hit_data",
            "user_maps",
            "assignment_data",
            "assignment_history",
            "assignment_review",
            "accuracy_data",
            "scenes_data",
            "qual_assignment_data",
            "qual_user_maps",
            "qual_accuracy_data",
            "incoming_names",
            "machine_maps",
            "iteration_metrics",
            "categories",
        ]
    }
    assert not [table for table, count in rows.items() if count == 0]
    assert 20_000 <= rows["master_grid"] <= 90_000
    assert rows["worker_data"] >= 200
    assert rows["kml_data_static"] == 106
    assert here.query("SELECT processed, count(*) > 0 FROM incoming_names GROUP BY 1 ORDER BY 1") == [
        (False, True), (True, True),
    ]  # fmt: skip
    assert here.query("SELECT rolname, rolsuper FROM pg_roles JOIN pg_database ON datdba = pg_roles.oid "
                      "WHERE datname = current_database()") == [("postgis", False)]  # fmt: skip
    assert {avail for (avail,) in here.query("SELECT DISTINCT avail FROM master_grid")} == set(
        "TIQFN"
    )
    assert here.query("SELECT count(*) FROM assignment_data a, hit_data h, kml_data k WHERE a.hit_id = h.hit_id "
                      "AND h.name = k.name AND a.status = 'Approved'")[0][0] > 500  # fmt: skip


def test_the_grid_is_as_in_the_reference(here: Box) -> None:
    assert here.query(
        "SELECT count(*), count(DISTINCT id), count(DISTINCT name) FROM master_grid"
    ) == [(55_000, 55_000, 55_000)]
    wrong = (
        "name !~ '^GH[0-9]{7}$' OR fwts NOT BETWEEN 1 AND 10 "
        "OR abs((x + 17.5385) / 0.005 - round((x + 17.5385) / 0.005)) > 1e-6 "
        "OR abs((37.5375 - y) / 0.005 - round((37.5375 - y) / 0.005)) > 1e-6"
    )
    assert here.query(f"SELECT count(*) FROM master_grid WHERE {wrong}") == [(0,)]
    unordered = "SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY y DESC, x) AS before FROM master_grid) g"
    assert here.query(f"{unordered} WHERE id <= before") == [(0,)]


def test_objects_fit_the_database(here: Box) -> None:
    objects = here.objects()
    scenes = list(
        csv.DictReader(
            io.TextIOWrapper(io.BytesIO(objects["planet/planet_catalog_ghana_full.csv"]))
        )
    )
    seasons: dict[str, set[str]] = {}
    for scene in scenes:
        seasons.setdefault(scene["cell_id"], set()).add(scene["season"])
    complete = sum(found == {"GS", "OS"} for found in seasons.values())
    assert len(scenes) == sum(map(len, seasons.values())), "one scene a cell and season"
    assert 0.9 * 55_000 < complete < len(seasons) < 55_000, "some lack a season, some both"

    [(column, row)] = here.query(  # docs/labeller.md 7.1
        f"SELECT trunc((x + 17.541) / 0.005), trunc((37.540 - y) / 0.005) FROM master_grid WHERE id = {scenes[0]['cell_id']}"
    )
    assert (int(scenes[0]["global_col"]), int(scenes[0]["global_row"])) == (column, row)

    static = {
        row["name"]
        for row in csv.DictReader(io.StringIO(objects[f"planet/{checkout.STATIC_NAMES}"].decode()))
    }
    place = {name: (x, y) for name, x, y in here.query("SELECT name, x, y FROM master_grid")}
    for feature in json.loads(objects["grid/image_target_aois.geojson"])["features"]:
        xs, ys = zip(*feature["geometry"]["coordinates"][0], strict=True)
        inside = {
            n for n in static if min(xs) < place[n][0] < max(xs) and min(ys) < place[n][1] < max(ys)
        }
        assert inside
        assert static - inside
    assert "config_ghana_2.yaml" in objects


def test_the_instance_is_found_by_its_name(here: Box) -> None:
    ec2 = cloud.client("ec2", here.state.endpoint_url)
    [reservation] = ec2.describe_instances(
        Filters=[{"Name": "tag:Name", "Values": [here.state.ec2_instance]},
                 {"Name": "instance-state-name", "Values": ["running"]}]
    )["Reservations"]  # fmt: skip
    [instance] = reservation["Instances"]
    assert instance["SubnetId"] == here.state.subnet_id
    assert instance["PrivateIpAddress"] == "10.0.1.10"
    ec2.describe_security_groups(GroupIds=[here.state.security_group_id])


def test_reset_brings_all_back_and_another_seed_gives_another(here: Box, tmp_path: Path) -> None:
    first = here.fingerprints()
    here.query("DELETE FROM accuracy_data; UPDATE master_grid SET avail = 'E'")
    cloud.client("s3", here.state.endpoint_url).put_object(
        Bucket=here.state.bucket, Key="other", Body=b""
    )
    here.home.crontab.write_text("")
    assert here.fingerprints() != first
    lifecycle.reset()
    assert here.fingerprints() == first

    different = Box(tmp_path)
    different.run("up", "--seed", "7")
    try:
        assert different.fingerprints()["database"] != first["database"]
        assert different.state.db_port != here.state.db_port
        assert different.state.endpoint_url != here.state.endpoint_url
        assert different.state.secrets["db_pwd"] != here.state.secrets["db_pwd"]
    finally:
        different.run("down")
    assert not different.home.path.exists()
    assert not processes.of(different.home)


def test_looking_that_it_is_up_imports_little(here: Box) -> None:
    program = (
        "import sys; from runbook.sandbox import lifecycle; lifecycle.ensure_up();"
        "print(*sys.modules)"
    )
    modules = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert not {"boto3", "psycopg2", "moto", "yaml", "ansible"} & set(modules.split())


def test_postgresql_that_was_killed_runs_again_with_its_data(here: Box) -> None:
    here.query("CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(here.state.processes["postgres"].pid, signal.SIGKILL)
    until(lambda: here.state.dead() == ["postgres"])
    said: list[str] = []
    lifecycle.ensure_up(said.append)
    assert here.query("SELECT answer FROM kept") == [(42,)]
    assert any("PostgreSQL" in sentence for sentence in said)
    here.query("DROP TABLE kept")


def test_cron_that_was_killed_runs_again(here: Box) -> None:
    os.kill(here.state.processes["cron"].pid, signal.SIGKILL)
    until(lambda: here.state.dead() == ["cron"])
    lifecycle.ensure_up()
    assert not here.state.dead()


@pytest.mark.campaign
def test_without_its_bucket_it_is_made_anew_from_the_same_seed_and_says_so(here: Box) -> None:
    before = here.fingerprints()
    here.query("DELETE FROM accuracy_data")
    os.kill(here.state.processes["aws"].pid, signal.SIGKILL)
    until(lambda: here.state.dead() == ["aws"])
    said: list[str] = []
    lifecycle.ensure_up(said.append)
    assert any("recreated" in sentence for sentence in said)
    assert here.fingerprints() == before


@pytest.mark.campaign
@pytest.mark.parametrize("seen", ["run/aws.json", "postgres/pgdata/postmaster.pid", "labeller"])
def test_one_that_was_killed_half_made_is_remade(tmp_path: Path, seen: str) -> None:
    box = Box(tmp_path)
    small = ("--aois", str(squares(tmp_path / "areas.geojson", (300, 500))))
    first = box.command("up", "--seed", "3", *small)
    until((box.home.path / seen).exists)
    first.kill()
    first.communicate()
    assert not box.home.state.exists(), "the test was too late"
    left = processes.of(box.home)
    _, said = box.run("up", "--seed", "3", *small)
    try:
        assert "recreated" in said
        assert box.state.seed == 3
        assert not [process for process in left if process.alive()]
        assert not box.state.dead()
    finally:
        box.run("down")


@pytest.mark.campaign
def test_processes_end_when_the_folder_is_removed(tmp_path: Path) -> None:
    import shutil

    box = Box(tmp_path / "home")
    box.run("up")
    own = [*box.state.processes.values(), *box.daemons()]
    postgresql = own.pop(0)
    shutil.rmtree(box.runbook_home)
    until(lambda: not [process for process in own if process.alive()])
    os.kill(postgresql.pid, signal.SIGQUIT)  # it looks only once a minute
    until(lambda: not postgresql.alive())


def test_other_options_need_a_reset(here: Box, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="reset"):
        lifecycle.up(seed=5)
    with pytest.raises(RefusedError, match="reset"):
        lifecycle.up(aois=squares(tmp_path / "a.geojson", (300, 500)))
    with pytest.raises(InvalidInputError, match=r"none\.geojson"):
        lifecycle.up(aois=tmp_path / "none.geojson")
    (tmp_path / "bad.geojson").write_text("{}")
    with pytest.raises(InvalidInputError, match=r"bad\.geojson"):
        lifecycle.reset(aois=tmp_path / "bad.geojson")
    assert not here.state.dead(), "a bad file removes nothing"
    assert lifecycle.up(seed=0).seed == 0


@pytest.mark.campaign
def test_given_areas_are_the_grid_and_come_back_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A long path too: nothing of the sandbox is a Unix socket.
    box = Box(tmp_path / ("long" * 40))
    monkeypatch.setenv("RUNBOOK_HOME", str(box.runbook_home))
    given = squares(tmp_path / "areas.geojson", (300, 500), (310, 505))
    state = lifecycle.up(aois=given, seed=1)
    try:
        assert (state.cells, state.aois) == (1800, 2)
        assert box.query("SELECT count(*) FROM master_grid") == [(1800,)]
        assert box.objects()["grid/image_target_aois.geojson"] == given.read_bytes()
        given.unlink()
        os.kill(state.processes["aws"].pid, signal.SIGKILL)
        until(lambda: box.state.dead() == ["aws"])
        assert lifecycle.ensure_up().cells == 1800
    finally:
        lifecycle.down()


def test_a_path_that_cron_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "with space"))
    with pytest.raises(InvalidInputError, match="with space"):
        lifecycle.up()
    assert not (tmp_path / "with space" / "sandbox").exists()


def test_the_old_run_is_in_service_and_a_new_crontab_is_served(here: Box) -> None:
    old = here.daemons()
    assert len(old) == len(checkout.OLD_PROFILE)
    log = here.home.labeller / "log"
    assert {path.stem for path in log.glob("*.pid")} == set(checkout.OLD_PROFILE)
    # A change of the crontab starts what is new in it and leaves what runs alone.
    nanny = here.home.labeller / "common/daemonNanny.sh"
    line = f"0 0 1 1 * {nanny} {here.home.labeller}/common/select_n_sites.py\n"
    here.home.crontab.write_text(here.home.crontab.read_text() + line)
    until(lambda: len(here.daemons()) == len(old) + 1)
    assert old < here.daemons()
    lifecycle.reset()
    assert len(here.daemons()) == len(checkout.OLD_PROFILE)
    assert not old & here.daemons()


def test_status_tells_where_to_look(here: Box, tmp_path: Path) -> None:
    status = json.loads(here.run("status", "--json")[0])
    assert status["running"] is True
    assert status["database_url"] == here.state.database_url
    assert status["s3_endpoint_url"].startswith("http://127.0.0.1:")
    assert status["bucket"] == here.state.bucket
    assert Path(status["crontab"]).is_file()
    assert Path(status["home"], "labeller/common/config.yaml").stat().st_mode & 0o777 == 0o640
    assert here.home.state.stat().st_mode & 0o777 == 0o600
    nowhere = Box(tmp_path)
    assert json.loads(nowhere.run("status", "--json")[0]) == {
        "home": str(nowhere.home.path),
        "running": False,
    }
    assert "There was no sandbox" in nowhere.run("down")[0]


#: Whether other users may use this environment: PostgreSQL's programs do not go by capabilities.
OPEN = all(path.stat().st_mode & 0o001 for path in Path(sys.prefix).resolve().parents)


@pytest.mark.campaign
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as a normal user already")
@pytest.mark.skipif(not OPEN, reason="this environment's folder is closed to other users")
def test_a_normal_user_has_one_too(tmp_path: Path) -> None:
    user = pwd.getpwnam("daemon").pw_uid
    box = Box(tmp_path)
    os.chown(tmp_path, user, user)
    # It may read all, for files of the environment may be closed to others; and write its own only.
    prefix = [
        "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
        "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ]  # fmt: skip
    box.run("up", prefix=prefix, cwd="/")
    try:
        assert box.home.state.stat().st_uid == user
        assert box.query("SELECT count(*) FROM master_grid") == [(55_000,)]
        assert {
            Path(f"/proc/{process.pid}").stat().st_uid for process in processes.of(box.home)
        } == {user}
    finally:
        box.run("down", prefix=prefix, cwd="/")
    assert not processes.of(box.home)
