"""pgbouncer before a server of the tests, in a mode of pooling."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from waiting import until

from runbook.sandbox.postgres import NOBODY, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runbook.sandbox.postgres import PostgresServer

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user=postgres password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = {mode}
unix_socket_dir =
ignore_startup_parameters = extra_float_digits, options
"""


@contextmanager
def pooled(folder: Path, server: PostgresServer, mode: str) -> Iterator[int]:
    """The port of a pgbouncer that lets everybody in; ``mode``: session, transaction, statement."""
    port = free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        _CONFIGURATION.format(server=server.port, password=server.password, port=port, mode=mode)
    )
    command = [shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin") or "pgbouncer"]
    if os.geteuid() == 0:  # as which it refuses to run
        configuration.chmod(0o644)
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                   "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
                   "--securebits=+no_setuid_fixup", *command]  # fmt: skip
    with (folder / "pgbouncer.log").open("wb") as log:
        running = subprocess.Popen([*command, configuration], stdout=log, stderr=log)
    try:
        until(lambda: _listens(port) or running.poll() is not None)
        assert running.poll() is None, (folder / "pgbouncer.log").read_text()
        yield port
    finally:
        running.terminate()
        running.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
