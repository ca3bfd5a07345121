"""iterate.yml killed between any two transitions and called again: as if nothing had happened."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import iterate_support as support
import pytest
import transaction_support
from iterate_support import Instance
from labeller_support import Labeller, Template, client, copied, copy
from relay import relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runbook.sandbox.postgres import PostgresServer

_numbers = itertools.count()

#: With an argument it ends at the second SIGTERM: there is time to kill who sent the first.
DAEMON = """
import signal
import sys

def asked(*_):
    print("asked", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

if sys.argv[1:]:
    signal.signal(signal.SIGTERM, asked)
print("up", flush=True)
while True:
    signal.pause()
"""


@dataclass(frozen=True)
class Cut:
    """Where a turn is killed: what it then sends to ``server`` for the ``nth`` time.

    That is not carried out or, if ``answered``, is, but its answer is lost. ``claimed``: a caller
    that died there holds the claim at the iteration until it is old.
    """

    name: str
    server: str
    pattern: bytes = b""
    nth: int = 1
    answered: bool = False
    claimed: bool = False


#: Every request by which a turn changes something, and the reading between them, in their order.
LEARNING = (
    Cut("before anything is read", "database", rb"BEGIN\0"),
    Cut("read, not exported", "aws", rb"HEAD /[^ ]+/incoming_names_"),
    Cut("names read, no upload begun", "aws", rb"POST /[^ ]+/incoming_names_[^ ]+\?uploads"),
    Cut("upload begun, no part sent", "aws", rb"PUT /[^ ]+/incoming_names_[^ ]+partNumber=1"),
    Cut("part sent, not committed", "database", rb"COPY \(.+?COMMIT\0"),
    Cut("committed, upload not completed", "aws", rb"POST /[^ ]+/incoming_names_[^ ]+\?uploadId"),
    Cut("exported, no claim", "aws", rb"PUT /[^ ]+/iteration_1/attempt_1"),
    Cut("claimed, no cluster", "aws", rb"ElasticMapReduce\.RunJobFlow", claimed=True),
    Cut("cluster started, no answer", "aws", rb"ElasticMapReduce\.RunJobFlow", answered=True),
    Cut("cluster found, not noted", "aws", rb"PUT /[^ ]+/iteration_1/attempt_2"),
    Cut("cluster running", "aws", rb"ElasticMapReduce\.ListSteps", nth=4),
)
TAKING_IN = (Cut("finished, metrics not read", "aws", rb"GET /[^ ]+/incoming_metrics_"),)
GOING_ON = (
    Cut("metrics read, names not", "aws", rb"GET /[^ ]+/outgoing_names_"),
    Cut("sites registered, not committed", "database", rb"UPDATE system_data.+?COMMIT\0"),
    Cut("committed, no answer", "database", rb"UPDATE system_data.+?COMMIT\0", answered=True),
)
STOPPING = (
    Cut("open names deleted, not committed", "database", rb"UPDATE system_data.+?COMMIT\0"),
    Cut("committed, no answer", "database", rb"UPDATE system_data.+?COMMIT\0", answered=True),
    Cut("a daemon is asked to end", "daemon"),
    Cut("daemons stopped, crontab up", "crontab"),
    Cut("out of service, not reported", "mail", rb"POST /slack"),
)

#: How a turn that starts the learner may end: what leads there, and how it is killed on its way.
ENDS = {
    "goes on": (
        "UPDATE configuration SET value = '30' WHERE key = 'StoppingFunc_MaxIterations'",
        (*LEARNING, *TAKING_IN, *GOING_ON),
    ),
    "stops": (
        "UPDATE configuration SET value = '1' WHERE key = 'StoppingFunc_MaxIterations'",
        (*TAKING_IN, *STOPPING),
    ),
    "initial": (
        "UPDATE runbook.run_marker SET mode = 'initial'",
        (Cut("list not completed", "aws", rb"POST /[^ ]+/static.csv\?uploadId"), *STOPPING[2:]),
    ),
    "single": ("UPDATE runbook.run_marker SET mode = 'single'", (STOPPING[2], STOPPING[-1])),
}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with support.moto() as url:
        yield url


@pytest.fixture(scope="module")
def complete(postgres_server: PostgresServer, labeller_template: Template, moto: str) -> Template:
    """A run whose first sites are all mapped."""
    made = copy(postgres_server, labeller_template, *_bucket(moto))
    support.apply_regular(made)
    support.map_everything(made)
    return made.template()


def _bucket(moto: str) -> tuple[dict[str, Any], str]:
    """A new bucket: the modules' options for its server, and its name."""
    aws = {"access_key": "a", "secret_key": "b", "region": "us-east-1", "endpoint_url": moto}
    name = f"killed-{next(_numbers)}"
    client(aws).create_bucket(Bucket=name)
    return aws, name


@dataclass
class Host:
    """An instance, its daemon, and all that the two reach."""

    instance: Instance
    daemon: subprocess.Popen[str]

    @property
    def labeller(self) -> Labeller:
        return self.instance.labeller

    def state(self) -> dict[str, Any]:
        """The state after a turn, without what a repeated one may use up: keys, claims."""
        found = transaction_support.state(self.labeller)
        for name in ("public.kml_data", "public.kml_data_gid_seq", "runbook.lease"):
            found.pop(name)
        objects = found.pop("objects")
        return {
            **found,
            "kml_data": self.labeller.sql(
                "SELECT name, kml_type, mapped_count, mappers_needed FROM kml_data ORDER BY 1"
            ),
            # The configuration names the bucket, which is each host's own.
            "objects": {
                k: v for k, v in objects.items() if not k.startswith(("learner/", "config_"))
            },
            "unfinished uploads": transaction_support.uploads(self.labeller),
            "clusters": len(support.clusters()),
            "crontab": self.instance.crontab.read_text().replace(str(self.instance.folder), ""),
            "daemon runs": self.daemon.poll() is None,
        }


@contextlib.contextmanager
def host(
    server: PostgresServer, template: Template, moto: str, folder: Path, *daemon_options: str
) -> Iterator[Host]:
    """labeller3 with a run whose sites are all mapped."""
    with support.mailbox() as box, copied(server, template, *_bucket(moto)) as labeller:
        instance = support.target(labeller, folder, box.url)
        script = instance.home / "common" / "create_hit_daemon.py"
        script.write_text(DAEMON)
        with subprocess.Popen(
            [sys.executable, script, *daemon_options], stdout=subprocess.PIPE, text=True
        ) as daemon:
            assert daemon.stdout
            assert daemon.stdout.readline() == "up\n"
            # Whoever waits for a daemon's end must see that it is gone, not a zombie.
            threading.Thread(target=daemon.wait, daemon=True).start()
            instance.learner.start()
            try:
                yield Host(instance, daemon)
            finally:
                instance.learner.stop()
                daemon.kill()


@pytest.mark.campaign
@pytest.mark.parametrize("end", ENDS)
def test_killed_between_any_two_transitions(
    end: str,
    postgres_server: PostgresServer,
    complete: Template,
    moto: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path.parent / "tmp"  # a short name, as ansible-core 2.22 needs for its sockets
    temporary.mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(temporary))  # for what modules leave that are killed
    leads_there, cuts = ENDS[end]
    with host(postgres_server, complete, moto, tmp_path / "undisturbed") as one:
        one.labeller.sql(leads_there)
        code, output = one.instance.turn()
        assert code == 0, output
        expected = one.state()
        listed = one.labeller.get("planet/static.csv")
    assert expected["clusters"] == (end in ("goes on", "stops"))
    assert (f",{support.RUN},0,True,validate,True" in listed) == (end == "initial")
    assert expected["unfinished uploads"] == []
    assert expected["daemon runs"] == (end == "goes on")

    with host(postgres_server, complete, moto, tmp_path / "killed", "slow") as other:
        other.labeller.sql(leads_there)
        other.instance.learner.may_work.clear()
        for cut in cuts:
            kill_at(other, cut)
            assert len(support.clusters()) <= 1, cut.name
            if cut is not STOPPING[-1]:
                assert "daemonNanny" in other.instance.crontab.read_text(), "cron calls again"
        for _ in range(2):
            code, output = other.instance.turn()
            assert code == 0, output
            assert other.state() == expected


def kill_at(host: Host, cut: Cut) -> None:
    """Begin a turn, kill all of it at ``cut``, and let the world go on."""
    if cut not in LEARNING:
        host.instance.learner.may_work.set()
    with contextlib.ExitStack() as stack:
        changes, reached = _gate(host, cut, stack)
        run = host.instance.begin(**changes)
        try:
            came = reached.wait(60)
        finally:
            kill(run.pid)
            output, _ = run.communicate()
        assert came, f"{cut.name} was not reached:\n{output}"
    if cut.claimed:
        code, output = host.instance.turn()
        assert code == 6, output
        assert "if that caller died, the next one takes over" in output
        _age_claims(host.labeller.bucket)


def _gate(
    host: Host, cut: Cut, stack: contextlib.ExitStack
) -> tuple[dict[str, Any], threading.Event]:
    """The parameters with which a turn comes by the cut, and what tells that it is there."""
    variables = host.instance.variables
    if cut.server in ("crontab", "daemon"):
        return {}, stack.enter_context(_on_the_host(host, cut.server))
    address = {
        "aws": variables["aws_endpoint_url"],
        "database": "//127.0.0.1:{}".format(variables["db_port"]),
        "mail": variables["github_api_url"],
    }[cut.server]
    to = urlsplit(address)
    gate = stack.enter_context(
        relay(str(to.hostname), int(to.port or 0), cut.pattern, cut.nth, answered=cut.answered)
    )
    here = f"http://127.0.0.1:{gate.port}"
    changes = {
        "aws": {"aws_endpoint_url": here},
        "database": {"db_port": gate.port},
        "mail": {"github_api_url": here, "slack_url": f"{here}/slack"},
    }[cut.server]
    return changes, gate.reached


@contextlib.contextmanager
def _on_the_host(host: Host, what: str) -> Iterator[threading.Event]:
    """Until the daemon is asked to end; or until the crontab is read, which comes to no end."""
    reached, tab = threading.Event(), host.instance.crontab
    kept = tab.read_text()

    def wait() -> None:
        if what == "daemon":
            assert host.daemon.stdout
            assert host.daemon.stdout.readline() == "asked\n"
            reached.set()
            return
        with tab.open("w"):
            reached.set()
            over.wait()

    over = threading.Event()
    if what == "crontab":
        tab.unlink()
        os.mkfifo(tab)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    try:
        yield reached
    finally:
        over.set()
        if what == "crontab":
            tab.unlink()
            tab.write_text(kept)


def kill(pid: int) -> None:
    """Kill a process and all that it started as a power cut does: none outlives another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in _family(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)


def _family(pid: int) -> list[int]:
    """A process and all that it started, the oldest first."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _age_claims(bucket: str) -> None:
    """As if an hour had passed."""
    from moto.s3.models import s3_backends

    keys = s3_backends["123456789012"]["aws"].buckets[bucket].keys
    for name, claim in keys.items():
        if "/attempt_" in name:
            claim.last_modified -= timedelta(hours=1)
