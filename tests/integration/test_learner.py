"""The learner's clusters: started once, followed to the end, told what went wrong (moto's EMR)."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import os
import socket
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import aws as aws_module
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    Locked,
    ModuleFailure,
    Unreachable,
)
from ansible_collections.labeller.runbook.plugins.module_utils.learner import (
    claims,
    clusters,
    emr,
    job_flow,
    outcome,
)
from clients import client

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count()


class Proxy(ThreadingHTTPServer):
    """Hands requests on to moto; ``faults`` maps an operation to answers that come first."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.faults: dict[str, list[Any]] = {}
        self.calls: list[str] = []
        self.ahead = 0.0
        """Seconds by which AWS's clock is ahead of ours."""


class Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.server.calls.append(operation)
        faults = self.server.faults.get(operation, [])
        fault = faults.pop(0) if faults else None
        if fault == "lost":
            self._upstream(body)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault:
            status, code = fault
            self._answer(status, {}, json.dumps({"__type": code, "message": "injected"}).encode())
            return
        self._answer(*self._upstream(body))

    def _upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "expect")}
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in (
                "transfer-encoding",
                "content-length",
                "connection",
                "server",
                "date",
            ):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string((timestamp or time.time()) + self.server.ahead)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """moto in this very process, so that tests can move its clusters on."""
    # Read when moto is imported: the list of Amazon's images is long, and no test wants it.
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def proxy(moto: str) -> Iterator[Proxy]:
    server = Proxy(moto)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def params(proxy: Proxy) -> dict[str, Any]:
    def defaults(options: dict[str, Any]) -> dict[str, Any]:
        return {name: option.get("default") for name, option in options.items()}

    number = next(_numbers)
    bucket = f"learner-{number}"
    made = {
        **defaults(emr.ARGUMENTS),
        "target": f"host{number}",
        "iteration": 1,
        "applied": "2026-01-14T09:30:12+00:00",
        "wait": 0,
        "poll": 0.02,
        "parameters": {
            **defaults(job_flow.PARAMETERS),
            "ec2_instance": "x", "security_group_id": "sg-1", "bucket": bucket, "run_id": 1,
            "aoi_name": "ghana", "aoi_index": 3, "worker_count": 2,
        },
        "cluster": {**defaults(job_flow.CLUSTER_OPTIONS), "key_name": ""},
        "access_key": "a", "secret_key": "b", "region": "us-east-1",
        "endpoint_url": f"http://127.0.0.1:{proxy.server_port}",
    }  # fmt: skip
    s3 = client(made, "s3")
    s3.create_bucket(Bucket=bucket)
    request = job_flow.request(made["target"], made["parameters"], made["cluster"], subnet(made))
    request["Instances"].pop("EmrManagedMasterSecurityGroup")
    request["Instances"].pop("EmrManagedSlaveSecurityGroup")
    emr.kept_request(s3, made).write(json.dumps(request))
    proxy.calls.clear()
    all_clusters().clear()
    return made


@pytest.fixture(autouse=True)
def _clients_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a client takes longer than what these tests do with it."""
    made: dict[Any, Any] = {}
    make = aws_module.client

    def client(service: str, params: Any, attempts: int = 5) -> Any:
        key = (service, params["endpoint_url"], attempts)
        if key not in made:
            made[key] = make(service, params, attempts)
        return made[key]

    monkeypatch.setattr(aws_module, "client", client)


def subnet(params: dict[str, Any]) -> str:
    return str(client(params, "ec2").describe_subnets()["Subnets"][0]["SubnetId"])


def submit(params: dict[str, Any], *, check: bool = False, **changes: Any) -> dict[str, Any]:
    return clusters.run({**params, **changes, "state": "submitted"}, check)


def finish(params: dict[str, Any], *, check: bool = False, **changes: Any) -> dict[str, Any]:
    return clusters.run({**params, **changes, "state": "finished"}, check)


def all_clusters() -> dict[str, Any]:
    """moto's own objects."""
    from moto.emr.models import emr_backends

    made: dict[str, Any] = emr_backends["123456789012"]["us-east-1"].clusters
    return made


def cluster(cluster_id: str) -> Any:
    return all_clusters()[cluster_id]


def of_target(params: dict[str, Any]) -> list[str]:
    """Ids of all clusters of this test's target."""
    return [
        i for i, c in all_clusters().items() if c._tags.get("runbook:target") == params["target"]
    ]


def steps(cluster_id: str, *states: str) -> None:
    for step, state in zip(cluster(cluster_id).steps, states, strict=True):
        step.state = state


def ends(cluster_id: str, state: str, code: str, message: str = "") -> None:
    made = cluster(cluster_id)
    made.state, made.last_state_change_reason = state, message
    type(made).status = property(_status)
    made.reason_code = code


def _status(self: Any) -> dict[str, Any]:
    """moto says nothing of why a cluster ended; EMR does."""
    return {
        "State": self.state,
        "StateChangeReason": {
            "Code": getattr(self, "reason_code", None),
            "Message": getattr(self, "last_state_change_reason", None),
        },
        "Timeline": {
            "CreationDateTime": self.creation_datetime,
            "EndDateTime": self.end_datetime,
            "ReadyDateTime": self.ready_datetime,
        },
    }


def test_started_once_and_followed_to_its_end(params: dict[str, Any]) -> None:
    checked = submit(params, check=True)
    assert of_target(params) == []
    ahead = finish(params, check=True, wait=60, cluster_id=checked["cluster_id"])
    assert (ahead["done"], ahead["unchecked"]) == (False, True), "it is not started by a check"
    done = submit(params)
    assert done["changed"]
    assert (done["diff"], done["plan"]) == (checked["diff"], checked["plan"])
    assert done["diff"][0]["after"] == "attempt 1, up to 0.17 dollars an hour\n"
    (made,) = of_target(params)
    assert done["cluster_id"] == made
    assert cluster(made)._tags == {
        "runbook:target": params["target"], "runbook:aoi": "ghana_3", "runbook:run": "1",
        "runbook:applied": params["applied"], "runbook:iteration": "1", "runbook:attempt": "1",
    }  # fmt: skip

    again = submit(params)
    assert not again["changed"]
    assert again["cluster_id"] == made
    steps(made, "COMPLETED", "RUNNING", "PENDING")
    running = finish(params)
    assert not running["done"]
    assert not running["unchecked"]
    looked = finish(params, check=True, cluster_id=made)
    assert (looked["unchecked"], looked["changed"]) == (True, False), "what comes next is not known"
    assert looked["msg"] == looked["summary"]
    assert [step["state"] for step in running["steps"]] == ["COMPLETED", "RUNNING", "PENDING"]
    assert "run_geopyspark.py RUNNING" in running["summary"]
    assert running["hourly_ceiling"] == 0.172
    steps(made, "COMPLETED", "COMPLETED", "COMPLETED")
    assert finish(params, cluster_id=made)["done"]
    assert not finish(params, check=True)["unchecked"]
    assert submit(params)["cluster_id"] == made
    assert of_target(params) == [made]


def test_waits_until_the_steps_are_done(params: dict[str, Any]) -> None:
    made = submit(params)["cluster_id"]
    timer = threading.Timer(0.3, steps, (made, "COMPLETED", "COMPLETED", "COMPLETED"))
    timer.start()
    assert finish(params, wait=20)["done"]
    timer.join()


def test_each_iteration_and_each_application_of_a_run_has_its_own(params: dict[str, Any]) -> None:
    ids = {
        submit(params)["cluster_id"],
        submit(params, iteration=2)["cluster_id"],
        submit(params, applied="2026-03-01T00:00:00+00:00")["cluster_id"],
    }
    assert len(ids) == 3


@pytest.mark.parametrize("tag", ["target", "aoi", "run", "applied", "iteration"])
def test_fault_a_cluster_of_something_else_is_newer(params: dict[str, Any], tag: str) -> None:
    """The cluster's id was not recorded: its tags distinguish it from one that differs in one of them."""
    made = submit(params)["cluster_id"]
    mine = clusters.Learner(params)
    tags = {**mine.tags, "runbook:attempt": "1", f"runbook:{tag}": "other"}
    other = mine.emr.run_job_flow(
        **{**mine.kept.request(), "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
    )["JobFlowId"]
    ends(other, "TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE")
    (claim,) = mine.claims.attempts()
    mine.s3.delete_object(Bucket=mine.bucket, Key=claim.key)
    steps(made, "COMPLETED", "COMPLETED", "COMPLETED")
    assert submit(params)["cluster_id"] == made
    assert finish(params)["cluster_id"] == made


def test_fault_a_python_error_is_told_with_its_last_words_and_not_repeated(
    params: dict[str, Any],
) -> None:
    made = submit(params)["cluster_id"]
    bucket = params["parameters"]["bucket"]
    s3 = client(params, "s3")
    s3.put_object(
        Bucket=bucket, Key="config_ghana_3.yaml",
        Body=b"labeller:\n  db_password: pw-of-postgis\nlearner:\n  aws_secret: aws/secret\n",
    )  # fmt: skip
    steps(made, "COMPLETED", "FAILED", "CANCELLED")
    # A check would stop `runbook apply` before the report: it says that there is something to do.
    for _ in range(2):
        ahead = submit(params, check=True)
        (told,) = ahead["plan"]
        assert told["action"] == "report"
        assert finish(params, check=True, cluster_id=ahead["cluster_id"])["unchecked"]
    with pytest.raises(
        ModuleFailure, match=r"stderr\.gz, cannot be shown: .*no such object"
    ) as error:
        finish(params)
    details = error.value.details
    assert (details["reported"], details["will_retry"], details["cluster_id"]) == (
        False,
        False,
        made,
    )
    log = "\n".join(
        [f"line {n}" for n in range(100)]
        + ["login pw-of-postgis failed", "KeyError: 'image_catalog_fix'"]
    )
    step = cluster(made).steps[1].id
    s3.put_object(
        Bucket=bucket, Key=f"logs/{made}/steps/{step}/stderr.gz", Body=gzip.compress(log.encode())
    )
    assert error.value.details["summary"].startswith(f"{made} ")
    for call in (finish, submit):
        with pytest.raises(ModuleFailure) as error:
            call(params)
        text = str(error.value)
        assert "step run_geopyspark.py failed" in text
        assert f"logs: s3://{bucket}/logs/{made}/" in text
        assert text.endswith("login (secret) failed\nKeyError: 'image_catalog_fix'")
        assert "line 79\n" not in text
        assert "not repeated by itself" in text
        assert error.value.details["reported"]
    with pytest.raises(ModuleFailure, match="not repeated by itself"):
        submit(params, check=True)
    assert of_target(params) == [made]
    assert submit(params, retry=True)["attempt"] == 2
    assert len(of_target(params)) == 2


def test_fault_spot_loss_is_repeated_up_to_the_limit(params: dict[str, Any]) -> None:
    for attempt in (1, 2, 3):
        done = submit(params)
        assert done["attempt"] == attempt
        ends(done["cluster_id"], "TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE", "spot")
        with pytest.raises(ModuleFailure, match=f"attempt {attempt}") as error:
            finish(params)
        assert ("the next call starts attempt" in str(error.value)) is (attempt < 3)
    with pytest.raises(ModuleFailure, match="INSTANCE_FAILURE: spot"):
        submit(params)
    assert len(of_target(params)) == 3


@pytest.mark.parametrize(
    ("state", "code"),
    [("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE"), ("TERMINATED", "USER_REQUEST")],
)
def test_fault_bootstrap_failure_and_ended_by_hand(
    params: dict[str, Any], state: str, code: str
) -> None:
    made = submit(params)["cluster_id"]
    ends(made, state, code)
    steps(made, "CANCELLED", "CANCELLED", "CANCELLED")
    for _ in range(2):
        with pytest.raises(
            ModuleFailure, match=f"ended as {state} before its steps were done .{code}"
        ):
            submit(params)
    assert of_target(params) == [made]


def test_fault_a_step_cancelled(params: dict[str, Any]) -> None:
    made = submit(params)["cluster_id"]
    steps(made, "COMPLETED", "CANCELLED", "RUNNING")
    with pytest.raises(ModuleFailure, match=r"step run_geopyspark\.py cancelled"):
        finish(params)


def test_fault_throttling_5xx_and_lost_connections_are_waited_out(
    params: dict[str, Any], proxy: Proxy
) -> None:
    made = submit(params)["cluster_id"]
    steps(made, "COMPLETED", "COMPLETED", "COMPLETED")
    proxy.faults["ListSteps"] = [(400, "ThrottlingException")] * 2 + [
        (503, "ServiceUnavailable")
    ] * 2
    proxy.faults["DescribeCluster"] = ["lost"]
    assert finish(params, wait=60)["done"]


def test_fault_emr_that_stays_away_is_unreachable(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(params)
    make = aws_module.client
    monkeypatch.setattr(aws_module, "client", lambda service, p: make(service, p, attempts=1))
    for fault in ((503, "ServiceUnavailable"), (400, "ThrottlingException")):
        with pytest.raises(Unreachable):
            finish_with(params, fault)


def finish_with(params: dict[str, Any], fault: tuple[int, str]) -> None:
    made = clusters.Learner(params)

    def refuse(**_arguments: Any) -> None:
        from botocore.exceptions import ClientError

        raise ClientError(
            {"Error": {"Code": fault[1], "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": fault[0]}}, "x"
        )  # fmt: skip

    made.emr = type("Away", (), {"describe_cluster": staticmethod(refuse)})()
    made.finish(False)


def test_fault_credentials_that_expire_are_named(params: dict[str, Any], proxy: Proxy) -> None:
    made = submit(params)["cluster_id"]
    steps(made, "COMPLETED", "COMPLETED", "COMPLETED")
    proxy.faults["DescribeCluster"] = [(400, "ExpiredToken")]
    with pytest.raises(InvalidInput, match="ExpiredToken"):
        finish(params, wait=60)
    assert finish(params)["done"]


def test_fault_an_answer_that_gets_lost_is_no_second_cluster(
    params: dict[str, Any], proxy: Proxy
) -> None:
    """EMR has started the cluster, the connection broke, the id was not recorded."""
    proxy.faults["RunJobFlow"] = ["lost"]
    with pytest.raises(Unreachable):
        submit(params)
    assert proxy.calls.count("RunJobFlow") == 1
    (made,) = of_target(params)
    again = submit(params)
    assert (again["changed"], again["cluster_id"]) == (False, made)
    assert of_target(params) == [made]


def test_fault_emr_refuses_and_the_next_call_tries_again(
    params: dict[str, Any], proxy: Proxy
) -> None:
    proxy.faults["RunJobFlow"] = [(400, "ValidationException")]
    with pytest.raises(ModuleFailure, match="injected"):
        submit(params)
    assert of_target(params) == []
    assert submit(params)["attempt"] == 1


def test_fault_killed_between_claim_and_start(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = clusters.Learner(params)
    dead.claims.claim(1)
    with pytest.raises(Locked, match="the next one takes over in 10 minutes"):
        submit(params)
    with pytest.raises(Locked):
        finish(params)
    monkeypatch.setattr(clusters, "CLAIM_SECONDS", -1)
    assert submit(params)["attempt"] == 2
    assert len(of_target(params)) == 1


def test_two_hosts_at_once_start_one(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one starts its cluster after we have seen that there is none."""
    claim = claims.Claims.claim

    def late(self: claims.Claims, number: int) -> claims.Attempt:
        monkeypatch.setattr(claims.Claims, "claim", claim)
        submit(params)
        return claim(self, number)

    monkeypatch.setattr(claims.Claims, "claim", late)
    with pytest.raises(Locked, match="another caller"):
        submit(params)
    assert len(of_target(params)) == 1


def test_fault_claims_lost_from_the_bucket(params: dict[str, Any]) -> None:
    """The tags say it alone."""
    made = submit(params)["cluster_id"]
    s3, bucket = client(params, "s3"), params["parameters"]["bucket"]
    s3.delete_object(Bucket=bucket, Key=clusters.Learner(params).claims.attempts()[0].key)
    assert submit(params)["cluster_id"] == made
    steps(made, "COMPLETED", "COMPLETED", "COMPLETED")
    assert finish(params)["done"]
    assert of_target(params) == [made]


def test_fault_longer_than_the_timeout_by_emrs_own_clock(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = submit(params)["cluster_id"]
    cluster(made).creation_datetime -= timedelta(hours=3)
    found = finish(params, timeout=7 * 3600)
    assert 10798 <= found["elapsed"] < 10900
    assert found["cost"] == 0.52
    with pytest.raises(ModuleFailure, match=r"longer than the timeout of 2 h 00 min"):
        finish(params, timeout=7200)
    steps(made, "COMPLETED", "COMPLETED", "COMPLETED")
    assert finish(params, timeout=7200)["done"]


def test_fault_clocks_that_differ(
    params: dict[str, Any], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS's clock is five hours behind: by ours the cluster ran too long, and the claim is old."""
    from moto.s3.models import s3_backends

    behind = timedelta(hours=5)
    proxy.ahead = -behind.total_seconds()
    made = submit(params)["cluster_id"]
    cluster(made).creation_datetime -= behind
    assert finish(params, timeout=3600)["elapsed"] < 60

    dead = clusters.Learner({**params, "iteration": 2})
    claim = dead.claims.claim(1)
    s3_backends["123456789012"]["aws"].buckets[dead.bucket].keys[claim.key].last_modified -= behind
    with pytest.raises(Locked, match="the next one takes over in 10 minutes"):
        submit(params, iteration=2)
    assert of_target(params) == [made]


def test_the_request_of_another_run_is_not_submitted(params: dict[str, Any]) -> None:
    other = {**params, "parameters": {**params["parameters"], "run_id": 2}}
    with pytest.raises(InvalidInput, match=r"request of another run .runbook:run is 1"):
        submit(other)
    lost = {**params, "target": "nobody"}
    with pytest.raises(InvalidInput, match="apply the run mode, which defines it"):
        submit(lost)


def test_absent_ends_the_runs_clusters_and_no_others(params: dict[str, Any]) -> None:
    made = {submit(params)["cluster_id"], submit(params, iteration=2)["cluster_id"]}
    other = {**params, "target": params["target"] + "x"}
    assert clusters.run({**other, "state": "absent"}, False)["clusters"] == []
    checked = clusters.run({**params, "state": "absent"}, True)
    assert {cluster(each).state for each in made} == {"WAITING"}
    done = clusters.run({**params, "state": "absent"}, False)
    assert done == checked
    assert set(done["clusters"]) == made
    assert {cluster(each).state for each in made} <= {"TERMINATED", "TERMINATING"}
    assert not clusters.run({**params, "state": "absent"}, False)["changed"]


def test_finished_without_a_cluster_says_so(params: dict[str, Any]) -> None:
    assert finish(params)["summary"] == "no cluster yet"


def test_lost_nodes_are_counted() -> None:
    from botocore.stub import Stubber

    api = boto3.client(
        "emr", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    made = clusters.Learner.__new__(clusters.Learner)
    made.emr = api
    ended = [
        {"Status": {"State": "TERMINATED", "StateChangeReason": {"Code": code}}}
        for code in ("INSTANCE_FAILURE", "CLUSTER_TERMINATED")
    ]
    with Stubber(api) as stub:
        stub.add_response(
            "list_instances",
            {"Instances": ended},
            {"ClusterId": "j-1", "InstanceStates": ["TERMINATED"]},
        )
        assert made._lost_nodes("j-1") == 1
    step = {"Id": "s-1", "Name": "run", "Status": {"State": "FAILED"}}
    running = {"Id": "j-1", "Status": {"State": "TERMINATING"}}
    assert outcome.assess(running, [step], nodes_lost=1).code == "INSTANCE_FAILURE"
    assert outcome.assess(running, [step]).code == "STEP_FAILURE"
