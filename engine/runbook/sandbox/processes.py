"""Processes of the sandbox that outlive the command which starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from runbook.errors import RunbookError
from runbook.processes import Process, commands, end, working_folder
from runbook.sandbox import postgres
from runbook.sandbox.state import Home, record, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

#: Modules of this package that run as processes.
SERVICES = ("cron", "aws")


def start(home: Home, name: str) -> subprocess.Popen[bytes]:
    """Start ``runbook.sandbox.NAME`` for ``home``, in a session of its own.

    The process records itself, so that it is found even when its starter is killed now.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    with (home.run / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"runbook.sandbox.{name}", str(home.path)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            cwd=home.path, env=_environment(),
        )  # fmt: skip


#: glibc's: give memory back; moto handles objects whole, and would keep what the largest needed.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}


def _environment() -> dict[str, str]:
    """The caller's, with this interpreter first on the path and nothing that changes it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ANSIBLE_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
    return {**kept, **_MALLOC, "PATH": path}


def wait_for(
    home: Home, name: str, process: subprocess.Popen[bytes], ready: Callable[[], T | None]
) -> T:
    """The first result of ``ready`` that is true; fails when the process ends before."""
    deadline = time.monotonic() + 60
    while (value := ready()) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            log = (home.run / f"{name}.log").read_text(errors="replace")[-2000:]
            raise RunbookError(f"the sandbox's process {name} did not start:\n{log}")
        time.sleep(0.01)
    return value


def of(home: Home) -> list[Process]:
    """All living processes of the sandbox, also of one that was never finished.

    cron comes first, so that it starts nothing while the others are ended.
    """
    services = [process for name in SERVICES if (process := recorded(home, name))]
    return [*services, *daemons(home), *steps(home), *postgres.processes(home.pgdata)]


def daemons(home: Home) -> list[Process]:
    """The living daemons of its checkout, and the nannies that start them."""
    common = f"{home.labeller}/common/"
    return [
        process
        for pid, arguments in commands()
        if _script(arguments).startswith(common) and (process := Process.of(pid))
    ]


def steps(home: Home) -> list[Process]:
    """The living steps of its clusters."""
    folder = f"{(home.run / 'emr').resolve()}/"
    return [
        process
        for pid, _ in commands()
        if working_folder(pid).startswith(folder) and (process := Process.of(pid))
    ]


def _script(arguments: list[str]) -> str:
    """The script that a process runs: its interpreter's first argument; none for editors."""
    if re.fullmatch(r"(python[\d.]*|bash|sh|dash)", Path(arguments[0]).name):
        return arguments[1] if len(arguments) > 1 else ""
    return arguments[0]


def stop_one(home: Home, name: str) -> None:
    """End a service, if it runs."""
    stop_all(lambda: [process] if (process := recorded(home, name)) else [])


def stop_all(find: Callable[[], Iterable[Process]]) -> None:
    """End what ``find`` finds until it finds nothing."""
    if left := end(find, patience=5):
        numbers = ", ".join(str(process.pid) for process in left)
        raise RunbookError(f"these processes of the sandbox do not end: {numbers}")


def serve(home: Home, name: str) -> Process:
    """This process, recorded as a service of its sandbox.
    It ends by itself when its sandbox is removed, or is recreated and does not know it.
    """
    me = Process.of(os.getpid())
    assert me is not None
    record(home, name, me)

    def follow() -> None:
        while recorded(home, name) == me:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
    return me
