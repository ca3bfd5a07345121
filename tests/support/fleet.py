"""A fleet: hosts on this machine, each with a database, a checkout and a crontab of its own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import yaml
from command_line import Sandbox
from sandbox_support import squares

from runbook.sandbox import checkout, lifecycle
from runbook.sandbox.state import Home, State

if TYPE_CHECKING:
    import subprocess

#: The corners of sixteen areas of 900 cells.
CORNERS = [(328 + 4 * (number % 4), 553 + 4 * (number // 4)) for number in range(16)]


@dataclass(frozen=True)
class Fleet:
    """The hosts ``area01``, ... in the sandbox ``box``: its servers, a database for each."""

    box: Sandbox
    hosts: tuple[str, ...]
    #: The area of the first host.
    first: int = 1

    @classmethod
    def of(cls, box: Sandbox, folder: Path, size: int) -> Fleet:
        """Make the sandbox with an area for each host, and the hosts; the inventory is theirs."""
        box.run("sandbox", "up", "--aois", str(squares(folder / "areas.geojson", *CORNERS[:size])))
        fleet = cls(box, tuple(f"area{number:02}" for number in range(1, size + 1)))
        fleet.renew()
        return fleet

    @property
    def state(self) -> State:
        """The sandbox's state."""
        state = State.load(Home(self.box.home / "sandbox"))
        assert state is not None
        return state

    @property
    def inventory(self) -> Path:
        """The folder that ``-i`` names."""
        return self.box.home / "ghana"

    def home(self, host: str) -> Path:
        """The folder of a host: ``labeller``, ``crontab``, ``journal``."""
        return self.box.home / "hosts" / host

    def renew(self) -> None:
        """Make databases, checkouts, crontabs and inventory as at first; the bucket stays."""
        sandbox = Path(self.state.labeller_home)
        for host in self.hosts:
            lifecycle._execute(
                lifecycle._server(Home(self.box.home / "sandbox"), self.state),
                f'DROP DATABASE IF EXISTS "{host}" WITH (FORCE)',
                f'CREATE DATABASE "{host}" TEMPLATE "{lifecycle.TEMPLATE}" '
                f'OWNER "{lifecycle.ROLE}" STRATEGY file_copy',
            )
            shutil.rmtree(self.home(host), ignore_errors=True)
            ignored = shutil.ignore_patterns("*.pid")
            shutil.copytree(sandbox, self.home(host) / "labeller", ignore=ignored)
            text = checkout.old_crontab(self.home(host) / "labeller")
            (self.home(host) / "crontab").write_text(text)
        self.write()

    def write(self, **more: dict[str, Any]) -> None:
        """Write the inventory, with ``more`` variables of a host."""
        state, half = self.state, (len(self.hosts) + 1) // 2
        each = {
            host: {
                "aoi_index": number,
                "db_name": host,
                "labeller_home": str(self.home(host) / "labeller"),
                "crontab_file": str(self.home(host) / "crontab"),
                "journal_folder": str(self.home(host) / "journal"),
                **more.get(host, {}),
            }
            for number, host in enumerate(self.hosts, self.first)
        }
        groups = {"pilot": self.hosts[:half], "others": self.hosts[half:]}
        children = {
            name: {"hosts": {host: each[host] for host in hosts}} for name, hosts in groups.items()
        }
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "aoi_name": "ghana",
            "run_id": 1,
            "incoming_names_static_path": checkout.STATIC_NAMES,
            "ec2_instance": state.ec2_instance,
            "security_group_id": state.security_group_id,
            "bucket": state.bucket,
            "worker_count": 4,
            "num_possibilities": 2,
            "worker_type": "m4.2xlarge",
            "learner_cluster": {"key_name": "labeller"},
            "db_host": "127.0.0.1",
            "db_port": state.db_port,
            "db_user": state.db_user,
            "aws_endpoint_url": state.endpoint_url,
            "learner_command": "true",
            "learner_poll": 0.5,
            "notifications": [],
            "github_api_url": "https://github.invalid",
            "httpd_service": "",
            **{name: state.secrets[name] for name in checkout.SECRETS},
        }
        self.inventory.mkdir(exist_ok=True)
        (self.inventory / "hosts.yml").write_text(
            yaml.safe_dump({"all": {"children": children, "vars": variables}})
        )

    def run(
        self, command: str, *arguments: str, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """``runbook COMMAND -i FLEET ARGUMENTS``; COMMAND may be several words."""
        return self.box.run(*command.split(), "-i", str(self.inventory), *arguments, **options)

    def query(self, host: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query of a host's database."""
        url = self.state.database_url.rpartition("/")[0] + f"/{host}"
        session = psycopg2.connect(url)
        try:
            with session, session.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            session.close()
