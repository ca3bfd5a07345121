"""The EC2 instance that the loop's call runs on, distinguished from a copy of its image."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import crontab, machine
from ansible_collections.labeller.runbook.plugins.module_utils.errors import Refused
from ansible_collections.labeller.runbook.plugins.module_utils.steps import iteration

ONE, OTHER = "i-0af01c0123456789a", "i-0123abcd"


class Metadata(BaseHTTPRequestHandler):
    """The instance metadata service, version 2: an id only for those who have a session."""

    def do_PUT(self) -> None:
        lasts = (
            self.path == "/latest/api/token"
            and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        )
        self._answer(200 if lasts else 400, "a session")

    def do_GET(self) -> None:
        known = self.headers["X-aws-ec2-metadata-token"] == "a session"
        there = self.path == "/latest/meta-data/instance-id"
        self._answer(200 if known and there else 401, OTHER if known and there else "no session")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the kernel, empty at first; no metadata service answers."""
    for name in ("TAG", "HYPERVISOR"):
        monkeypatch.setattr(machine, name, str(tmp_path / name))
    monkeypatch.setattr(machine, "METADATA", "127.0.0.1:1")
    return tmp_path


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), Metadata)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    monkeypatch.setattr(machine, "METADATA", f"127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    serving.join()
    server.server_close()


def test_the_kernel_knows_an_instance_of_today(host: Path) -> None:
    assert machine.instance() == ""
    (host / "TAG").write_text(f"{ONE}\n")
    assert machine.instance() == ONE


@pytest.mark.usefixtures("metadata")
def test_an_older_instance_is_asked_for_and_no_other_machine(host: Path) -> None:
    (host / "TAG").write_text("Type2 - Board Asset Tag\n")
    assert machine.instance() == ""
    (host / "HYPERVISOR").write_text("EC2e1916-9099-7caf-fd21-012345abcdef\n")
    assert machine.instance() == OTHER


def test_an_instance_whose_service_does_not_answer_is_not_known(host: Path) -> None:
    (host / "HYPERVISOR").write_text("ec2e1916-9099-7caf-fd21-012345abcdef\n")
    assert machine.instance() == ""
    machine.require(ONE)


def test_the_line_names_the_instance_and_a_copy_of_it_is_refused(host: Path) -> None:
    """Before anything else: no database is there to be asked."""
    (host / "TAG").write_text(ONE)
    home = host / "labeller"
    (home / "common").mkdir(parents=True)
    runbook = {
        **{name: spec.get("default") for name, spec in crontab.ARGUMENTS.items()},
        "state": "present", "home": str(home), "crontab_file": str(host / "crontab"),
        "profile": "no_n_notifier", "learner": True, "learner_inventory": "/inventory",
        "learner_run": {"run_id": 3},
    }  # fmt: skip
    state = crontab.State(
        crontab.tab_of(runbook), str(home), "", str(host), [], [], machine.instance()
    )
    (change, *_) = crontab.plan(state, runbook).changes
    assert f"apply iterate.yml -e 'learner_instance={ONE} run_id=3' -i /inventory" in change.after

    (host / "TAG").write_text(OTHER)
    params = {name: spec.get("default") for name, spec in iteration.Iteration.ARGUMENTS.items()}
    for check in (True, False):
        with pytest.raises(Refused, match=f"instance {OTHER}, .* installed on {ONE}: .* apply the"):
            iteration.logic({**params, "state": "read", "instance": ONE}, check)
