"""The running step, on a terminal: a line for it, and one for each table that it works on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runbook.events.model import (
    Event,
    Progress,
    Recap,
    RunFinished,
    RunStarted,
    TaskResult,
    TaskStarted,
)
from runbook.events.render import fleet, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

#: Tables that are shown at a time.
TABLES = 8

#: Columns from which there is room for a bar, and the bar's.
WIDE, BAR = 110, 20


class Live:
    """Lines that are replaced in place, below whatever else the console prints; gone at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Any = None
        self._running = ""
        self._hosts: set[str] = set()
        self._progress: dict[tuple[str, str], Progress] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunStarted():
                self._wait("Starting")
            case TaskStarted():
                self._progress.clear()
                self._wait(event.name)
            case Progress():
                self._progress[event.host, event.table] = event
                self._wait(self._running)
            case TaskResult():
                self._ended(event.host)
            case Recap() | RunFinished():
                self.stop()
            case _:
                pass

    def stop(self) -> None:
        """Show nothing more until the next event."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _wait(self, what: str) -> None:
        from rich.console import Group
        from rich.text import Text

        self._running = what
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        title = Text.assemble((what, "bold"), " …")
        shown = list(self._tables())
        self._status.update(Group(title, *shown) if shown else title)

    def _ended(self, host: str) -> None:
        """Nothing more is shown of how far a step is on a host."""
        self._hosts.add(host)
        before = len(self._progress)
        self._progress = {key: seen for key, seen in self._progress.items() if key[0] != host}
        if len(self._progress) < before:
            self._wait(self._running)

    def _tables(self) -> Iterator[Any]:
        """A line for each table that the running step works on; of several hosts one for each."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        open_ = [seen for seen in self._progress.values() if not seen.done]
        open_.sort(key=text.waits)
        if not open_:
            return
        several = len(self._hosts | {seen.host for seen in open_}) > 1
        if several:
            first = {seen.host: seen for seen in reversed(open_)}
            open_ = [first[host] for host in fleet.ordered(first)]
        grid = Table.grid(padding=(0, 2))
        for seen in open_[:TABLES]:
            cells: list[Any] = [Text(seen.table + (f" [{seen.host}]" if several else ""))]
            if self._console.width >= WIDE:
                part = text.fraction(seen)
                cells.append(ProgressBar(total=1.0, completed=part or 0.0, width=BAR))
                cells.append(Text("" if part is None else f"{part:.0%}", justify="right"))
            grid.add_row(*cells, Text(seen.message, style="dim"))
        yield grid
        if len(open_) > TABLES:
            yield Text(f"and {len(open_) - TABLES} more{' hosts' if several else ''}", style="dim")
