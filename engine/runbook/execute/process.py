"""The ansible process of a run, and ansible-runner, which follows it on a thread of its own.

It needs nothing to be started, so it imports its libraries while the engine does the same; then it
gets its environment and, once the input is read, its arguments through a pipe. ansible-runner keeps
the command line and the environment of what it starts in a file: it knows neither.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import processes
from runbook.errors import RunbookError
from runbook.execute.environment import ANSIBLE_CALLBACK, hermetic, may_be_kept
from runbook.execute.private import private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Seconds between two looks at the channel, and at whether the run was interrupted.
POLL = 0.1

#: A question on the process's own terminal, and its answer.
_UNKNOWN_HOST = {
    re.compile(r"continue connecting \(yes/no[^)]*\)\? ?$", re.MULTILINE): "no",
}


class Channel:
    """Pipes between the engine and the ansible process, a line of JSON a message.

    To it go its environment and its arguments (``launch``) and what is answered to its questions
    (``answers``); from it comes what its callback and its modules report (``channel``).
    """

    def __init__(self, folder: Path) -> None:
        # Open for both: then neither side waits for the other, and no end of file is seen.
        self._pipes = {}
        for name in ("launch", "channel", "answers"):
            os.mkfifo(folder / name, 0o600)
            self._pipes[name] = os.open(folder / name, os.O_RDWR | os.O_NONBLOCK)
        self._read = self._unsent = b""

    def read(self) -> list[dict[str, Any]]:
        """The messages since the last call; never waits. Sends what is still unsent."""
        self.send(b"")
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._pipes["channel"], 65536):
                self._read += chunk
        *lines, self._read = self._read.split(b"\n")
        return [json.loads(line) for line in lines]

    def launch(self, message: object) -> None:
        """Give the process its environment, then its arguments, or None to have it end."""
        self.send(json.dumps(message).encode() + b"\n")

    def send(self, more: bytes) -> None:
        """Send what the process has room for; the rest goes with the next call."""
        self._unsent += more
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self._pipes["launch"], self._unsent) :]

    def answer(self, text: str) -> None:
        """Answer a question."""
        os.write(self._pipes["answers"], text.splitlines()[0].encode() + b"\n" if text else b"\n")

    def close(self) -> None:
        """Close the pipes."""
        for pipe in self._pipes.values():
            os.close(pipe)


class AnsibleProcess:
    """A process that was started, and waits for its environment and its arguments.

    ``events`` are ansible-runner's, and None at the end. ``cancelled`` says whether ansible-runner
    is to kill the process group. ``environment`` is what ansible-runner has prepared for it.
    ``end`` ends it if it still runs, and removes its ``folder``.
    """

    def __init__(
        self, folder: Path, answers: Mapping[re.Pattern[str], str], ends: contextlib.ExitStack
    ) -> None:
        self.folder = folder
        self.channel = Channel(folder)
        self.events: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self.cancelled: Callable[[], bool] = lambda: False
        self._runner, self.environment = _runner(folder, {**_UNKNOWN_HOST, **answers}, self)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ansible-runner")
        self._thread.start()
        ends.callback(self._end)
        self.end = ends.close

    def event(self, raw: Mapping[str, Any]) -> bool:
        """ansible-runner's event handler; False: nothing is to be kept on disk."""
        self.events.put(raw)
        return False

    def is_cancelled(self) -> bool:
        """ansible-runner's cancel callback: True makes it kill the process group."""
        return self.cancelled()

    def exit_code(self) -> int | None:
        """The exit code of the process, once it has ended."""
        self._thread.join()
        if self._failure:
            raise self._failure
        code: int | None = self._runner.rc
        return code

    def _end(self) -> None:
        self.cancelled = lambda: True
        self.channel.launch(None)
        self._thread.join()
        self.channel.close()

    def _run(self) -> None:
        try:
            _with_a_terminal(self._runner.run)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._failure = error
        finally:
            self.events.put(None)


@contextlib.contextmanager
def launched(answers: Mapping[re.Pattern[str], str] | None = None) -> Iterator[AnsibleProcess]:
    """An ansible process with a private folder; both are gone at the end.

    ``answers``: to questions on its own terminal, passwords.
    """
    processes.adopt_orphans()
    with contextlib.ExitStack() as ends:
        yield AnsibleProcess(ends.enter_context(private_folder()), answers or {}, ends)


def _runner(
    folder: Path, answers: Mapping[re.Pattern[str], str], process: AnsibleProcess
) -> tuple[Any, dict[str, str]]:
    """ansible-runner's runner, and the environment that it has prepared."""
    from ansible_runner import Runner, RunnerConfig

    config = RunnerConfig(
        private_data_dir=str(folder),
        ident="run",
        suppress_env_files=True,
        fact_cache_type="",
        envvars=ANSIBLE_CALLBACK,
        playbook="-",
    )
    config.prepare()
    prepared = hermetic(config.env, set(ANSIBLE_CALLBACK))
    config.env = {name: value for name, value in prepared.items() if may_be_kept(name)}
    # As settings these would be forgotten: without a file of them, ansible-runner empties them.
    config.pexpect_timeout = POLL
    config.suppress_ansible_output = config.suppress_output_file = True
    config.cwd = str(Path.cwd())
    launch = "runbook.execute.child.launch"
    config.command = [sys.executable, "-P", "-m", launch, str(folder / "launch")]
    config.expect_passwords = {**answers, **config.expect_passwords}
    called = {"event_handler": process.event, "cancel_callback": process.is_cancelled}
    return Runner(config, **called), prepared


def _with_a_terminal(start: Callable[[], object]) -> None:
    """Start ansible, to which ansible-runner gives a terminal of its own; say when there is none.

    Python raises an OSError without a number where the system has no pseudo-terminal left.
    """
    try:
        start()
    except OSError as error:
        if "pty" not in str(error):
            raise
        raise RunbookError(
            "cannot start Ansible: the system gives no pseudo-terminal (out of pty devices). "
            "Mount /dev/pts (mount -t devpts devpts /dev/pts), or raise kernel.pty.max if all "
            "are in use; a container must be started with /dev/pts"
        ) from error
