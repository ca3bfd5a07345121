"""Where the sandbox is and what is known of it; light, for it is read before every run."""

from __future__ import annotations

import fcntl
import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.errors import ExitCode, RunbookError
from runbook.home import home, own_folder, write_whole
from runbook.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Raised when the layout of ``state.json`` or of the sandbox's content changes: an older sandbox
#: is remade.
VERSION = 1


class BusyError(RunbookError):
    """Another command is creating, repairing or removing this sandbox."""

    exit_code = ExitCode.LOCKED


@dataclass(frozen=True)
class Home:
    """The folder of one sandbox and the names in it."""

    path: Path

    @classmethod
    def current(cls) -> Home:
        """The sandbox of ``RUNBOOK_HOME``."""
        return cls(home() / "sandbox")

    @property
    def state(self) -> Path:
        """The file of its state; written last, so that without it the sandbox is half-made."""
        return self.path / "state.json"

    @property
    def run(self) -> Path:
        """One file per process of the sandbox."""
        return self.path / "run"

    @property
    def postgres(self) -> Path:
        """Folder of the database server."""
        return self.path / "postgres"

    @property
    def pgdata(self) -> Path:
        """The server's data folder."""
        return self.postgres / "pgdata"

    @property
    def labeller(self) -> Path:
        """The stand-in for the labeller checkout (``labeller_home``)."""
        return self.path / "labeller"

    @property
    def crontab(self) -> Path:
        """The file in place of the user's crontab."""
        return self.path / "crontab"

    @property
    def journal(self) -> Path:
        """The target's journal (``journal_folder`` of the packaged inventory)."""
        return self.path / "journal"

    @property
    def faults(self) -> Path:
        """Names of the faults that the next clusters meet, one for each."""
        return self.run / "faults"

    @property
    def seed(self) -> Path:
        """The sandbox's settings, and the objects that are made once from them."""
        return self.path / "seed"

    @property
    def options(self) -> Path:
        """The file of its settings; the first one, so that without it the folder is no sandbox."""
        return self.seed / "options.json"

    @contextmanager
    def locked(self, timeout: float = 120) -> Iterator[None]:
        """Only one command at a time creates, repairs or removes this sandbox."""
        deadline = time.monotonic() + timeout
        # Beside the folder, not in it: removing the folder must not remove the lock.
        lock = own_folder(self.path.parent) / f"{self.path.name}.lock"
        with lock.open("w") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise BusyError(
                            f"another command has been working on the sandbox in {self.path} for "
                            f"{timeout:.0f} s; wait for it, or end it"
                        ) from None
                    time.sleep(0.05)
            yield


def record(home: Home, name: str, process: Process) -> None:
    """Note a process of the sandbox, so that it is found when ``state.json`` was never written."""
    home.run.mkdir(parents=True, exist_ok=True)
    write_whole(home.run / f"{name}.json", json.dumps(asdict(process)), 0o600)


def recorded(home: Home, name: str) -> Process | None:
    """The process noted under ``name``, if it lives."""
    try:
        process = Process(**json.loads((home.run / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return process if process.alive() else None


@dataclass(frozen=True)
class State:
    """A finished sandbox: everything that is needed to use it."""

    bucket: str
    database: str
    db_user: str
    db_pwd: str
    postgres_password: str
    db_port: int
    endpoint_url: str
    ec2_instance: str
    security_group_id: str
    subnet_id: str
    secrets: dict[str, str]
    home: str
    labeller_home: str
    crontab: str
    seed: int
    cells: int
    aois: int
    old_aoi: int
    processes: dict[str, Process] = field(default_factory=dict)
    version: int = VERSION

    @property
    def database_url(self) -> str:
        """libpq URL of the labeller database, as the role that owns it."""
        return f"postgresql://{self.db_user}:{self.db_pwd}@127.0.0.1:{self.db_port}/{self.database}"

    def dead(self) -> list[str]:
        """Names of the processes that are gone."""
        return [name for name, process in self.processes.items() if not process.alive()]

    def save(self, home: Home) -> None:
        """Write ``state.json``, whole or not at all, for its owner only."""
        write_whole(home.state, json.dumps(asdict(self), indent=2) + "\n", 0o600)

    @classmethod
    def load(cls, home: Home) -> State | None:
        """The sandbox of ``home``; None when there is none, or an unfinished or older one."""
        try:
            content = json.loads(home.state.read_text())
            processes = {name: Process(**each) for name, each in content["processes"].items()}
            if content["version"] != VERSION or content["home"] != str(home.path):
                return None
            return cls(**{**content, "processes": processes})
        except (OSError, ValueError, TypeError, KeyError):
            return None
