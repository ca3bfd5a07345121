"""Callbacks of others: enabled by name, they get what runbook itself would show, and no secret."""

from __future__ import annotations

import http.server
import os
import shutil
import sqlite3
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import packages
import pytest
from test_run import Repository, repository  # noqa: F401 - a fixture

SECRET = "canary-in-db_pwd"
#: In base64 too, but for what depends on its surroundings.
FORMS = (SECRET, "Y2FuYXJ5LWluLWRi")
TASKS: list[dict[str, Any]] = [
    {"name": "Say {{ db_pwd }}", "ansible.builtin.debug": {"msg": "it is {{ db_pwd }}"}},
    {
        "name": "Print one after the other",
        "ansible.builtin.command": {"argv": ["echo", "{{ item }}"]},
        "loop": ["{{ db_pwd }}", "harmless"],
        "check_mode": False,
        "changed_when": True,
    },
    {"name": "Keep", "ansible.builtin.set_stats": {"data": {"kept": "{{ db_pwd }}"}}},
    {"name": "Fail", "ansible.builtin.fail": {"msg": "not {{ db_pwd }}"}, "ignore_errors": True},
]
SPY = """
import os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'notification'
    CALLBACK_NAME = 'spy'
    CALLBACK_NEEDS_ENABLED = NEEDED

    def _note(self, *found):
        with open(os.environ['SPY'], 'a') as file:
            file.write(repr(found) + chr(10))

    def v2_playbook_on_start(self, playbook):
        self._note('start')

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._note('task', task.get_name(), task.args, task.vars)

    def _result(self, result, **kwargs):
        self._note('result', result.task_name, result.is_changed(), result.result, result._result,
                   result.task_fields, result.task.get_name(), result.task.args)

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_item_on_ok = _result

    def v2_playbook_on_stats(self, stats):
        self._note('stats', sorted(stats.processed), stats.custom)
        raise ValueError('a bug of its own')
"""


def spying(folder: Path, *, needed: bool) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "spy.py").write_text(SPY.replace("NEEDED", str(needed)))


def test_a_callback_that_is_named_gets_redacted_events(repository: Repository) -> None:  # noqa: F811
    spying(repository.folder / "plugins", needed=False)
    repository.inventory(db_pwd=SECRET)
    repository.playbook(*TASKS)
    spied = repository.folder / "spied"
    enabled = {
        "ANSIBLE_CALLBACKS_ENABLED": "spy",
        "ANSIBLE_CALLBACK_PLUGINS": str(repository.folder / "plugins"),
        "SPY": str(spied),
    }
    done = repository.apply("--yes", "-v", env=enabled)
    assert done.returncode == 0, done.stdout + done.stderr
    text = spied.read_text()
    assert text.count("('start',") == 2, "the check and the real run, once each"
    assert not [form for form in FORMS if form in text]
    assert "'Say ********'" in text
    assert "'msg': 'it is ********'" in text
    assert "{'kept': '********'}" in text
    assert "'Print one after the other', True, " in text
    assert "harmless" in text
    assert "v2_playbook_on_stats: ValueError: a bug of its own" in done.stdout
    assert not [form for form in FORMS if form in done.stdout + done.stderr]


@pytest.mark.campaign
def test_what_cannot_be_enabled_is_refused_first(repository: Repository) -> None:  # noqa: F811
    """One that is not there; one beside the playbook, which Ansible would load unasked."""
    repository.playbook({"name": "Touch", "ansible.builtin.file": {"path": "/x", "state": "touch"}})
    done = repository.apply("--yes", env={"ANSIBLE_CALLBACKS_ENABLED": "ara_defualt"})
    assert done.returncode == 3
    assert "ANSIBLE_CALLBACKS_ENABLED: ara_defualt: there is no such" in done.stderr + done.stdout
    spying(repository.folder / "playbooks/callback_plugins", needed=False)
    done = repository.apply("--yes", env={"SPY": str(repository.folder / "spied")})
    assert done.returncode == 3
    assert (
        "callback_plugins/spy.py: a callback plugin that Ansible loads" in done.stderr + done.stdout
    )
    assert not (repository.folder / "spied").exists()
    # Not enabled, one that needs to be does nothing.
    spying(repository.folder / "playbooks/callback_plugins", needed=True)
    repository.playbook({"name": "Say", "ansible.builtin.debug": {"msg": "x"}})
    done = repository.apply("--yes", env={"SPY": str(repository.folder / "spied")})
    assert (done.returncode, (repository.folder / "spied").exists()) == (0, False)


def run(repository: Repository, python: Path, enabled: dict[str, str]) -> None:  # noqa: F811
    """``runbook apply`` in another environment, in a folder of its own."""
    done = subprocess.run(
        [python, "-m", "runbook", "apply", "p.yml", "-i", "here", "--yes"],
        env={**repository.environment, **enabled}, cwd=repository.folder, text=True,
        capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign
def test_ara_records_a_run_without_its_secrets(repository: Repository, tmp_path: Path) -> None:  # noqa: F811
    python = packages.venv(tmp_path / "venv", "ara[server]==1.8.0")
    (plugins,) = (tmp_path / "venv").glob("lib/*/site-packages/ara/plugins/callback")
    repository.inventory(db_pwd=SECRET)
    repository.playbook(*TASKS)
    enabled = {
        "ANSIBLE_CALLBACKS_ENABLED": "ara_default",
        "ANSIBLE_CALLBACK_PLUGINS": str(plugins),
        "ARA_BASE_DIR": str(tmp_path / "ara"),
    }
    run(repository, python, enabled)
    database = sqlite3.connect(tmp_path / "ara/ansible.sqlite")
    names = {name for (name,) in database.execute("SELECT name FROM tasks")}
    assert {"Say ********", "Print one after the other", "Fail"} <= names
    statuses = database.execute("SELECT status, count(*) FROM results GROUP BY 1").fetchall()
    assert dict(statuses).keys() >= {"ok", "failed"}
    database.close()
    no_secret_below(tmp_path / "ara")


class Collector(http.server.BaseHTTPRequestHandler):
    """An OTLP collector over HTTP, as far as it receives."""

    received: list[bytes] = []  # noqa: RUF012 - of the class, which the server instantiates

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.received.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.campaign
def test_opentelemetry_gets_the_spans_of_a_run_without_its_secrets(
    repository: Repository,  # noqa: F811
    tmp_path: Path,
    collector: str,
) -> None:
    python = packages.venv(tmp_path / "venv", "opentelemetry-sdk", "opentelemetry-exporter-otlp")
    collections = general(tmp_path)
    repository.inventory(db_pwd=SECRET)
    repository.playbook(*TASKS)
    enabled = {
        "ANSIBLE_CALLBACKS_ENABLED": "community.general.opentelemetry",
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    run(repository, python, enabled)
    assert len(Collector.received) == 2, "the check and the real run"
    sent = b"".join(Collector.received).decode(errors="replace")
    assert "Print one after the other" in sent
    # Redacted by the engine, or by ansible-core, since 2.22.
    assert "not ********" in sent or "not $REDACTED$" in sent
    assert not [form for form in FORMS if form in sent]


def general(folder: Path) -> Path:
    """A folder of collections with community.general, out of the package that brings all."""
    with zipfile.ZipFile(packages.wheel(folder / "wheels", "ansible==12.0.0")) as file:
        wanted = "ansible_collections/community/general/"
        parts = (
            "plugins/callback/",
            "meta/",
            "MANIFEST.json",
            "FILES.json",
            "plugins/module_utils/version",
        )
        names = [
            name
            for name in file.namelist()
            if name.startswith(tuple(wanted + part for part in parts))
        ]
        file.extractall(folder / "collections", names)
    shutil.rmtree(folder / "wheels")
    return folder / "collections"


def no_secret_below(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            text = Path(path, name).read_bytes().decode(errors="replace")
            assert not [form for form in FORMS if form in text], name
