"""``runbook sandbox loop``: the active-learning loop from its start to a stopping criterion.

Everything is done as a user does it: ``apply regular.yml``, then in turn mappers who finish the
open sites and ``apply iterate.yml``; this only plays it and shows where it is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runbook import collection
from runbook.errors import ExitCode, RunbookError
from runbook.sandbox import cloud, lifecycle, work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from runbook.sandbox.state import State

#: Seconds between two looks at the database while something runs.
REFRESH = 0.25

#: Iterations after which something must be wrong.
LONGEST = 200


class StepError(RunbookError):
    """A step of the loop failed as a command would have."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code) if code in list(ExitCode) else ExitCode.FAILED


@dataclass(frozen=True)
class Iteration:
    """One iteration as the tables have it."""

    number: int
    sites: int = 0
    processed: int = 0
    accuracy: float | None = None
    tss: float | None = None


@dataclass(frozen=True)
class Progress:
    """Where the loop is."""

    doing: str
    cluster: str = ""
    iterations: list[Iteration] = field(default_factory=list)
    reason: str = ""

    @property
    def open(self) -> int:
        """Sites that wait for mappers."""
        return sum(each.sites - each.processed for each in self.iterations)


def play(extra_vars: Sequence[str], quality: float, show: Callable[[Progress], None]) -> Progress:
    """Play the loop to its end; ``show`` hears of progress; gives where it ended.

    Raises StepError with the exit code of the command that failed.
    """
    state = lifecycle.ensure_up()
    watch = _Watch(state, show)
    with watch.doing("regular production begins: apply regular.yml"):
        _apply("regular.yml", extra_vars)
    for _ in range(LONGEST):
        if watch.progress().open:
            with watch.doing("mappers work"):
                work.work(state, quality=quality)
        with watch.doing("one turn: apply iterate.yml"):
            reason = _reason(_apply("iterate.yml", extra_vars))
        now = watch.progress()
        if reason or not now.open:
            return replace(now, doing="the loop has ended", reason=reason)
    raise RunbookError(f"the loop goes on after {LONGEST} iterations; see `runbook status`")


def _apply(playbook: str, extra_vars: Sequence[str]) -> list[Mapping[str, Any]]:
    """``runbook apply PLAYBOOK -i sandbox --yes --json``: its events."""
    root = collection.root()
    command = [sys.executable, "-m", "runbook", "apply", str(root / "playbooks" / playbook),
               "-i", str(root / "inventories" / "sandbox"), "--yes", "--json"]  # fmt: skip
    for each in extra_vars:
        command += ["-e", each]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True)
        out.seek(0)
        err.seek(0)
        events: list[Mapping[str, Any]] = [json.loads(line) for line in out if line.strip()]
        if done.returncode:
            raise StepError(_failure(playbook, events) + err.read(), done.returncode)
    return events


def _failure(playbook: str, events: Sequence[Mapping[str, Any]]) -> str:
    messages = [
        f"{event['task']}: {event['message']}"
        for event in events
        if event["event"] == "task_result" and event["status"] in ("failed", "unreachable")
    ]
    messages += [event["message"] for event in events[-1:] if event.get("message")]
    return f"{playbook} failed:\n" + "\n".join(messages) + "\n"


def _reason(events: Sequence[Mapping[str, Any]]) -> str:
    """The criterion that ended the loop in this turn; empty when it goes on."""
    for event in events:
        for each in event.get("diff") or []:
            if found := re.search(r"the loop ends, (.+)", each.get("after") or ""):
                return found[1]
    return ""


class _Watch:
    """Looks at the tables and at EMR while something else works."""

    def __init__(self, state: State, show: Callable[[Progress], None]) -> None:
        self.state = state
        self.show = show
        self.emr = cloud.client("emr", state.endpoint_url)
        self._doing = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def doing(self, what: str) -> _Watch:
        """A block in which ``what`` happens."""
        self._doing = what
        return self

    def __enter__(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _look(self) -> None:
        while True:
            self.show(self.progress())
            if self._stop.wait(REFRESH):
                self.show(self.progress())
                return

    def progress(self) -> Progress:
        """Now."""
        return Progress(self._doing, self._cluster(), _iterations(self.state))

    def _cluster(self) -> str:
        clusters = self.emr.list_clusters()["Clusters"]
        if not clusters:
            return ""
        newest = max(clusters, key=lambda each: each["Status"]["Timeline"]["CreationDateTime"])
        return f"{newest['Id']} {newest['Status']['State']}"


def _iterations(state: State) -> list[Iteration]:
    """The iterations of the run in place, from the tables."""
    import psycopg2

    with closing(psycopg2.connect(state.database_url)) as session, session.cursor() as rows:
        rows.execute("SELECT to_regclass('runbook.run_marker') IS NOT NULL")
        if rows.fetchone() != (True,):
            return []
        rows.execute(
            "WITH marker AS (SELECT run_id FROM runbook.run_marker"
            " ORDER BY applied_at DESC LIMIT 1)"
            " SELECT m.iteration, count(n.name), count(n.name) FILTER (WHERE n.processed),"
            " m.accuracy, m.tss FROM iteration_metrics m JOIN marker ON m.run = marker.run_id"
            " LEFT JOIN incoming_names n ON (n.run, n.iteration) = (m.run, m.iteration)"
            " GROUP BY m.iteration, m.accuracy, m.tss ORDER BY m.iteration"
        )
        return [Iteration(*row) for row in rows.fetchall()]


def table(progress: Progress, seconds: float) -> Table:
    """Progress as a rich table with a bar for the accuracy."""
    from rich.table import Table

    shown = Table(title=f"{progress.doing} ({seconds:.0f} s)  {progress.cluster}".rstrip())
    for name in ("iteration", "mapped", "accuracy", "TSS"):
        shown.add_column(name, justify="right")
    shown.add_column("accuracy", width=41, no_wrap=True)
    for each in progress.iterations:
        shown.add_row(
            str(each.number),
            f"{each.processed} of {each.sites}",
            "" if each.accuracy is None else f"{each.accuracy:.3f}",
            "" if each.tss is None else f"{each.tss:.3f}",
            "" if each.accuracy is None else "█" * round(each.accuracy * 40),
        )
    return shown


def watch(console: Console, extra_vars: Sequence[str], quality: float) -> Progress:
    """Play it, live on a terminal, else with a line for each new thing."""
    begin = time.monotonic()
    if not console.is_terminal:
        return play(extra_vars, quality, _Lines(console).show)
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:

        def show(progress: Progress) -> None:
            live.update(table(progress, time.monotonic() - begin), refresh=True)

        end = play(extra_vars, quality, show)
        show(end)
    return end


class _Lines:
    """The changes since the last look, a line each."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.doing = ""
        self.known: set[int] = set()

    def show(self, progress: Progress) -> None:
        """Print what has not been said."""
        for each in progress.iterations:
            if each.accuracy is not None and each.number not in self.known:
                self.known.add(each.number)
                self.console.print(
                    f"iteration {each.number}: accuracy {each.accuracy:.3f}, TSS {each.tss:.3f}",
                    highlight=False,
                )
        if progress.doing != self.doing:
            self.doing = progress.doing
            self.console.print(progress.doing, highlight=False)
