"""iterate.yml by stock ansible-playbook, turn by turn, with a learner that does what it is told."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import transaction_support as support
from ansible_collections.labeller.runbook.plugins.module_utils import crontab, emr, names
from labeller_support import Labeller, client

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
RUN = 91


@dataclass
class Mailbox:
    """Stands in for Slack and GitHub."""

    url: str
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            box.messages.append((self.path, json.loads(body)))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    box = Mailbox(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield box
    server.shutdown()
    thread.join()
    server.server_close()


class Learner(threading.Thread):
    """Carries out the steps of each new cluster in moto: fails, or leaves metrics and names."""

    def __init__(self, labeller: Labeller, keys: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.labeller, self.keys = labeller, keys
        self.fails = False
        self.over = threading.Event()
        self.seen: list[str] = []

    def run(self) -> None:
        from moto.emr.models import emr_backends

        clusters = emr_backends["123456789012"]["us-east-1"].clusters
        while not self.over.wait(0.02):
            for number, cluster in list(clusters.items()):
                if number not in self.seen and cluster._tags.get("runbook:iteration"):
                    self.seen.append(number)
                    self.work(cluster)

    def work(self, cluster: Any) -> None:
        iteration = int(cluster._tags["runbook:iteration"])
        exported = self.labeller.get(self.keys["incoming_names"])
        assert f",{RUN},{iteration - 1},True," in exported
        state = "COMPLETED"
        if self.fails:
            state = "FAILED"
        else:
            self.labeller.put(
                self.keys["metrics"],
                "run,iteration,tss,accuracy,precision,recall,fpr,tpr,AUC,aoi,iteration_time\n"
                f"{RUN},{iteration},0.5,0.7,0.8,0.7,0.1,0.7,0.9,1,2026-01-02\n",
            )
            rows = self.labeller.sql(
                "SELECT name FROM master_grid WHERE avail = 'F' AND name NOT IN (SELECT name FROM"
                " kml_data) ORDER BY name LIMIT 10"
            )
            lines = "".join(f"{name},{RUN},{iteration},False,train\n" for (name,) in rows)
            self.labeller.put(self.keys["outgoing"], "name,run,iteration,processed,usage\n" + lines)
        for step in cluster.steps:
            step.state = state


@dataclass
class Instance:
    """A target for ansible-playbook."""

    labeller: Labeller
    learner: Learner
    folder: Path
    variables: dict[str, Any]

    @property
    def crontab(self) -> Path:
        return self.folder / "crontab"

    def turn(self, *options: str, **changes: Any) -> dict[str, Any]:
        """Run iterate.yml; gives rc, the recap's counts and the output."""
        values = self.folder / "values.json"
        values.write_text(json.dumps({**self.variables, **changes}))
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                PROJECT / "playbooks" / "iterate.yml", "-i", "labeller3,", "-c", "local",
                "-e", f"@{values}", *options,
            ],
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(PROJECT / ".build" / "collections"),
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "ANSIBLE_RETRY_FILES_ENABLED": "false",
            },
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=120,
        )  # fmt: skip
        recap = done.stdout.rpartition("labeller3 ")[2]
        counts = dict(pair.split("=") for pair in recap.split() if "=" in pair)
        return {"rc": done.returncode, "text": done.stdout + done.stderr, **counts}

    def claim(self) -> str:
        """Key of the first claim at the learner of iteration 1."""
        ((applied,),) = self.labeller.sql("SELECT applied_at FROM runbook.run_marker")
        place = "".join(c for c in applied.astimezone(UTC).isoformat() if c.isalnum())
        return f"learner/labeller3/ghana_1/run_{RUN}_{place}/iteration_1/attempt_1.json"

    def map_everything(self) -> None:
        self.labeller.sql("UPDATE incoming_names SET processed = true, label = true")
        self.labeller.sql(
            "UPDATE kml_data SET mapped_count = 5, mappers_needed = 5 WHERE kml_type = 'F'"
        )


@pytest.fixture
def instance(labeller: Labeller, tmp_path: Path, mailbox: Mailbox) -> Iterator[Instance]:
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    aws = {**labeller.aws, "endpoint_url": "http://{}:{}".format(*server.get_host_and_port())}
    here = Labeller(labeller.login, aws, f"iterate-{next(_numbers)}")
    client(aws).create_bucket(Bucket=here.bucket)
    for key in sorted(labeller.keys()):
        here.put(key, labeller.get(key))
    support.apply(here, *support.regular(RUN))

    home = tmp_path / "labeller"
    (home / "common").mkdir(parents=True)
    tab = crontab.edit("0 3 * * * tidy\n", crontab.block("no_n", str(home)), str(home), "/root")
    (tmp_path / "crontab").write_text(tab)
    variables = {
        "ansible_python_interpreter": sys.executable, "run_id": RUN, "aoi_name": "ghana",
        "aoi_index": 1, "bucket": here.bucket, "worker_count": 2, "ec2_instance": "labeller3",
        "security_group_id": "sg-1", "labeller_home": str(home),
        "crontab_file": str(tmp_path / "crontab"), "aws_endpoint_url": aws["endpoint_url"],
        "aws_access": "iterate-key", "aws_secret": "iterate-secret", "learner_poll": 0.1,
        "db_host": here.login["login_host"], "db_port": here.login["login_port"],
        "db_name": here.login["login_db"], "db_user": here.login["login_user"],
        "db_pwd": here.login["login_password"], "secret_key": "s-e-c-r-e-t",
        "github_token": "ghp_token", "github_api_url": mailbox.url,
        "slack_url": f"{mailbox.url}/slack",
    }  # fmt: skip
    keys = names.names(here.bucket, "ghana", 1, "", "", "labeller3")
    spec = emr.ARGUMENTS["parameters"]["options"]
    params = {
        "target": "labeller3",
        "parameters": {**{k: v.get("default") for k, v in spec.items()}, **{k: v for k, v in variables.items() if k in spec}},
    }  # fmt: skip
    cluster = {name: option.get("default") for name, option in emr.CLUSTER_OPTIONS.items()}
    request = emr.request(
        "labeller3", params["parameters"], {**cluster, "key_name": ""}, _subnet(aws)
    )
    for group in ("EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup"):
        request["Instances"].pop(group)
    emr.kept_request(here.s3, params).write(json.dumps(request))
    learner = Learner(here, keys)
    learner.start()
    yield Instance(here, learner, tmp_path, variables)
    learner.over.set()
    learner.join()
    server.stop()


_numbers = itertools.count()


def _subnet(aws: dict[str, Any]) -> str:
    import boto3

    ec2 = boto3.client(
        "ec2", endpoint_url=aws["endpoint_url"], region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b",
    )  # fmt: skip
    return str(ec2.describe_subnets()["Subnets"][0]["SubnetId"])


def test_the_loop_from_open_sites_to_its_end(instance: Instance, mailbox: Mailbox) -> None:
    # Sites are open: nothing changes, nothing is asked of EMR.
    idle = instance.turn()
    assert (idle["rc"], idle["changed"], idle["failed"]) == (0, "0", "0"), idle["text"]
    assert instance.learner.seen == []

    # Another call is starting the cluster: no failure to tell people of.
    instance.map_everything()
    claim = instance.claim()
    instance.labeller.put(claim, json.dumps({"attempt": 1, "by": "another host"}))
    locked = instance.turn()
    assert (locked["rc"], locked["failed"]) == (2, "1"), locked["text"]
    assert "another host is starting its cluster" in locked["text"]
    assert mailbox.messages == []
    instance.labeller.s3.delete_object(Bucket=instance.labeller.bucket, Key=claim)

    # All mapped: a check starts nothing, a turn goes to the next iteration, the next one is idle.
    checked = instance.turn("--check")
    assert (checked["rc"], checked["changed"]) == (0, "1"), checked["text"]
    assert instance.learner.seen == []
    done = instance.turn()
    assert (done["rc"], done["failed"]) == (0, "0"), done["text"]
    assert len(instance.learner.seen) == 1
    assert instance.labeller.sql(
        "SELECT count(*) FROM incoming_names JOIN kml_data USING (name) WHERE run = %s AND iteration = 1"
        " AND mapped_count = 0", RUN,
    ) == [(10,)]  # fmt: skip
    paths = [path for path, _ in mailbox.messages]
    assert paths == ["/slack", "/repos/agroimpacts/issues/issues"]
    assert mailbox.messages[1][1]["title"] == "labeller3: ghana 1, run 91: iteration 1 began"
    assert instance.turn()["changed"] == "0"

    # The learner fails: told once, no second cluster; mended, it is started again by hand.
    mailbox.messages.clear()
    instance.map_everything()
    instance.learner.fails = True
    for _ in range(2):
        failed = instance.turn()
        assert failed["rc"] != 0
        assert "step Clone Learner failed" in failed["text"]
    assert len(instance.learner.seen) == 2
    assert [path for path, _ in mailbox.messages] == ["/slack", "/repos/agroimpacts/issues/issues"]
    assert "iteration 1 failed" in mailbox.messages[0][1]["text"]

    # Criterion 1 ends the loop; a message that cannot be sent fails nothing.
    mailbox.messages.clear()
    instance.learner.fails = False
    instance.labeller.sql(
        "UPDATE configuration SET value = '2' WHERE key = 'StoppingFunc_MaxIterations'"
    )
    ended = instance.turn(learner_retry=True, slack_url="http://127.0.0.1:1/slack")
    assert ended["rc"] == 0, ended["text"]
    assert instance.crontab.read_text() == "0 3 * * * tidy\n"
    assert [body["title"] for _, body in mailbox.messages] == [
        "labeller3: ghana 1, run 91: the loop ended"
    ]
    assert mailbox.messages[0][1]["body"] == "criterion 1: iteration 2 of at most 2"
    after = instance.turn()
    assert (after["rc"], after["changed"]) == (0, "0"), after["text"]
