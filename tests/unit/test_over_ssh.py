"""Modules in one process on a host: what is sent, what comes back, and when it all ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import interpreters
import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import module_server
from ansible_collections.labeller.runbook.plugins.plugin_utils import over_ssh
from waiting import until

from runbook.processes import Process

KEEP = Path(over_ssh.__file__).with_name("keep_ssh.py")
FOLDER = "ansible_collections/labeller/runbook/plugins/modules/"
#: A module is what it does with its arguments.
MODULE = "class MODULE:\n    @staticmethod\n    def call(name, arguments, check_mode):\n        "
MODULES = {
    "echo": "print('noise'); return {'changed': check_mode, 'said': arguments, 'name': name}",
    "fail": "raise KeyError('none')",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "wait": "import os; open(arguments['file'], 'w').write(str(os.getpid())); os.read(os.pipe()[0], 1)",
    "count": "import sys; sys.counted = getattr(sys, 'counted', 0) + 1; return {'n': sys.counted}",
    "parent": "import os; return {'pid': os.getppid()}",
    "large": "return {'text': 'x' * arguments['size']}",
}
BASIC = "ansible/module_utils/basic.py"
FILES = {BASIC: "", **{f"{FOLDER}{name}.py": MODULE + text for name, text in MODULES.items()}}
SENT = over_ssh.first_input(FILES)


class Host:
    """A host whose ssh is a shell of this machine, and the engine's pipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        os.mkfifo(folder / "channel")
        self.engine = os.open(folder / "channel", os.O_RDWR | os.O_NONBLOCK)
        self.address = folder / ("a folder with a name " + "that is long " * 8) / "socket"
        self.address.parent.mkdir()

    def start(
        self, before: str = "", python: str = sys.executable, sent: bytes = SENT
    ) -> tuple[int, str]:
        """Exit code and errors of ``keep_ssh.py``."""
        there = f"cd {self.home}; {before} exec {python} -c {shlex.quote(over_ssh.START)}"
        command = [sys.executable, "-S", "-E", KEEP, self.address, self.folder / "channel"]
        done = subprocess.run(
            [*command, "sh", "-c", there], input=sent, capture_output=True, check=False, timeout=60
        )
        assert not done.stdout
        return done.returncode, done.stderr.decode()

    def call(self, module: str, check_mode: bool = False, **arguments: object) -> dict[str, Any]:
        """The result of a module."""
        request = {"action": f"labeller.runbook.{module}", "arguments": arguments}
        with closing(over_ssh.connected(self.address)) as connection:
            content = json.dumps({**request, "check_mode": check_mode}).encode()
            result: dict[str, Any] = json.loads(over_ssh.answer(connection, content))
            return result

    def running(self) -> bool:
        """Whether something still waits for requests."""
        try:
            over_ssh.connected(self.address).close()
        except ConnectionError:
            return False
        return True


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    os.close(made.engine)
    if made.address.exists():
        until(lambda: not made.running())


def waits(host: Host) -> tuple[Any, Process]:
    """A connection whose module waits, and the module's process."""
    file = host.folder / "pid"
    request = {"action": "a.b.wait", "arguments": {"file": str(file)}, "check_mode": False}
    connection = over_ssh.connected(host.address)
    connection.sendall(module_server.message(json.dumps(request).encode()))
    until(lambda: file.exists() and file.read_text())
    process = Process.of(int(file.read_text()))
    assert process
    return connection, process


def test_modules_answer_one_after_another_each_in_a_process_of_its_own(host: Host) -> None:
    (host.home / "struct.py").write_text("raise SystemExit('a file of the login is imported')")
    assert host.start("echo Welcome; echo hello >&2;") == (0, "hello\n")
    assert host.call("echo", check_mode=True, a=[1, "ü"]) == {
        "changed": True, "said": {"a": [1, "ü"]}, "name": "labeller.runbook.echo"
    }  # fmt: skip
    assert [host.call("count"), host.call("count")] == [{"n": 1}, {"n": 1}]
    assert host.call("large", size=3_000_000) == {"text": "x" * 3_000_000}


def test_a_module_that_fails_or_is_killed_does_not_end_the_others(host: Host) -> None:
    host.start()
    failed = host.call("fail")
    assert (failed["failed"], failed["msg"]) == (True, "The module failed: KeyError: 'none'")
    assert "Traceback" in failed["module_stderr"]
    assert host.call("none")["msg"].startswith("The module failed: ModuleNotFoundError: ")
    assert host.call("killed")["rc"] == 137
    assert host.call("echo")["said"] == {}


def test_what_the_host_says_is_passed_on_when_nothing_starts(host: Host) -> None:
    code, said = host.start(python="/none/python")
    assert code == 127
    assert "/none/python" in said
    assert host.start("echo gone >&2; exit 255;") == (255, "gone\n")
    too_old = over_ssh.first_input({**FILES, BASIC: "raise SyntaxError('too old')"})
    code, said = host.start(sent=too_old)
    assert code == 1
    assert "too old" in said
    assert not host.address.exists()


def test_a_step_ends_with_the_connection_that_waits_for_it(host: Host) -> None:
    host.start()
    connection, process = waits(host)
    connection.close()
    until(lambda: not process.alive())
    until(lambda: not host.running())
    assert host.start() == (0, "")  # another step begins anew


def test_a_step_ends_with_ssh(host: Host) -> None:
    """As when a network goes away: what holds the other end of the program's pipes is gone."""
    host.start()
    connection, process = waits(host)
    server = parent(process.pid)
    os.kill(parent(server), signal.SIGKILL)
    until(lambda: not process.alive())
    with pytest.raises((OSError, EOFError)), closing(connection):
        over_ssh.answer(connection, b"")


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_program_that_ended_between_two_steps_is_not_asked(host: Host) -> None:
    host.start()
    server = Process.of(host.call("parent")["pid"])
    assert server
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.alive())
    with pytest.raises(ConnectionError):
        over_ssh.connected(host.address)


def test_a_step_ends_with_the_engine(host: Host) -> None:
    host.start()
    connection, process = waits(host)
    os.close(host.engine)
    host.engine = os.open(os.devnull, os.O_RDONLY)
    until(lambda: not process.alive())
    connection.close()


#: The oldest Python of hosts, where this machine has it and this ansible-core takes it.
OLDEST = interpreters.found("3.8") if metadata.version("ansible-core") < "2.20" else None


@pytest.mark.parametrize("python", [sys.executable, *([OLDEST] if OLDEST else [])])
def test_all_that_modules_import_is_sent(host: Host, python: Path | str) -> None:
    """Each module refuses its arguments, with a Python that has only its own libraries."""
    assert host.start(python=f"{python} -I -S", sent=over_ssh.initial()) == (0, "")
    names = [path.stem for path in KEEP.parents[1].joinpath("modules").glob("[a-z]*.py")]
    assert "pg_clear" in names
    for name in names:
        said = host.call(name, unknown=1)["msg"]
        assert "missing required arguments" in said or "Unsupported parameters" in said, name


PYTHON = {"ansible_python_interpreter": "/opt/runbook/bin/python"}


def action(**changed: object) -> Any:
    """An action plugin whose task and connection have some attributes that are not usual."""
    task = {"async_val": 0, "delegate_to": None, "timeout": 0, "environment": None}
    values = {**task, "ansible_name": "ssh", "become": None, "pipelining": True, "password": None}
    values.update(changed)
    connection = SimpleNamespace(
        ansible_name=values["ansible_name"], become=values["become"], get_option=values.get,
        is_pipelining_enabled=lambda: values["pipelining"],
    )  # fmt: skip
    return SimpleNamespace(
        _task=SimpleNamespace(**{name: values[name] for name in task}), _connection=connection,
        _play_context=SimpleNamespace(password=values.get("asked")),
        _templar=SimpleNamespace(template=lambda value: value),
    )  # fmt: skip


def test_only_what_a_login_with_a_key_runs_as_itself_goes_to_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(over_ssh.VARIABLE, raising=False)
    assert not over_ssh.possible(action(), PYTHON), "without the engine"
    monkeypatch.setenv(over_ssh.VARIABLE, "1")
    assert over_ssh.possible(action(), PYTHON)
    assert over_ssh.possible(action(ansible_name="ansible.builtin.ssh"), PYTHON)
    for name in ("", "auto_silent", "python3"):
        assert not over_ssh.possible(action(), {"ansible_python_interpreter": name})
    assert not over_ssh.possible(action(), {})
    for name, value in {
        "async_val": 10, "delegate_to": "other", "timeout": 5, "environment": [{"A": "b"}],
        "ansible_name": "docker", "become": object(), "pipelining": False, "password": "x",
        "asked": "x",
    }.items():  # fmt: skip
        assert not over_ssh.possible(action(**{name: value}), PYTHON), name
