"""The web server's restart, with a real service of this machine: an init script and `service`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from runbook import collection

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
NAME = f"runbook-test-httpd-{os.getpid()}"

#: A server as init starts it: each start is a line in its log.
SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides: {name}
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
# Short-Description: web server of a test
### END INIT INFO
start() {{ setsid sleep 300 >/dev/null 2>&1 & echo $! >{folder}/pid; echo started >>{folder}/log; }}
stop() {{ test -e {folder}/pid && kill "$(cat {folder}/pid)"; rm -f {folder}/pid; }}
case "$1" in
start) start ;;
stop) stop ;;
restart) stop; start ;;
status) test -e {folder}/pid && kill -0 "$(cat {folder}/pid)" ;;
*) exit 2 ;;
esac
"""

#: What configure.yml gives the handler, and nothing else of a run.
PLAY = """
- name: Configure
  hosts: all
  gather_facts: false
  vars:
    labeller_home: {home}
  tasks:
    - name: Write and upload the configuration
      ansible.builtin.set_fact:
        configuration: {{changed: true, web_changed: "{{{{ changed_web | bool }}}}"}}
      changed_when: true
      notify: Restart httpd
  handlers:
    - name: Handlers
      ansible.builtin.import_tasks: {handlers}
"""


class Service:
    """A started service and its labeller folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "common").mkdir()
        self.due = folder / "common" / "httpd-restart"
        self.due.write_text("due\n")
        self.script = Path("/etc/init.d") / NAME
        self.script.write_text(SCRIPT.format(name=NAME, folder=folder))
        self.script.chmod(0o755)
        subprocess.run(["service", NAME, "start"], check=True)

    @property
    def starts(self) -> int:
        return len((self.folder / "log").read_text().splitlines())

    def play(self, playbook: Path, *options: str, **variables: object) -> tuple[int, str]:
        """A playbook of stock ansible-playbook against this machine."""
        values = {
            "ansible_python_interpreter": sys.executable, "httpd_service": NAME,
            "labeller_home": str(self.folder), **variables,
        }  # fmt: skip
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", playbook, "-i", "localhost,",
             "-c", "local", "-e", yaml.safe_dump(values, default_flow_style=True, width=10**6),
             *options],
            capture_output=True, text=True, cwd=self.folder,
            env={**os.environ,
                 "ANSIBLE_COLLECTIONS_PATH": str(collection.link(self.folder / "collections"))},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    missing = [program for program in ("service", "sudo") if not shutil.which(program)]
    if os.geteuid() != 0 or missing or not Path("/etc/init.d").is_dir():
        pytest.skip("a service of a test needs root, /etc/init.d, service and sudo")
    made = Service(tmp_path)
    try:
        yield made
    finally:
        subprocess.run(["service", NAME, "stop"], check=False)
        made.script.unlink()


@pytest.mark.campaign
def test_the_handler_restarts_the_service_and_records_it(service: Service, tmp_path: Path) -> None:
    playbook = tmp_path / "configure.yml"
    handlers = PROJECT / "playbooks" / "tasks" / "handlers.yml"
    playbook.write_text(PLAY.format(home=tmp_path, handlers=handlers))
    first = (tmp_path / "pid").read_text()
    code, output = service.play(playbook, "--check", changed_web=True)
    assert code == 0, output
    assert "changed=2 " in output
    assert service.due.exists()
    assert service.starts == 1
    code, output = service.play(playbook, changed_web=True)
    assert code == 0, output
    assert "changed=2 " in output, "as the check said"
    assert service.starts == 2
    assert (tmp_path / "pid").read_text() != first
    assert not service.due.exists()
    code, output = service.play(playbook, changed_web=False)
    assert code == 0, output
    assert service.starts == 2


@pytest.mark.campaign
def test_a_restart_on_demand(service: Service) -> None:
    playbook = PROJECT / "playbooks" / "restart_httpd.yml"
    code, output = service.play(playbook)
    assert code == 0, output
    assert service.starts == 2
    assert not service.due.exists()
    code, output = service.play(playbook, httpd_service="")
    assert code == 2
    assert "httpd_service is empty" in output
    assert service.starts == 2
