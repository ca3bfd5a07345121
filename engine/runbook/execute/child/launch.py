"""The ansible process of a run, started by ``runbook.execute.runner``.

``python -m runbook.execute.child.launch PIPE``

It reads its environment and its arguments from a pipe, so that ansible-runner, which keeps the
command line and the whole environment of what it starts in a file, has no secret to keep; nor does
the process table. Both may come late, or never: while the engine looks at its input, the libraries
that ansible imports, then ansible, are already being imported. And it dies with the engine: an
orphan would go on changing the target while the operator believes that the run has ended.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from runbook.execute.child import channel
from runbook.processes import die_with_parent


def main() -> None:
    """Become ``ansible-playbook``."""
    engine = os.getppid()
    die_with_parent()
    _register_children(os.getpid())
    with Path(sys.argv[1]).open(encoding="utf-8") as pipe:
        gc.disable()
        _import("yaml", "jinja2.nativetypes", "cryptography.hazmat.primitives.ciphers")
        environment = json.loads(pipe.readline() or "null")
        if environment is None:  # the input is not read any further
            sys.exit(0)
        os.environ.update(environment)
        sys.argv[:] = ["ansible-playbook"]
        _warm_up()
        given = json.loads(pipe.readline() or "null")
    if given is None or os.getppid() != engine:  # nothing is to be done, or the engine has ended
        sys.exit(0)
    os.environ["RUNBOOK_PLACES"] = json.dumps(given["places"])
    _end(_run(given["arguments"]))


def _register_children(parent: int) -> None:
    """Have the processes that ``parent`` forks, not those that they fork, die with it."""
    forking = [0]

    def before() -> None:
        forking[0] = os.getpid()
        # What is there stays: no collector need look at it, nor make a child copy its pages.
        gc.freeze()
        gc.enable()

    def in_child() -> None:
        if forking[0] == parent:
            # The parent's handler must not meet what is meant for this one: it looks after workers,
            # fails here, and the signal would be lost before the worker's own handler is there.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            die_with_parent()
            if os.getppid() != parent:  # it died before prctl took effect
                os._exit(1)

    os.register_at_fork(before=before, after_in_child=in_child)


def _warm_up() -> None:
    """Import what every run imports, the garbage collector out of the way until the first task."""
    import ansible.cli.playbook
    import ansible.plugins.connection.local
    import ansible.plugins.strategy.linear  # noqa: F401

    if "RUNBOOK_IN_PROCESS" in os.environ:
        _plugin_utils("in_process").preload()
    if "RUNBOOK_OVER_SSH" in os.environ:
        _plugin_utils("over_ssh").initial()


def _plugin_utils(name: str) -> Any:
    """A file of our collection, imported here in the process that forks one for every task.

    Ansible's loader of collections is needed first. Ansible sets it up again later, which only
    gives a Python warning.
    """
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    loader = importlib.import_module("ansible.plugins.loader")
    loader.init_plugin_loader()
    package = "ansible_collections.labeller.runbook.plugins.plugin_utils"
    return importlib.import_module(f"{package}.{name}")


def _import(*libraries: str) -> None:
    for library in libraries:
        importlib.import_module(library)


def _run(arguments: list[str]) -> int:
    from ansible.cli.playbook import main as ansible_playbook

    if "RUNBOOK_ANSWERS" in os.environ:
        sys.stdout = output = _Output(sys.stdout.buffer, line_buffering=True)
        sys.stdin = _Input(output)
    sys.argv += arguments
    try:
        ansible_playbook()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


class _Output(io.TextIOWrapper):
    """Standard output, which knows what each thread wrote last: ``input`` writes its question."""

    written = threading.local()

    def write(self, text: str, /) -> int:
        """Write, and keep."""
        self.written.last = text
        return super().write(text)


class _Input(io.TextIOBase):
    """Standard input: the engine's answers, for this process has no terminal of the operator's."""

    def __init__(self, output: _Output) -> None:
        self._output = output

    def readline(self, _size: int = -1, /) -> str:  # type: ignore[override]
        """Forward the question of ``--step`` to the engine; its answer."""
        channel.tell({"question": self._output.written.last})
        with Path(os.environ["RUNBOOK_ANSWERS"]).open(encoding="utf-8") as pipe:
            return pipe.readline() or "\n"


def _end(code: int) -> None:
    """End with what was registered to be done, but without taking every object down singly."""
    atexit._run_exitfuncs()  # noqa: SLF001
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
