# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs one module after another on a host, each in a process forked from one with its libraries.

Over ssh Ansible starts an interpreter for every step, which compiles a hundred files and imports
boto3 and psycopg2. This one stays for a run. Through standard input it gets its own text, the files
of all modules, kept in memory, and then a request a step. It ends with that input, so with the
connection, and the step that runs ends with it. plugin_utils/over_ssh.py is the other side.

Only what Python 3.8 has is imported here: this file is the first that the host gets.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import json
import os
import select
import signal
import struct
import sys
import traceback
import zlib
from contextlib import suppress
from typing import IO, Any, Dict, Mapping, Optional

PLUGINS = "ansible_collections.labeller.runbook.plugins."
#: Comes before the first answer: a shell's profile may have printed something.
READY = b"\nrunbook: ready\n"
#: The length of a message before it.
LENGTH = struct.Struct(">Q")


class Files(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports from a mapping of file names to texts, such as ``ansible/module_utils/basic.py``."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        parts = [name.split("/") for name in texts]
        self._folders = {"/".join(part[:end]) for part in parts for end in range(1, len(part))}

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> Any:
        """Where a module lies; None for what was not sent."""
        name = self._name(fullname)
        folder = fullname.replace(".", "/") in self._folders
        if name is None and not folder:
            return None
        spec = importlib.util.spec_from_loader(fullname, self, origin=name, is_package=folder)
        if spec and name:
            spec.has_location = True  # ansible-core asks for __file__
        return spec

    def get_source(self, fullname: str) -> str:
        """The text of a module; empty of a folder without one."""
        return self._texts.get(self._name(fullname) or "", "")

    def get_code(self, fullname: str) -> Any:
        """The compiled text of a module."""
        name = self._name(fullname) or fullname
        return compile(self.get_source(fullname), name, "exec", dont_inherit=True)

    def _name(self, fullname: str) -> Optional[str]:
        base = fullname.replace(".", "/")
        return next((n for n in (base + "/__init__.py", base + ".py") if n in self._texts), None)


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Take the files, then answer requests, until ``source`` ends."""
    texts = json.loads(zlib.decompress(received(source) or b""))
    sys.meta_path.insert(0, Files(texts))
    importlib.import_module("ansible.module_utils.basic")  # ends here with a Python that is too old
    sink.write(READY)
    sink.flush()
    while True:
        request = received(source)
        if request is None:
            return
        answer = _answer(json.loads(request), source)
        if answer is None:
            return
        sink.write(message(answer))
        sink.flush()


def message(content: bytes) -> bytes:
    """A message with its length before it."""
    return LENGTH.pack(len(content)) + content


def received(source: IO[bytes]) -> Optional[bytes]:
    """The next message; None at the end, and of one that is cut off."""
    head = source.read(LENGTH.size)
    size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 1
    body = source.read(size)
    return body if len(body) == size else None


def _answer(request: Mapping[str, Any], source: IO[bytes]) -> Optional[bytes]:
    """The result of the module that a request names; None when ``source`` ended meanwhile."""
    with suppress(Exception):  # the module's own process reports it
        _import(request["action"])
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _run(request, write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = _read(pipe.fileno(), source.fileno())
    if answer is None:  # it would not be read: what is not committed is rolled back
        os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    if answer == b"":
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        failed = {"failed": True, "rc": code, "module_stdout": "", "msg": "The module ended early"}
        answer = json.dumps(failed).encode()
    return answer


def _read(pipe: int, source: int) -> Optional[bytes]:
    """All that the module's process writes; None when ``source`` ends before it does."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(source, select.POLLIN)
    found = b""
    while True:
        ready = dict(poll.poll())
        if pipe in ready:
            chunk = os.read(pipe, 1 << 20)
            if not chunk:
                return found
            found += chunk
        elif source in ready:  # requests come one at a time: this is the end
            return None


def _import(action: str) -> Any:
    """The module that an action names, imported, and what it calls AWS with, if it does."""
    module = importlib.import_module(PLUGINS + "modules." + action.rpartition(".")[2])
    aws = sys.modules.get(PLUGINS + "module_utils.aws")
    if aws is not None and "boto3" not in sys.modules:
        aws.preload()
    return module


def _run(request: Mapping[str, Any], pipe: int) -> None:
    """Be the process of a module: write its result, and end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        action = request["action"]
        result = _import(action).MODULE.call(action, request["arguments"], request["check_mode"])
    except Exception as error:  # noqa: BLE001 - as of a process of its own: failed, its traceback
        result = failure(error)
    with os.fdopen(pipe, "wb") as file:
        file.write(json.dumps(result).encode())
    sys.stderr.flush()
    os._exit(0)


def failure(error: Exception) -> Dict[str, Any]:
    """The result of a module that raised an error, to be called where it is caught."""
    return {
        "failed": True,
        "msg": "The module failed: {}: {}".format(type(error).__name__, error),
        "module_stderr": traceback.format_exc(),
    }


def main(source: IO[bytes]) -> None:
    """Serve ``source``, a copy of standard input; what a module prints goes to standard error."""
    with open(os.dup(1), "wb") as sink:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        serve(source, sink)
