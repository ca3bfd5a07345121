"""Helpers of the tests of iterate.yml: a target at moto's AWS, a learner that does as told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transaction_support
from ansible_collections.labeller.runbook.plugins.module_utils import (
    config_content,
    crontab,
    names,
)
from ansible_collections.labeller.runbook.plugins.module_utils.learner import emr, job_flow
from clients import client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labeller_support import Labeller

PROJECT = Path(__file__).resolve().parents[2]
RUN = 91
KEYS = names.names("", "ghana", 1, "", "", "labeller3", RUN)

#: The engine's ansible process, without what ``runbook apply`` does before and after.
ENGINE = """
import sys
from pathlib import Path
from runbook.execute import runner
from runbook.events.redaction import Redactor

def show(event):
    if getattr(event, "message", ""):
        print(event.message)

request = runner.Request(
    Path(sys.argv[1]), "labeller3,", extra_vars=("@" + sys.argv[2],), local=True,
    check=sys.argv[3:] == ["--check"],
)
with runner.started(request, Redactor()) as ansible:
    done = ansible.run(show)
print(done.message)
for result in done.results:
    print(result.status.value, result.task)
for task in done.unchecked:
    print("unchecked", task)
sys.exit(done.exit_code)
"""


@dataclass
class Mailbox:
    """Stands in for Slack and GitHub."""

    url: str
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@contextmanager
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
    try:
        yield box
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def moto() -> Iterator[str]:
    """moto's server in this very process, so that tests can move its clusters on: its URL."""
    # Read when moto is imported: the list of Amazon's images is long, and no test wants it.
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def clusters() -> dict[str, Any]:
    """moto's own objects."""
    from moto.emr.models import emr_backends

    made: dict[str, Any] = emr_backends["123456789012"]["us-east-1"].clusters
    return made


class Learner(threading.Thread):
    """Carries out the steps of each new cluster in moto: fails, or leaves metrics and names."""

    def __init__(self, labeller: Labeller) -> None:
        super().__init__(daemon=True)
        self.labeller = labeller
        self.fails = False
        self.may_work = threading.Event()
        self.may_work.set()
        self.over = threading.Event()
        self.seen: list[str] = []

    def run(self) -> None:
        while not self.over.wait(0.02):
            for number, cluster in list(clusters().items()):
                if number not in self.seen and cluster._tags.get("runbook:iteration"):
                    self.seen.append(number)
                    self.may_work.wait()
                    self.work(cluster)

    def stop(self) -> None:
        self.over.set()
        self.may_work.set()
        self.join()

    def work(self, cluster: Any) -> None:
        iteration = int(cluster._tags["runbook:iteration"])
        exported = self.labeller.get(KEYS["incoming_names"])
        assert f",{RUN},{iteration - 1},True," in exported
        state = "COMPLETED"
        if self.fails:
            state = "FAILED"
        else:
            self.labeller.put(
                KEYS["metrics"],
                "run,iteration,tss,accuracy,precision,recall,fpr,tpr,AUC,aoi,iteration_time\n"
                f"{RUN},{iteration},0.5,0.7,0.8,0.7,0.1,0.7,0.9,1,2026-01-02\n",
            )
            rows = self.labeller.sql(
                "SELECT name FROM master_grid WHERE avail = 'F' AND name NOT IN (SELECT name FROM"
                " kml_data) ORDER BY name LIMIT 10"
            )
            lines = "".join(f"{name},{RUN},{iteration},False,train\n" for (name,) in rows)
            self.labeller.put(KEYS["outgoing"], "name,run,iteration,processed,usage\n" + lines)
        for step in cluster.steps:
            step.state = state


@dataclass
class Instance:
    """A target for ansible-playbook, with its run in place."""

    labeller: Labeller
    learner: Learner
    folder: Path
    variables: dict[str, Any]

    @property
    def crontab(self) -> Path:
        return self.folder / "crontab"

    @property
    def home(self) -> Path:
        return self.folder / "labeller"

    def stock_turn(self, *options: str, **changes: Any) -> dict[str, Any]:
        """Run iterate.yml by ansible-playbook; gives rc, the recap's counts and the output."""
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"), _playbook(),
                "-i", "labeller3,", "-e", f"@{self._values(changes)}", *options,
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

    def begin(self, *options: str, **changes: Any) -> subprocess.Popen[str]:
        """Start a turn as the engine does, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", ENGINE, _playbook(), self._values(changes), *options],
            env={**os.environ, "RUNBOOK_HOME": str(self.folder / "runbook")},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.folder, start_new_session=True,
        )  # fmt: skip

    def turn(self, *options: str, **changes: Any) -> tuple[int, str]:
        """A whole turn by the engine: its exit code and what it said."""
        run = self.begin(*options, **changes)
        output, _ = run.communicate(timeout=120)
        return run.returncode, output

    def _values(self, changes: dict[str, Any]) -> Path:
        values = self.folder / "values.json"
        values.write_text(json.dumps({**self.variables, **changes}))
        return values

    def claim(self) -> str:
        """Key of the first claim at the learner of iteration 1."""
        ((applied,),) = self.labeller.sql("SELECT applied_at FROM runbook.run_marker")
        place = "".join(c for c in applied.astimezone(UTC).isoformat() if c.isalnum())
        return f"learner/labeller3/ghana_1/run_{RUN}_{place}/iteration_1/attempt_1.json"

    def map_everything(self) -> None:
        map_everything(self.labeller)


def _playbook() -> str:
    return str(PROJECT / "playbooks" / "iterate.yml")


def map_everything(labeller: Labeller) -> None:
    """Every site processed, labelled, and mapped as often as needed."""
    labeller.sql("UPDATE incoming_names SET processed = true, label = true")
    transaction_support.label(labeller, RUN)


def apply_regular(labeller: Labeller) -> None:
    """The transaction of regular.yml, with the names of objects that iterate.yml derives."""
    marker, clear, grid, _, _, sites = transaction_support.regular(RUN)
    scenes = transaction_support.scene_catalog(image_catalog=KEYS["image_catalog"])
    pool = transaction_support.f_pool(
        run_id=RUN, **{key: KEYS[key] for key in ("pool", "qs", "training_names")}
    )
    transaction_support.apply(labeller, marker, clear, grid, scenes, pool, sites)


def target(labeller: Labeller, folder: Path, mail: str) -> Instance:
    """The instance labeller3 below ``folder``: crontab, parameters, the learner's kept request.

    EMR has no cluster then.
    """
    clusters().clear()
    home = folder / "labeller"
    (home / "common").mkdir(parents=True)
    tab = crontab.edit(
        "0 3 * * * tidy\n", crontab.block(crontab.PROFILES["no_n"], str(home)), str(home)
    )
    (folder / "crontab").write_text(tab)
    login, aws = labeller.login, labeller.aws
    variables = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
        "run_id": RUN, "aoi_name": "ghana", "aoi_index": 1, "bucket": labeller.bucket,
        "incoming_names_static_path": "static.csv",
        "worker_count": 2, "ec2_instance": "labeller3", "security_group_id": "sg-1",
        "labeller_home": str(home), "crontab_file": str(folder / "crontab"),
        "aws_endpoint_url": aws["endpoint_url"],
        "aws_access": "iterate-key", "aws_secret": "iterate-secret", "learner_poll": 0.1,
        "db_host": login["login_host"], "db_port": login["login_port"],
        "db_name": login["login_db"], "db_user": login["login_user"],
        "db_pwd": login["login_password"], "secret_key": "s-e-c-r-e-t",
        "github_token": "ghp_token", "github_api_url": mail, "slack_url": f"{mail}/slack",
    }  # fmt: skip
    spec = job_flow.PARAMETERS
    params = {
        "target": "labeller3",
        "parameters": {
            **{name: option.get("default") for name, option in spec.items()},
            **{name: value for name, value in variables.items() if name in spec},
        },
    }
    options = config_content.PARAMETERS
    written = {
        **{name: option.get("default") for name, option in options.items()},
        **{name: value for name, value in variables.items() if name in options},
        "initial": 0, "incoming_names_static_path": KEYS["training_names"].partition("/")[2],
    }  # fmt: skip
    config = config_content.merged(config_content.values(written, "10.0.0.7"), None, None)
    (home / "common" / "config.yaml").write_bytes(config_content.render(config))
    labeller.put(KEYS["config"], config_content.render(config))
    cluster = {name: option.get("default") for name, option in job_flow.CLUSTER_OPTIONS.items()}
    request = job_flow.request(
        "labeller3", params["parameters"], {**cluster, "key_name": ""}, _subnet(aws)
    )
    for group in ("EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup"):
        request["Instances"].pop(group)
    emr.kept_request(labeller.s3, params).write(json.dumps(request))
    return Instance(labeller, Learner(labeller), folder, variables)


def _subnet(aws: dict[str, Any]) -> str:
    ec2 = client(aws, "ec2")
    return str(ec2.describe_subnets()["Subnets"][0]["SubnetId"])
