"""Simulated mappers, and clusters that carry out the learner's steps (docs/labeller.md 4.5, 5)."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from botocore.exceptions import ClientError
from sandbox_support import Box, squares
from waiting import until

from runbook.errors import InvalidInputError
from runbook.sandbox import cloud, emr, processes, work
from runbook.sandbox.grid import CELL, NORTH, WEST
from runbook.sandbox.landscape import Landscape, mask
from runbook.sandbox.learner import images, iteration, model, storage

if TYPE_CHECKING:
    from collections.abc import Iterator

#: One worker makes what the tests of this file share.
pytestmark = [pytest.mark.xdist_group("sandbox_work"), pytest.mark.campaign]

REQUEST = "learner/sandbox/cluster_request.json"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A small sandbox with a regular run of 20 sites in place and mapped."""
    folder = tmp_path_factory.mktemp("work")
    box = Box(folder)
    box.run("up", "--aois", str(squares(folder / "areas.geojson", (300, 500), (310, 505))))
    done = subprocess.run(
        [sys.executable, "-m", "runbook", "apply", "regular.yml", "-i", "sandbox", "--yes",
         "-e", "initial_f_count=20"],
        env={**os.environ, "RUNBOOK_HOME": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    yield box
    box.run("down")


@pytest.fixture
def mapped(box: Box) -> Box:
    """The same, with every site mapped."""
    work.work(box.state)
    return box


def export(box: Box) -> None:
    """The names as ``iteration`` exports them, for the learner."""
    rows = box.query("SELECT name, run, iteration, processed, usage, label FROM incoming_names")
    text = "name,run,iteration,processed,usage,label\n"
    text += "".join(",".join(map(str, row)) + "\n" for row in rows)
    put(box, "planet/incoming_names_ghana_1.csv", text.encode())


def put(box: Box, key: str, content: bytes) -> None:
    s3 = cloud.client("s3", box.state.endpoint_url)
    s3.put_object(Bucket=box.state.bucket, Key=key, Body=content)


# Mappers


def test_work_leaves_what_mappers_leave(box: Box) -> None:
    before = box.query("SELECT count(*) FROM user_maps")[0][0]
    assert before == 0
    some = work.work(box.state, names=5)
    assert (some.sites, some.left) == (5, 15)
    rest = work.work(box.state)
    assert (rest.sites, rest.left) == (15, 0)
    assert work.work(box.state) == work.Done(0, 0, 0)
    assert box.query("SELECT count(*) FROM user_maps") == [(some.maps + rest.maps,)]

    needed = int(
        box.query("SELECT value FROM configuration WHERE key = 'Hit_MaxAssignmentsF'")[0][0]
    )
    assert box.query(
        "SELECT DISTINCT mapped_count, mappers_needed FROM kml_data WHERE kml_type = 'F'"
    ) == [(needed, needed)]
    assert box.query(
        "SELECT count(*), bool_and(processed AND label) FROM incoming_names WHERE run = 0"
    ) == [(20, True)]
    finished = (
        "SELECT h.name, count(*), count(DISTINCT worker_id), bool_and(status = 'Approved'), "
        "count(DISTINCT h.hit_id), bool_and(h.delete_time IS NOT NULL) "
        "FROM hit_data h JOIN assignment_data USING (hit_id) GROUP BY h.name"
    )
    rows = box.query(finished)
    assert len(rows) == 20
    assert {row[1:] for row in rows} == {(needed, needed, True, 1, True)}
    assert box.query(
        "SELECT count(*) FROM assignment_data a LEFT JOIN assignment_history h USING (assignment_id)"
        " WHERE h.event_type IS DISTINCT FROM 'Approved Assignment'"
    ) == [(0,)]


def test_maps_lie_in_their_cell_and_the_label_is_their_consensus(mapped: Box) -> None:
    name, x, y = mapped.query(
        "SELECT k.name, x, y FROM kml_data k JOIN master_grid g ON g.name = k.name"
        " WHERE kml_type = 'F' ORDER BY k.gid LIMIT 1"
    )[0]
    column, row = round((x - WEST) / CELL - 0.5), round((NORTH - y) / CELL - 0.5)
    heat = np.zeros((200, 200))
    maps = mapped.query(
        "SELECT geom, assignment_id FROM user_maps JOIN assignment_data USING (assignment_id)"
        f" JOIN hit_data h USING (hit_id) WHERE h.name = '{name}'"
    )
    by_mapper: dict[int, Any] = {}
    for geometry, mapper in maps:
        points = geometry.split("((")[1].rstrip(")").split(",")
        positions = [tuple(map(float, point.split())) for point in points]
        assert positions[0] == positions[-1]
        assert all(abs(px - x) < 0.00251 and abs(py - y) < 0.00251 for px, py in positions)
        left, right = (
            round((p - (x - 0.0025)) / CELL * 200) for p in (positions[0][0], positions[1][0])
        )
        top, bottom = (
            round(((y + 0.0025) - p) / CELL * 200) for p in (positions[0][1], positions[2][1])
        )
        drawn = by_mapper.setdefault(mapper, np.zeros((200, 200), dtype=bool))
        drawn[top:bottom, left:right] = True
    heat = np.mean(list(by_mapper.values()), axis=0)

    content = mapped.objects()[f"labels/ghana/{name}_{column}_{row}.tif"]
    label = images.read(content)
    assert label.shape == (200, 200)
    assert np.mean((heat > 0.5) == (label > 0)) > 0.995, "but for rounding at edges"
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        tags = tif.pages[0].tags
        assert tags[33550].value[:2] == pytest.approx((0.000025, 0.000025))
        assert tags[33922].value[3:5] == pytest.approx((x - 0.0025, y + 0.0025))


def test_better_mappers_agree_more_with_the_truth() -> None:
    landscape = Landscape(0)
    sites = [work.Site("", 3000 + n, 5000 + n, 0, 5) for n in range(10)]

    def agreement(quality: float) -> float:
        mappers = work.Mappers(landscape, quality)
        return float(np.mean([
            mappers.consensus(site, 5)[0] == mask(landscape.fields(site.column, site.row)) for site in sites
        ]))  # fmt: skip

    assert agreement(1.0) == 1.0
    assert agreement(1.0) > agreement(0.8) > agreement(0.4)


# The learner


def learn(landscape: Landscape, sites: int, quality: float) -> float:
    """Accuracy on thirty cells, by their labels, of a model that is trained on ``sites`` others."""
    random = np.random.default_rng(1)
    mappers = work.Mappers(landscape, quality)

    def data(count: int, pixels: int) -> tuple[Any, Any]:
        features, labels = [], []
        for column, row in random.integers((3280, 5530), (3360, 5630), (count, 2)):
            site = work.Site("", int(column), int(row), 0, 5)
            chosen = random.integers(0, 40_000, pixels)
            features.append(landscape.features(site.column, site.row, chosen))
            labels.append(mappers.consensus(site, 5)[0].reshape(-1)[chosen] > 0)
        return np.vstack(features), np.concatenate(labels)

    test, train = data(30, 60), data(sites, 40)
    trained = model.train(*train, seed=42)
    return float(np.mean((trained.probability(test[0]) > 0.5) == test[1]))


def test_accuracy_comes_from_what_was_labelled() -> None:
    landscape = Landscape(0)
    few, many = learn(landscape, 15, 0.9), learn(landscape, 150, 0.9)
    assert few + 0.05 < many, "more sites teach more"
    assert many > 0.85, "criterion 2 can be reached"
    assert learn(landscape, 150, 0.3) < 0.85, "with such mappers only criterion 1 can"


def test_features_tell_of_the_pixels_surroundings() -> None:
    landscape = Landscape(3)
    truth = mask(landscape.fields(3300, 5600))
    pixels = np.arange(0, 40_000, 97)
    features = landscape.features(3300, 5600, pixels)
    assert features.shape == (len(pixels), 24)
    assert np.array_equal(features, Landscape(3).features(3300, 5600, pixels)), (
        "from the seed alone"
    )
    _, contrast = landscape.look(3300, 5600)
    means = features[:, 8:16] @ contrast / np.linalg.norm(contrast)
    share = np.array([
        np.pad(truth, 5, mode="edge")[p // 200 : p // 200 + 11, p % 200 : p % 200 + 11].mean() for p in pixels
    ])  # fmt: skip
    assert np.corrcoef(means, share)[0, 1] > 0.95


def learner_files(
    box: Box, fault: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """One iteration in this process; its metrics and the outgoing names that it leaves."""
    environment = {
        "AWS_ENDPOINT_URL": box.state.endpoint_url, "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox", "AWS_DEFAULT_REGION": "us-east-1", storage.FAULT: fault,
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = storage.Storage(box.state.bucket, "config_ghana_1.yaml")
    metrics = iteration.run(bucket, Landscape(box.state.seed), 0, 1, 42)
    return metrics, bucket.rows("planet/outgoing_names_ghana_1.csv")


def test_an_iteration_writes_what_the_learner_writes(
    mapped: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(mapped)
    metrics, names = learner_files(mapped, "", monkeypatch)
    assert (metrics["run"], metrics["iteration"], metrics["aoi"]) == (0, 1, 1)
    assert 0.5 < float(metrics["accuracy"]) <= 1
    assert metrics["tss"] == pytest.approx(metrics["tpr"] - metrics["fpr"], abs=2e-6)
    assert len(names) == 10
    assert {tuple(row.values())[1:] for row in names} == {("0", "1", "False", "train")}
    pool = {row["name"] for row in rows_of(mapped, "planet/f_pool_ghana_1.csv")}
    known = {name for (name,) in mapped.query("SELECT name FROM incoming_names WHERE run = 0")}
    assert {row["name"] for row in names} <= pool - known
    again, same = learner_files(mapped, "", monkeypatch)
    assert (same, again["accuracy"]) == (names, metrics["accuracy"]), "the seed decides"
    [picture] = [key for key in mapped.objects() if key.startswith("classified-images/ghana_1/")]
    assert picture.endswith("_1_run0_iteration1.tif")
    values = tifffile.imread(io.BytesIO(mapped.objects()[picture]))
    assert values.dtype == np.int8
    assert (values.min() >= 0, values.max() <= 100, values.max() > 0) == (True, True, True)


def rows_of(box: Box, key: str) -> list[dict[str, str]]:
    import csv

    return list(csv.DictReader(io.StringIO(box.objects()[key].decode())))


@pytest.mark.campaign
def test_faults_of_what_the_learner_brings(mapped: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    export(mapped)
    _, names = learner_files(mapped, "", monkeypatch)
    assert learner_files(mapped, "other-run", monkeypatch)[1][0]["run"] == "1"
    twice = [row["name"] for row in learner_files(mapped, "names-twice", monkeypatch)[1]]
    assert len(twice) == 2 * len(set(twice)) == 20
    unknown = {row["name"] for row in learner_files(mapped, "unknown-names", monkeypatch)[1]}
    assert not unknown & {name for (name,) in mapped.query("SELECT name::text FROM master_grid")}
    assert learner_files(mapped, "empty-file", monkeypatch)[1] == []
    put(mapped, "planet/outgoing_names_ghana_1.csv", b"name\nold\n")
    assert learner_files(mapped, "no-names", monkeypatch)[1] == [{"name": "old"}]
    put(mapped, "planet/incoming_metrics_ghana_1.csv", b"old")
    learner_files(mapped, "no-metrics", monkeypatch)
    assert mapped.objects()["planet/incoming_metrics_ghana_1.csv"] == b"old"
    assert learner_files(mapped, "", monkeypatch)[1] == names


def test_a_site_without_label_image_fails_the_learner(
    mapped: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(mapped)
    [key, *_] = [key for key in mapped.objects() if key.startswith("labels/ghana/")]
    content = mapped.objects()[key]
    cloud.client("s3", mapped.state.endpoint_url).delete_object(Bucket=mapped.state.bucket, Key=key)
    try:
        with pytest.raises(ClientError, match="NoSuchKey"):
            learner_files(mapped, "", monkeypatch)
    finally:
        put(mapped, key, content)


# Clusters


class Cluster:
    """A cluster from the request that the run defined, with changes."""

    def __init__(self, box: Box, **changes: Any) -> None:
        self.box = box
        self.emr = cloud.client("emr", box.state.endpoint_url)
        request = json.loads(box.objects()[REQUEST])
        request = {**request, **changes.pop("request", {})}
        for step in request["Steps"]:
            step.update(changes)
        self.id = self.emr.run_job_flow(**request)["JobFlowId"]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.emr.describe_cluster(ClusterId=self.id)["Cluster"]["Status"]
        return found

    @property
    def steps(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.emr.list_steps(ClusterId=self.id)["Steps"]
        return found[::-1]

    @property
    def states(self) -> list[str]:
        return [step["Status"]["State"] for step in self.steps]

    def finish(self) -> tuple[str, str]:
        until(lambda: self.status["State"].startswith("TERMINATED"), 90)
        return self.status["State"], self.status["StateChangeReason"]["Code"]

    def stderr(self, step: dict[str, Any]) -> str:
        key = f"logs/{self.id}/steps/{step['Id']}/stderr.gz"
        return gzip.decompress(self.box.objects()[key]).decode()


def test_a_cluster_carries_out_its_steps(mapped: Box) -> None:
    export(mapped)
    cluster = Cluster(mapped)
    assert cluster.status["State"] in ("STARTING", "BOOTSTRAPPING", "RUNNING")
    assert cluster.finish() == ("TERMINATED", "ALL_STEPS_COMPLETED")
    assert cluster.states == ["COMPLETED"] * 3
    tags = cluster.emr.describe_cluster(ClusterId=cluster.id)["Cluster"]["Tags"]
    assert {"Key": "runbook:run", "Value": "0"} in tags
    assert "Cloning" in cluster.stderr(cluster.steps[0])
    assert all(step["Status"]["Timeline"]["EndDateTime"] for step in cluster.steps)

    [metrics] = rows_of(mapped, "planet/incoming_metrics_ghana_1.csv")
    inserted = mapped.query(
        "SELECT iteration, accuracy, auc FROM iteration_metrics WHERE run = 0 AND iteration > 0"
    )
    assert inserted == [
        (1, pytest.approx(float(metrics["accuracy"])), pytest.approx(float(metrics["AUC"])))
    ]
    names = {row["name"] for row in rows_of(mapped, "planet/outgoing_names_ghana_1.csv")}
    open_names = "SELECT name, usage, label FROM incoming_names WHERE (run, iteration) = (0, 1)"
    assert {row[0] for row in mapped.query(open_names)} == names
    assert {row[1:] for row in mapped.query(open_names)} == {("train", False)}
    assert not processes.steps(mapped.home)
    mapped.query("DELETE FROM incoming_names WHERE (run, iteration) = (0, 1)")
    mapped.query("DELETE FROM iteration_metrics WHERE (run, iteration) = (0, 1)")


@pytest.mark.parametrize(
    ("fault", "end", "states"),
    [
        ("bootstrap", ("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE"), ["CANCELLED"] * 3),
        (
            "spot",
            ("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE"),
            ["COMPLETED", "CANCELLED", "CANCELLED"],
        ),
        ("step", ("TERMINATED_WITH_ERRORS", "STEP_FAILURE"), ["COMPLETED", "FAILED", "CANCELLED"]),
    ],
)
def test_a_cluster_that_fails(
    box: Box, fault: str, end: tuple[str, str], states: list[str]
) -> None:
    emr.ask_for_faults(box.home, [fault])
    cluster = Cluster(box)
    assert cluster.finish() == end
    assert cluster.states == states
    assert emr.next_fault(box.home) == "", "only one cluster meets it"
    assert box.query("SELECT count(*) FROM iteration_metrics WHERE run = 0 AND iteration > 0") == [
        (0,)
    ]
    if fault == "step":
        failed = cluster.steps[1]
        details = failed["Status"]["FailureDetails"]
        assert "MemoryError: Java heap space" in details["Message"]
        assert (
            details["LogFile"]
            == f"s3://{box.state.bucket}/logs/{cluster.id}/steps/{failed['Id']}/stderr.gz"
        )
        assert "Traceback" in cluster.stderr(failed)


def test_a_cancelled_step_does_not_stop_the_next(box: Box) -> None:
    emr.ask_for_faults(box.home, ["cancelled"])
    cluster = Cluster(box, ActionOnFailure="CONTINUE")
    assert cluster.finish()[0] == "TERMINATED"
    assert cluster.states[:2] == ["COMPLETED", "CANCELLED"]


def test_a_cluster_that_somebody_ends(box: Box) -> None:
    sleepy = [{"Name": "s", "ActionOnFailure": "CONTINUE",
               "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["git", "clone"]}}]  # fmt: skip
    instances = {
        **json.loads(box.objects()[REQUEST])["Instances"],
        "KeepJobFlowAliveWhenNoSteps": True,
    }
    cluster = Cluster(box, request={"Steps": sleepy, "Instances": instances})
    until(lambda: cluster.status["State"] == "WAITING", 30)
    more = [
        {**sleepy[0], "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["rm", "-rf", "/"]}}
    ]
    cluster.emr.add_job_flow_steps(JobFlowId=cluster.id, Steps=more)
    until(lambda: cluster.states == ["COMPLETED", "FAILED"], 30)
    assert "only carry out the learner's steps" in cluster.stderr(cluster.steps[1])
    cluster.emr.terminate_job_flows(JobFlowIds=[cluster.id])
    assert cluster.finish() == ("TERMINATED", "USER_REQUEST")


def test_an_unknown_branch_fails_the_clone(box: Box) -> None:
    request = json.loads(box.objects()[REQUEST])
    args = request["Steps"][0]["HadoopJarStep"]["Args"]
    args[args.index("-b") + 1] = "nowhere"
    cluster = Cluster(box, request={"Steps": request["Steps"]})
    assert cluster.finish() == ("TERMINATED_WITH_ERRORS", "STEP_FAILURE")
    assert cluster.steps[0]["Status"]["FailureDetails"]["Message"].startswith(
        "fatal: Remote branch nowhere"
    )


def test_an_unknown_fault_is_refused(box: Box) -> None:
    with pytest.raises(InvalidInputError, match="bootstrap"):
        emr.ask_for_faults(box.home, ["flood"])


def test_a_step_does_not_outlive_the_cluster(mapped: Box) -> None:
    export(mapped)
    cluster = Cluster(mapped)
    until(lambda: cluster.states[1] == "RUNNING" and bool(processes.steps(mapped.home)), 30)
    cluster.emr.terminate_job_flows(JobFlowIds=[cluster.id])
    assert cluster.finish() == ("TERMINATED", "USER_REQUEST")
    assert cluster.states == ["COMPLETED", "CANCELLED", "CANCELLED"]
    until(lambda: not processes.steps(mapped.home))
