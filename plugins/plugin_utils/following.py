# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads a module's progress file while the module runs, and passes on what it says.

The module writes a small file (module_utils/progress.py). A thread here reads it: directly where
the module runs on this machine as this user, else over a connection of its own, so that the
module's is left alone. What it reads goes to the engine through the pipe named by RUNBOOK_CHANNEL;
without an engine it is a line of output now and then.
"""

# ruff: noqa: SLF001 - part of an action plugin, which uses what ActionBase uses

from __future__ import annotations

import contextvars
import json
import os
import select
import shlex
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Union

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.labeller.runbook.plugins.plugin_utils.progress import Rates, parse

#: Seconds between two looks at the file, here and over a network; the first comes as late.
INTERVALS = {"local": 1.0, "ssh": 2.0}
#: Seconds between two lines of output without an engine.
PATIENCE = 10.0
#: Seconds that the end of a module waits for a look that is under way.
GRACE = 1.0


def folder() -> str:
    """Where this user's file may lie: with an engine in the private folder of the run."""
    channel = os.environ.get("RUNBOOK_CHANNEL")
    return str(Path(channel).parent) if channel else "/tmp"  # noqa: S108 - as above


class Local:
    """A progress file of this machine."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def read(self) -> str:
        """The content of the file now; empty without one."""
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:  # not yet, or no longer
            return ""


class Remote:
    """A progress file read by commands of ``action``, whose connection is for nothing else."""

    def __init__(self, path: str, action: ActionBase) -> None:
        self._command = "cat {} 2>/dev/null".format(shlex.quote(path))
        self._action = action

    def read(self) -> str:
        """The content of the file now; empty without one."""
        return str(self._action._low_level_execute_command(self._command)["stdout"])


File = Union[Local, Remote]


def teller(host: str, task: str) -> Callable[[Dict[str, Any]], None]:
    """The receiver of progress: the engine, or the output."""
    channel = os.environ.get("RUNBOOK_CHANNEL")
    if not channel:
        return _Patient(host).tell
    return lambda news: _tell(channel, {"progress": {"host": host, "task": task, **news}})


@contextmanager
def followed(file: File, tell: Callable[[Dict[str, Any]], None], interval: float) -> Iterator[None]:
    """While inside, a thread reports what it reads."""
    stopped = threading.Event()

    def follow() -> None:
        rates = Rates()
        if stopped.wait(interval):
            return
        # That it cannot be read is no reason to end what goes on.
        with suppress(AnsibleError, OSError):
            while not stopped.is_set():
                for news in rates.news(time.monotonic(), parse(file.read())):
                    if not stopped.is_set():
                        tell(news)
                stopped.wait(interval)

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(follow,), daemon=True, name="progress"
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(GRACE)


def _tell(channel: str, message: Dict[str, Any]) -> None:
    """One line to the engine, or none: nothing waits for a reader."""
    line = (json.dumps(message) + "\n").encode()
    if len(line) > select.PIPE_BUF:  # it could be torn by another's
        return
    with suppress(OSError):
        pipe = os.open(channel, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, line)
        finally:
            os.close(pipe)


class _Patient:
    """Says of each table now and then how far it is, on Ansible's output."""

    def __init__(self, host: str) -> None:
        self._host, self._begun = host, time.monotonic()
        self._said: Dict[str, float] = {}

    def tell(self, news: Dict[str, Any]) -> None:
        now, table = time.monotonic(), news["table"]
        if news["done"] or now - self._said.get(table, self._begun) < PATIENCE:
            return
        self._said[table] = now
        Display().display("{}: {}: {}".format(self._host, table, news["message"]))
