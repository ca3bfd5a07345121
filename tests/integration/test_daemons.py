"""Daemons as real processes: found, stopped for certain, started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import daemons, held
from ansible_collections.labeller.runbook.plugins.module_utils.errors import (
    InvalidInput,
    ModuleFailure,
    Stale,
)
from waiting import until

from runbook.processes import commands

Start = Callable[..., subprocess.Popen[bytes]]

OBEDIENT = f"#!{sys.executable}\nimport time\nprint('up', flush=True)\ntime.sleep(600)\n"
DEAF = OBEDIENT.replace(
    "import time", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
)
#: It waits without a child, which would be a nanny too.
NANNY = '#!/bin/bash\necho up\nread -t 600 <> "${0%/*}/held"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder in ("common", "log"):
        (tmp_path / "labeller" / folder).mkdir(parents=True)
    common = tmp_path / "labeller" / "common"
    for name in daemons.NAMES:
        (common / f"{name}.py").write_text(OBEDIENT)
        (common / f"{name}.py").chmod(0o755)
    os.mkfifo(common / "held")
    (common / "daemonNanny.sh").write_text(NANNY)
    (common / "daemonNanny.sh").chmod(0o755)
    return tmp_path / "labeller"


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts a process and waits until it runs its script; none outlives the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(autouse=True)
def _nothing_left(home: Path) -> Iterator[None]:
    yield
    for process in daemons.find(str(home), daemons.NAMES):
        os.kill(process.pid, signal.SIGKILL)


def module(home: Path, state: str, *, check: bool = False, **params: Any) -> dict[str, Any]:
    defaults = {
        "state": state,
        "home": str(home),
        "names": None,
        "timeout": 10,
        "settle": 0.3,
        "stopped_in_check": [],
    }
    return daemons.run({**defaults, **params}, check)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a process in a container")
def test_processes_of_a_container_are_not_found(home: Path, started: Start) -> None:
    """Its paths are those of its own root, and its labeller is another one."""
    script = str(home / "common" / "create_hit_daemon.py")
    started("unshare", "--pid", "--fork", "--kill-child", sys.executable, script)
    paths = [arguments for _, arguments in commands() if script in arguments]
    assert [arguments[0] for arguments in paths] == ["unshare"]
    assert daemons.find(str(home), daemons.NAMES) == []
    started(sys.executable, script)
    assert [process.name for process in daemons.find(str(home), daemons.NAMES)] == [
        "create_hit_daemon"
    ]
    assert [arguments for _, arguments in commands() if arguments == [sys.executable, script]]


def test_all_six_are_stopped_however_they_were_started(home: Path, started: Start) -> None:
    common = home / "common"
    ways = {
        "assignment_notification_daemon": started(f"{common}/assignment_notification_daemon.py"),
        "cleanup_absent_worker": started("./cleanup_absent_worker.py", cwd=common),
        "create_hit_daemon": started(sys.executable, "-u", "common/create_hit_daemon.py", cwd=home),
        "generate_consensus_daemon": started(sys.executable, "-W", "ignore", "../common/generate_consensus_daemon.py", cwd=home / "log"),
        "select_n_sites": started(sys.executable, f"{home}/log/../common/select_n_sites.py"),
        "worker_notification_daemon": started(sys.executable, "-u", str(common / "worker_notification_daemon.py")),
    }  # fmt: skip
    (home / "log" / "create_hit_daemon.pid").write_text(f"{ways['create_hit_daemon'].pid}\n")

    checked = module(home, "stopped", check=True)
    assert all(process.poll() is None for process in ways.values())
    assert (home / "log" / "create_hit_daemon.pid").exists()
    done = module(home, "stopped")
    assert done == checked
    assert done["changed"]
    assert done["stopped"] == sorted(daemons.NAMES)
    assert f"create_hit_daemon pid {ways['create_hit_daemon'].pid}\n" in done["diff"][0]["before"]
    assert done["diff"][0]["after"] == ""
    assert all(process.wait(5) == -signal.SIGTERM for process in ways.values())
    assert not (home / "log" / "create_hit_daemon.pid").exists()
    again = module(home, "stopped")
    assert not again["changed"]
    assert again["diff"] == []


def test_one_that_ignores_sigterm_is_killed(home: Path, started: Start) -> None:
    script = home / "common" / "create_hit_daemon.py"
    script.write_text(DEAF)
    process = started(str(script))
    assert module(home, "stopped", timeout=0.2)["changed"]
    assert process.wait(5) == -signal.SIGKILL


def test_a_nanny_in_flight_is_stopped_too(home: Path, started: Start) -> None:
    common = home / "common"
    nanny = started(f"{common}/daemonNanny.sh", f"{common}/select_n_sites.py")
    done = module(home, "stopped")
    assert f"select_n_sites nanny pid {nanny.pid}\n" == done["diff"][0]["before"]
    assert nanny.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
    assert done["stopped"] == []


def test_others_are_left_alone(home: Path, started: Start, tmp_path: Path) -> None:
    """Another checkout's daemon, an editor with the script open, a shell that names it."""
    other = tmp_path / "labeller2" / "common"
    other.mkdir(parents=True)
    (other / "create_hit_daemon.py").write_text(OBEDIENT)
    script = home / "common" / "create_hit_daemon.py"
    wait = "import time; print('up', flush=True); time.sleep(600)"
    bystanders = [
        started(sys.executable, str(other / "create_hit_daemon.py")),
        started(sys.executable, "-c", wait, str(script)),
        started("tail", "-q", "-f", "-n", "1", str(_up(tmp_path)), str(script)),
    ]
    assert not module(home, "stopped")["changed"]
    assert all(process.poll() is None for process in bystanders)


def _up(folder: Path) -> Path:
    # tail prints this file's only line first, which says that it runs
    (folder / "up").mkdir(exist_ok=True)
    file = folder / "up" / "file"
    file.write_text("up\n")
    return file


def test_a_stale_pid_file_goes(home: Path) -> None:
    stale = home / "log" / "select_n_sites.pid"
    stale.write_text("4194000\n")
    assert module(home, "stopped", check=True)["changed"]
    assert stale.exists()
    assert module(home, "stopped")["changed"]
    assert not stale.exists()


def test_a_daemon_may_remove_its_own_pid_file(home: Path, started: Start) -> None:
    script, pid_file = home / "common" / "create_hit_daemon.py", home / "log/create_hit_daemon.pid"
    script.write_text(
        f"#!{sys.executable}\nimport os, signal, sys, time\n"
        f"def end(*_):\n    os.unlink({str(pid_file)!r})\n    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    pid_file.write_text(f"{started(str(script)).pid}\n")
    result = module(home, "stopped")
    assert result["stopped"] == ["create_hit_daemon"]
    assert str(pid_file) in result["diff"][0]["before"]
    assert not pid_file.exists()


def test_two_stops_at_once_both_succeed(home: Path, started: Start) -> None:
    for round_ in range(10):
        for name in daemons.NAMES:
            (home / "log" / f"{name}.pid").write_text("4194304\n")
        if not round_:
            started(str(home / "common" / "create_hit_daemon.py"))
        with ThreadPoolExecutor(2) as executor:
            both = [executor.submit(module, home, "stopped") for _ in range(2)]
        assert all(future.result() is not None for future in both)
        assert not list((home / "log").glob("*.pid"))


def test_what_cron_starts_or_what_ends_after_the_check_is_not_stale(
    home: Path, started: Start
) -> None:
    script = str(home / "common" / "create_hit_daemon.py")
    process = started(script)
    one = held.of_result(module(home, "stopped", check=True))
    process.kill()
    process.wait()
    none = held.of_result(module(home, "stopped", check=True))
    started(script)
    started(str(home / "common" / "select_n_sites.py"))
    done = module(home, "stopped", planned=one)
    assert done["stopped"] == ["create_hit_daemon", "select_n_sites"]
    started(script)
    assert module(home, "stopped", planned=none)["stopped"] == ["create_hit_daemon"]


def test_another_script_than_the_planned_one_is_not_started(home: Path) -> None:
    names = ["create_hit_daemon"]
    planned = held.of_result(module(home, "started", names=names, check=True))
    script = home / "common" / "create_hit_daemon.py"
    script.write_text(OBEDIENT + "pass\n")
    with pytest.raises(
        Stale, match="daemons of .*: planned .*create_hit_daemon.*, found .*create_hit_daemon"
    ):
        module(home, "started", names=names, planned=planned)
    assert daemons.find(str(home), names) == []
    script.write_text(OBEDIENT)
    assert module(home, "started", names=names, planned=planned)["started"] == names
    assert module(home, "started", names=names, planned=planned)["started"] == [], "it runs by now"


def test_started_detached_once_with_pid_and_output(home: Path) -> None:
    script = home / "common" / "worker_notification_daemon.py"
    script.chmod(0o644)
    names = {"names": ["worker_notification_daemon"]}
    checked = module(home, "started", check=True, **names)
    assert daemons.find(str(home), daemons.NAMES) == []
    done = module(home, "started", **names)
    assert done == checked
    assert done["started"] == ["worker_notification_daemon"]

    (process,) = daemons.find(str(home), daemons.NAMES)
    assert (home / "log" / "worker_notification_daemon.pid").read_text() == f"{process.pid}\n"
    assert os.getsid(process.pid) == process.pid
    assert Path(f"/proc/{process.pid}/cwd").resolve() == home / "log"
    until(lambda: (home / "log" / "worker_notification_daemon.oe.log").read_text() == "up\n", 10)

    again = module(home, "started", **names)
    assert not again["changed"]
    assert daemons.find(str(home), daemons.NAMES) == [process]
    assert module(home, "stopped")["stopped"] == ["worker_notification_daemon"]
    os.waitpid(process.pid, 0)


def test_a_check_of_stop_and_start_shows_what_both_do(home: Path, started: Start) -> None:
    name = "worker_notification_daemon"
    started(str(home / "common" / f"{name}.py"))
    checked = [
        module(home, "stopped", check=True),
        module(home, "started", check=True, names=[name], stopped_in_check=[name]),
    ]
    assert [
        module(home, "stopped"),
        module(home, "started", names=[name], stopped_in_check=[name]),
    ] == checked
    assert all(each["changed"] for each in checked)


def test_a_check_does_not_stop_twice_what_still_runs(home: Path, started: Start) -> None:
    started(str(home / "common" / "select_n_sites.py"))
    done = module(home, "stopped", check=True, stopped_in_check=list(daemons.NAMES))
    assert not done["changed"]
    assert done["stopped"] == []
    assert module(home, "stopped", stopped_in_check=list(daemons.NAMES))["changed"]


def test_a_daemon_that_ends_at_once_is_a_failure_that_names_its_log(home: Path) -> None:
    (home / "common" / "select_n_sites.py").write_text("#!/bin/sh\nexit 7\n")
    with pytest.raises(ModuleFailure, match=r"status 7.*log/select_n_sites\.oe\.log"):
        module(home, "started", names=["select_n_sites"], settle=5)


def test_a_missing_script_is_named(home: Path) -> None:
    (home / "common" / "select_n_sites.py").unlink()
    with pytest.raises(InvalidInput, match=r"there is no .*select_n_sites\.py"):
        module(home, "started", names=["select_n_sites"])
