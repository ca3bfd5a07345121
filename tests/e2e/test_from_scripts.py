"""docs/from-scripts.md as printed: every command of its table, in order, on two instances.

labeller0 has the better tables, labeller3 takes them and then goes through the page. Both are
folders of inventories below the working directory, as the document says; the sandbox has their
services, labeller0's database is a copy.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pexpect
import psycopg2
import pytest
import yaml
from command_line import PROJECT, RUNBOOK, Sandbox

pytestmark = pytest.mark.campaign

PAGE = (PROJECT / "docs" / "from-scripts.md").read_text()
BETTER = """
    UPDATE qaqcfields SET category = 'better' WHERE gid % 2 = 0;
    UPDATE kml_data_static SET hint = 'better';
    DELETE FROM scenes_data WHERE season = 'OS';
"""
TABLES = ("kml_data_static", "qaqcfields", "scenes_data")


def table_commands() -> list[str]:
    """The commands in the table's right column, row by row."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    return [
        command
        for row in rows
        for command in re.findall(r"`(runbook [^`]+)`", row.rsplit(" | ", 1)[1])
    ]


def typed(command: str, folder: Path, environment: dict[str, str]) -> tuple[str, int | None]:
    """Run a command at a terminal; what it asks for is typed: the target's name, or y."""
    child = pexpect.spawn(
        "bash", ["-euo", "pipefail", "-c", command], env=environment, cwd=str(folder),
        encoding="utf-8", timeout=300, dimensions=(50, 200),
    )  # fmt: skip
    shown = ""
    while (asked := child.expect([r"name \((\w+)\) to go on: ?", r"\(y/N\): ?", pexpect.EOF])) < 2:
        shown += child.before + child.after
        child.sendline(child.match[1] if asked == 0 else "y")
    shown += child.before
    child.close()
    return shown, child.exitstatus


@pytest.fixture
def copy(sandbox: Sandbox) -> Iterator[str]:
    """The name of a database like the sandbox's, with what labeller0 has better."""
    state = json.loads((sandbox.home / "sandbox" / "state.json").read_text())
    owner = {"host": "127.0.0.1", "port": state["db_port"], "user": state["db_user"]}
    admin = psycopg2.connect(
        **{**owner, "user": "postgres"}, password=state["postgres_password"], dbname="postgres"
    )
    admin.autocommit = True
    name = "labeller0"
    with admin.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{state["database"]}"')
    with (
        psycopg2.connect(**owner, password=state["db_pwd"], dbname=name) as session,
        session.cursor() as cursor,
    ):
        cursor.execute(BETTER)
    session.close()
    yield name
    with admin.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.close()


@dataclass(frozen=True)
class Instances:
    """A working directory with inventories, and what labeller3's machine has."""

    folder: Path
    crontab: Callable[[], str]
    configuration: Callable[[], str]


@pytest.fixture
def instances(sandbox: Sandbox, copy: str, tmp_path: Path) -> Instances:
    """labeller0 and labeller3 on this machine; hosts behind sshd have test_real_host."""
    local = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    for name, variables in {"labeller0": {**local, "db_name": copy}, "labeller3": local}.items():
        folder = tmp_path / "inventories" / name
        shutil.copytree(PROJECT / "inventories/sandbox/group_vars", folder / "group_vars")
        (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {name: variables}}}))
    status = sandbox.status()
    configuration = Path(status["labeller_home"], "common/config.yaml")
    return Instances(tmp_path, Path(status["crontab"]).read_text, configuration.read_text)


def test_the_table_works_as_printed(sandbox: Sandbox, instances: Instances, copy: str) -> None:
    commands = table_commands()
    assert len(commands) >= 12
    environment = {
        **sandbox.environment, "PATH": f"{RUNBOOK.parent}:{sandbox.environment['PATH']}"
    }  # fmt: skip
    contents = [f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4" for table in TABLES]
    before = [sandbox.query(query) for query in contents]
    with (
        psycopg2.connect(
            sandbox.status()["database_url"].rpartition("/")[0] + "/" + copy
        ) as session,
        session.cursor() as cursor,
    ):
        better = []
        for query in contents:
            cursor.execute(query)
            better.append(cursor.fetchall())
    session.close()
    assert all(old != new for old, new in zip(before, better, strict=True))
    for command in commands:
        shown, code = typed(command, instances.folder, environment)
        assert code == 0, f"{command}\n{shown}"
        if "restore.yml" in shlex.split(command):
            assert [sandbox.query(query) for query in contents] == better
        elif "shutdown.yml" in shlex.split(command):
            assert "daemonNanny" not in instances.crontab()
        elif re.search(r"apply (initial|single|regular|reset)\.yml", command):
            assert sandbox.query("SELECT count(*) > 0 FROM scenes_data WHERE season = 'OS'") == [
                (True,)
            ]
            assert "daemonNanny" in instances.crontab()
            # A run with open sites is not replaced: on the page the mappers finish it first.
            sandbox.run("sandbox", "work")
    marker = "SELECT mode, run_id FROM runbook.run_marker ORDER BY applied_at DESC LIMIT 1"
    assert sandbox.query(marker) == [("regular", 1)]
    kept = sandbox.query("SELECT * FROM qaqcfields ORDER BY 1, 2, 3, 4")
    assert kept == better[1]
    configuration = instances.configuration()
    learner = yaml.safe_load(configuration)["learner"]
    assert learner["runid"] == 1
    assert configuration == sandbox.text(f"config_ghana_{learner['aoiid']}.yaml")
