"""The surroundings of a run: its environment, its strategy, its private folder, its processes."""

from __future__ import annotations

import configparser
import locale
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from runbook import processes
from runbook.errors import RunbookError
from runbook.events import model
from runbook.events.redaction import Redactor
from runbook.execute import environment, runner
from runbook.execute.environment import facts, hermetic, settings, transport
from runbook.execute.private import private_folder
from runbook.execute.process import Channel, launched
from runbook.execute.watch import Watch


def test_foreign_settings_of_ansible_do_not_survive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = {
        "ANSIBLE_STDOUT_CALLBACK": "yaml",
        "ANSIBLE_CHECK_MODE_MARKERS": "1",
        "ANSIBLE_PRIVATE_KEY_FILE": "/key",
        "ANSIBLE_REMOTE_USER": "mapper",
        "JOB_ID": "abc",
        "AWS_SECRET_ACCESS_KEY": "hunter22",
    }
    for name, value in operator.items():
        monkeypatch.setenv(name, value)
    chosen = settings("linear", tmp_path)
    given = {**hermetic(dict(os.environ), set()), **chosen, **facts(tmp_path)}
    assert "ANSIBLE_STDOUT_CALLBACK" not in given  # ansible-runner sets it
    assert given["ANSIBLE_PRIVATE_KEY_FILE"] == "/key"
    assert given["ANSIBLE_REMOTE_USER"] == "mapper"
    assert given["AWS_SECRET_ACCESS_KEY"] == "hunter22"
    assert not {"ANSIBLE_CHECK_MODE_MARKERS", "JOB_ID"} & given.keys()
    assert given["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert given["PATH"].startswith(str(Path(sys.executable).parent))
    written = (tmp_path / "ansible.cfg").read_text()
    assert written == "[defaults]\ninternal_poll_interval = 0.001\n"


def test_a_connection_that_is_gone_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within half a minute unless the operator says otherwise: of several values ssh takes the first."""
    monkeypatch.setenv("ANSIBLE_SSH_EXTRA_ARGS", "-o ServerAliveInterval=60")
    alive = "-o ServerAliveInterval=10 -o ServerAliveCountMax=3"
    chosen = settings("linear", tmp_path)
    extra = f"-o ServerAliveInterval=60 {alive} -o ConnectTimeout=30"
    assert chosen["ANSIBLE_SSH_EXTRA_ARGS"] == extra
    assert chosen["ANSIBLE_TIMEOUT"] == "30"
    monkeypatch.setenv("ANSIBLE_TIMEOUT", "90")
    chosen = settings("linear", tmp_path)
    assert chosen["ANSIBLE_SSH_EXTRA_ARGS"] == extra.replace("=30", "=90")
    assert chosen["ANSIBLE_TIMEOUT"] == "90"


def test_how_modules_get_to_their_hosts_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNBOOK_FAST", raising=False)
    assert transport(local=False) == "modules run in one process a host, over ssh"
    assert transport(local=True) == "all hosts are local: modules run in Ansible's own workers"
    monkeypatch.setenv("RUNBOOK_FAST", "0")
    assert transport(local=True) == "RUNBOOK_FAST is 0: an interpreter is started for each step"


def test_arguments_are_ansibles() -> None:
    request = runner.Request(
        Path("/p.yml"), "inv", check=True, extra_vars=('{"a": 1}', "@/f"), limit="h", tags="t",
        verbosity=2, become=True, become_password="x", vault_ids=("a@b",), start_at_task="T",
    )  # fmt: skip
    line = request.arguments()
    assert line[-1] == "/p.yml"
    for pair in (
        ["--extra-vars", '{"a": 1}'],
        ["--extra-vars", "@/f"],
        ["--limit", "h"],
        ["--vault-id", f"a@{Path.cwd() / 'b'}"],
    ):
        assert any(line[index : index + 2] == pair for index in range(len(line)))
    assert {"--check", "--diff", "-vv", "--become", "--ask-become-pass"} <= set(line)
    assert "x" not in line
    assert "--diff" not in runner.Request(Path("/p.yml"), "inv").arguments()


@pytest.mark.parametrize(
    ("hosts", "forks", "at_a_time", "interval"),
    [(1, 0, "5", 0.001), (16, 0, "16", 0.016), (500, 0, "20", 0.02), (16, 2, "2", 0.016)],
)
def test_a_fleet_is_worked_on_at_once_and_looked_at_less_often(
    hosts: int, forks: int, at_a_time: str, interval: float, tmp_path: Path
) -> None:
    request = runner.Request(Path("/p.yml"), "inv", hosts=hosts, forks=forks)
    line = request.arguments()
    assert line[line.index("--forks") + 1] == at_a_time
    here = replace(request, local=True).arguments()
    assert here[here.index("--forks") + 1] == str(min(int(at_a_time), 8))
    settings("linear", tmp_path, hosts)
    written = configparser.ConfigParser()
    written.read(tmp_path / "ansible.cfg")
    assert written["defaults"].getfloat("internal_poll_interval") == pytest.approx(interval)


def test_a_private_folder_is_closed_and_goes_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))

    def fail() -> None:
        with private_folder() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "secret").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list((tmp_path / "private").iterdir())


def test_what_a_killed_run_left_is_removed_and_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    code = (
        "import time; from runbook.execute.private import private_folder\n"
        "with private_folder() as folder: print(folder, flush=True); time.sleep(60)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = []
    for child in children:
        assert child.stdout is not None
        folders.append(Path(child.stdout.readline().strip()))
    children[0].kill()
    children[0].wait()
    assert folders[0].exists()
    being_made = tmp_path / "private" / f".{os.getpid()}-1000000001"
    left_unmade = tmp_path / "private" / f".{children[0].pid}-1000000001"
    for folder in (being_made, left_unmade):
        folder.mkdir()
        (folder / "alive").touch()
    with private_folder():
        assert not folders[0].exists()
        assert folders[1].exists()
        assert being_made.exists()
        assert not left_unmade.exists()
    children[1].kill()
    for child in children:
        child.communicate()


def test_a_family_is_ended_whole() -> None:
    code = (
        "import subprocess, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    family = processes.descendants(parent.pid)
    assert {process.pid for process in family} == {grandchild}
    family |= {found for found in [processes.Process.of(parent.pid)] if found}
    assert {process.pid for process in family} == {parent.pid, grandchild}
    processes.end(lambda: family, patience=0.2)
    assert parent.wait(5) == -signal.SIGKILL
    parent.communicate()
    assert not any(process.alive() for process in family)


ORPHANS = """
import os, subprocess
from runbook import processes
processes.adopt_orphans()
late = "trap 'setsid -f sleep 60; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
stays = subprocess.Popen(["sleep", "60"])
others = processes.descendants(os.getpid())
ends = subprocess.Popen(["sh", "-c", late], stdout=subprocess.PIPE)
ends.stdout.readline()
found = set()
def find():
    global found
    now = processes.descendants(os.getpid(), but=others)
    found |= now
    return now
assert processes.end(find, patience=5) == set()
assert ends.wait() == 0
assert len(found) > 1 and not any(process.alive() for process in found)
assert stays.poll() is None
stays.kill()
"""


def test_what_is_started_while_all_are_ended_ends_too() -> None:
    """Its parent has ended, so that only its adoption tells whose it is; others stay."""
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_processes_that_may_not_be_ended_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step on this host that became another user, when the operator is not root."""

    def refused(pid: int, number: int) -> None:
        raise PermissionError(1, f"no signal {number} for {pid}")

    published: list[model.Event] = []
    child = subprocess.Popen(["sleep", "60"])
    try:
        process = processes.Process.of(child.pid)
        assert process is not None
        monkeypatch.setattr(os, "kill", refused)
        assert processes.end(lambda: {process}, patience=0.05) == {process}
        monkeypatch.setattr(processes, "end", lambda _: {process})
        raw: SimpleQueue[Any] = SimpleQueue()
        watch = Watch(Redactor(), Channel(tmp_path), raw)
        raw.put({"pid": child.pid})
        raw.put(None)
        watch.asked = 1
        watch.follow(published.append)
        watch.finish()
    finally:
        monkeypatch.undo()
        child.kill()
        child.wait()
    (notice,) = published
    assert isinstance(notice, model.Notice)
    assert notice.text.endswith(f" still run, as another user: sudo kill {child.pid}")


def test_an_ansible_that_ends_without_an_error_is_reported_with_what_it_wrote(
    tmp_path: Path,
) -> None:
    published: list[model.Event] = []
    raw: SimpleQueue[Any] = SimpleQueue()
    watch = Watch(Redactor(), Channel(tmp_path), raw)
    for line in [*map(str, range(20)), "ModuleNotFoundError: No module named 'yaml'"]:
        raw.put({"event": "verbose", "stdout": line})
    raw.put(None)
    watch.follow(published.append)
    watch.explain(0)
    assert not watch.errors
    watch.explain(1)
    watch.explain(1)
    (error,) = [each for each in published if each.level == "error"]  # type: ignore[union-attr]
    assert error.text.startswith("ansible-playbook exited with code 1 and without an error")
    assert error.text.endswith("\n  19\n  ModuleNotFoundError: No module named 'yaml'")
    assert "\n  10\n" not in error.text


def test_a_process_that_gets_no_environment_ends_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the input is refused before it is known how ansible is to be run."""
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path / "home"))
    with launched() as process:
        assert process.folder.is_dir()
    assert process.exit_code() is not None
    assert not list((tmp_path / "home/private").iterdir())
    process.end()


def test_a_process_is_launched_before_the_engine_is_imported() -> None:
    late = "{'yaml', 'jinja2', 'rich', 'runbook.flow.apply', 'runbook.load.schemas'}"
    program = f"import sys, runbook.execute.process; print({late} & sys.modules.keys())"
    command = [sys.executable, "-P", "-c", program]
    assert subprocess.check_output(command, text=True).strip() == "set()"


def test_a_machine_without_a_terminal_for_ansible_says_so(tmp_path: Path) -> None:
    """In a mount namespace of its own, whose /dev/pts is empty."""
    (tmp_path / "p.yml").write_text(
        "- {name: P, hosts: all, gather_facts: false, tasks: [{name: T, ansible.builtin.debug: {}}]}\n"
    )
    (tmp_path / "hosts.yml").write_text("all: {hosts: {h: {ansible_connection: local}}}\n")
    apply = [str(Path(sys.executable).parent / "runbook"), "apply", "p.yml", "-i", "hosts.yml"]
    script = 'mount -t tmpfs none /dev/pts || exit 99; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *apply, "--check"],
        cwd=tmp_path, env={**os.environ, "RUNBOOK_HOME": str(tmp_path / "home")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"needs a mount namespace: {done.stderr.strip()}")
    assert done.returncode == 1
    assert "no pseudo-terminal (out of pty devices). Mount /dev/pts" in done.stderr
    assert "bug" not in done.stderr


def test_leftovers_are_removed_and_the_operators_own_folders_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RUNBOOK_HOME may be a home that has a folder of this name."""
    monkeypatch.setenv("RUNBOOK_HOME", str(tmp_path))
    for name in ("keys", "2026-01", "x-12", "123-4567890123", f".{2**22 + 1}-4567890123"):
        (tmp_path / "private" / name).mkdir(parents=True)
        (tmp_path / "private" / name / "file").write_text("mine")
    with private_folder():
        pass
    assert {path.name for path in (tmp_path / "private").iterdir()} == {"keys", "2026-01", "x-12"}


@pytest.mark.parametrize("given", ["C", "xx_XX.UTF-8"])
def test_a_locale_that_ansible_refuses_is_replaced(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As cron's, which has none, and one that ssh brought and that is not installed."""
    before = locale.setlocale(locale.LC_ALL)
    monkeypatch.setenv("LC_ALL", given)
    assert hermetic(dict(os.environ), set())["LC_ALL"] == "C.UTF-8"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert environment.utf8_locale() == {}
    assert locale.setlocale(locale.LC_ALL) == before
    monkeypatch.setenv("LC_ALL", given)
    monkeypatch.setattr(environment, "UTF8_LOCALES", ("yy_YY.UTF-8",))
    with pytest.raises(RunbookError, match=r"no UTF-8 locale.*yy_YY.*locale -a"):
        environment.utf8_locale()
