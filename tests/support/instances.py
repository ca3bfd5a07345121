"""Instances of labeller on hosts of their own, with AWS on this machine, and the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from command_line import PROJECT, RUNBOOK
from host import LABELLER, Host
from host_image import Image, image
from waiting import until

from runbook.sandbox import checkout, cloud, emr, work
from runbook.sandbox.state import Home, State

#: Seconds in which a connection that is gone is noticed here, instead of half a minute.
IMPATIENT = {
    "ansible_ssh_extra_args": "-o ServerAliveInterval=1 -o ServerAliveCountMax=2",
}
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


@dataclass
class Cloud:
    """moto's server with the learner's clusters, on an address that hosts reach."""

    home: Home
    image: Image
    state: State

    @property
    def url(self) -> str:
        return self.state.endpoint_url

    def put(self, key: str, body: str) -> None:
        """Write an object of the bucket."""
        s3 = cloud.client("s3", self.url)
        s3.put_object(Bucket=self.state.bucket, Key=key, Body=body.encode())

    def keys(self, prefix: str) -> list[str]:
        """The names of the bucket's objects that begin so."""
        found = cloud.client("s3", self.url).list_objects_v2(
            Bucket=self.state.bucket, Prefix=prefix
        )
        return [each["Key"] for each in found.get("Contents", ())]

    def reset(self, *instances: str) -> None:
        """All as it was at first, with an EC2 instance of each of these names."""
        cloud.forget(self.url)
        network = cloud.make_network(self.url, *instances)
        cloud.make_bucket(self.url, self.state.bucket, self.image.objects())
        self.state = replace(
            self.state, subnet_id=network.subnet_id, security_group_id=network.security_group_id
        )
        self.state.save(self.home)
        # PostgreSQL is reached from its own host only, so not from a cluster.
        emr.ask_for_faults(self.home, ["db"] * 20)


@contextlib.contextmanager
def cloud_of(made: Image, address: str) -> Iterator[Cloud]:
    """AWS at an address of this machine."""
    home = Home(made.folder / "cloud")
    home.run.mkdir(parents=True)
    with (home.run / "aws.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "runbook.sandbox.aws",
             str(home.path), address],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home.path,
        )  # fmt: skip
    try:
        note = home.run / "aws.url"
        until(lambda: note.exists() or process.poll() is not None)
        state = replace(made.state, endpoint_url=note.read_text(), home=str(home.path))
        yield Cloud(home, made, state)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@dataclass(frozen=True)
class _Reached(State):
    """A sandbox's state whose database is somewhere else."""

    url: str = ""

    @property
    def database_url(self) -> str:
        return self.url


@dataclass
class Instance:
    """A host with labeller's database, checkout and crontab, and an inventory that names it."""

    host: Host
    cloud: Cloud
    home: Path
    """``RUNBOOK_HOME`` of the operator."""
    variables: dict[str, Any] = field(default_factory=dict)
    """Variables of the inventory besides the usual ones."""
    more: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Other hosts of the inventory, with all their variables."""

    @property
    def inventory(self) -> Path:
        """Written anew at each call of the command."""
        return self.home / "inventory.json"

    def parameters(self) -> dict[str, object]:
        """The inventory's variables of the host."""
        state = self.cloud.state
        return {
            **self.host.variables(),
            "aoi_name": "ghana", "aoi_index": 1, "incoming_names_static_path": checkout.STATIC_NAMES,
            "ec2_instance": self.host.name, "security_group_id": state.security_group_id,
            "bucket": state.bucket, "worker_count": 4, "num_possibilities": 2,
            "worker_type": "m4.2xlarge", "learner_cluster": {"key_name": "labeller"},
            "db_name": state.database, "db_user": state.db_user, "aws_endpoint_url": self.cloud.url,
            "learner_command": "true", "learner_poll": 0.5, "notifications": [],
            "github_api_url": "https://github.invalid", "labeller_home": str(LABELLER),
            "httpd_service": "httpd",
            **{name: state.secrets[name] for name in checkout.SECRETS},
            **self.variables,
        }  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """An operator's, without what this test process has of its own."""
        own = ("ANSIBLE_", "PYTEST_", "AWS_", "PG")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return {**kept, "RUNBOOK_HOME": str(self.home), "COLUMNS": "200"}

    def command(self, *arguments: str) -> list[str]:
        """``runbook ARGUMENTS -i INVENTORY``, and the inventory, which a saved plan names itself."""
        self.home.mkdir(exist_ok=True)
        hosts = {self.host.name: self.parameters(), **self.more}
        self.inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        saved = arguments[:1] == ("apply",) and arguments[-1].endswith(".plan")
        return [str(RUNBOOK), *arguments, *([] if saved else ["-i", str(self.inventory)])]

    def run(
        self, *arguments: str, exit_code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """``runbook ARGUMENTS``; fails the test when it ends with another exit code."""
        done = subprocess.run(
            self.command(*arguments), env={**self.environment, **environment}, text=True,
            cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        if done.returncode != exit_code:
            said = f"{done.stdout}\n{done.stderr}"
            pytest.fail(f"runbook {' '.join(arguments)}: exit {done.returncode}\n{said}")
        return done

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """``runbook ARGUMENTS``, running; its output has both streams."""
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, text=True, cwd=PROJECT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def struck(
        self,
        when: Callable[[], object],
        strike: Callable[[subprocess.Popen[str]], object],
        *arguments: str,
    ) -> tuple[int, str]:
        """Exit code and output of a command to which ``strike`` happens as soon as ``when()``."""
        run = self.started(*arguments)
        try:
            until(lambda: when() or run.poll() is not None, 300)
            strike(run)
            said, _ = run.communicate(timeout=300)
        finally:
            run.kill()
            run.wait()
        return run.returncode, said

    def interrupted(self, event: Callable[[], None], *arguments: str) -> str:
        """The output of ``apply regular.yml`` when ``event`` happens in the middle of its transaction."""
        session = psycopg2.connect(self.host.database_url)
        with session.cursor() as cursor:
            cursor.execute("LOCK TABLE user_maps IN SHARE MODE")
            code, said = self.struck(
                # By a session that is there: a new one is a process of the host.
                lambda: _answers(cursor, WAITING), lambda _: event(),
                "apply", "regular.yml", "--yes", *arguments,
            )  # fmt: skip
        with contextlib.suppress(psycopg2.Error):
            session.close()
        assert code == 4, said
        return said

    def expire_lease(self) -> None:
        """Let the time pass in which a holder that is not seen is taken to be alive."""
        self.host.query("UPDATE runbook.lease SET seen = seen - interval '1 minute'")

    def reset(self) -> None:
        """Host and AWS as they were at first."""
        self.host.reset()
        self.host.cron()
        self.cloud.reset(self.host.name)

    def map_sites(self) -> None:
        """Let mappers finish the open sites."""
        state = replace(self.cloud.state, labeller_home=f"{self.host.root}{LABELLER}")
        given = {each.name: getattr(state, each.name) for each in fields(state)}
        work.work(_Reached(**given, url=self.host.database_url))

    def apply(self, playbook: str, *arguments: str, **options: Any) -> str:
        """The output of ``runbook apply PLAYBOOK --yes``."""
        return self.run("apply", playbook, "--yes", *arguments, **options).stdout


def _answers(cursor: Any, sql: str) -> bool:
    """Whether a query gives a row."""
    cursor.execute(sql)
    return cursor.fetchone() is not None


@contextlib.contextmanager
def instances(folder: Path, number: int = 1, *, bare: bool = False) -> Iterator[list[Instance]]:
    """``number`` instances side by side, each with the daemons that its nanny started.

    Bare ones have no virtual environment, and no interpreter in the inventory.
    """
    with image(folder / "image") as made, contextlib.ExitStack() as stack:
        hosts = [
            stack.enter_context(made.started(folder / f"host{n}", bare=bare)) for n in range(number)
        ]
        aws = stack.enter_context(cloud_of(made, hosts[0].controller))
        aws.reset(*(host.name for host in hosts))
        yield [Instance(host, aws, folder / f"home{host.number}") for host in hosts]
