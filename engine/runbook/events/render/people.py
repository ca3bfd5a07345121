"""Renderers for people: one for terminals, one for everything else; they say the same things."""

from __future__ import annotations

import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from runbook.errors import ExitCode
from runbook.events.model import (
    Event,
    HostCounts,
    Notice,
    PlayStarted,
    Progress,
    Recap,
    Result,
    RunFinished,
    RunStarted,
    Status,
    TaskResult,
    TaskStarted,
)
from runbook.events.render import fleet, text
from runbook.events.render.live import Live
from runbook.events.render.summary import WIDTH, Line, Summary


@dataclass(frozen=True)
class Detail:
    """How much is shown besides a check's summary and a real run's steps.

    ``diff``: what each step changes, line by line. ``verbosity``, the number of ``-v``: that too,
    and every step of a check. ``asked``: not the summary of a check, which the question shows.
    """

    diff: bool = False
    verbosity: int = 0
    asked: bool = False

    def summary(self) -> Summary:
        """A new summary of a check, as detailed."""
        verbose = self.verbosity > 0
        return Summary(full=verbose, each=verbose, diff=self.lines, asked=self.asked)

    @property
    def lines(self) -> bool:
        """Whether diffs are shown."""
        return bool(self.diff or self.verbosity)

    def says(self, notice: Notice, *, check: bool) -> bool:
        """Whether a notice is shown when it comes; a check's summary has the warnings."""
        return {"verbose": bool(self.verbosity), "warning": not check}.get(notice.level, True)

    def shows(self, result: TaskResult, *, check: bool) -> bool:
        """Whether a step is shown when it has ended; most of a check are in its summary."""
        wanted = self.verbosity or (self.diff and result.changed)
        return bool(not check or wanted or text.failure(result))


#: Columns of a summary at most: longer lines are hard to read.
WIDEST = 120

#: Seconds between two lines about the same table where nothing can be replaced in place.
PATIENCE = 30.0


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can do more than a typewriter."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def columns() -> int:
    """The columns to fold lines at: of the terminal that stdout is; 0 where it is none."""
    return min(shutil.get_terminal_size().columns, WIDEST) if is_terminal(sys.stdout) else 0


class _Steps(ABC):
    """Decides which events of a run people see; the subclasses decide how they look."""

    def __init__(self, detail: Detail) -> None:
        self._detail = detail
        self._check = True  # every command begins with one
        self._found = detail.summary()
        self._recap = Recap({})

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._found(event)
        match event:
            case RunStarted():
                self._check, self._recap = event.check, Recap({})
                self._header(event)
            case PlayStarted() if self._detail.lines or not self._check:
                self._play(event)
            case TaskStarted() | Progress():
                self._progress(event)
            case TaskResult() if self._detail.shows(event, check=self._check):
                self._result(event)
            case Notice() if self._detail.says(event, check=self._check):
                self._notice(event)
            case Recap():
                self._recap = event
            case RunFinished():
                self._print(*self._ending(event))
                self._found = self._detail.summary()
            case Result():  # perhaps no run has finished
                self._print(*self._found.warnings())
            case _:
                pass

    @property
    def _width(self) -> int:
        return WIDTH

    def _ending(self, event: RunFinished) -> Iterator[Line]:
        """A check's summary, the recap, the conclusion, and what a check would lose."""
        above, below = self._found.around(event, self._width)
        yield from above
        if not event.check:
            yield Line("")
        hosts = self._recap.hosts if self._detail.verbosity or len(self._recap.hosts) == 1 else {}
        for host, counts in hosts.items():
            style = "bold red" if counts.bad else "yellow" if counts.changed else "green"
            yield Line(text.recap(host, counts), style)
        first, *others = fleet.conclusion(event, self._found.results, self._recap.hosts)
        yield Line(first, "bold")
        yield from map(Line, others)
        yield from below

    @abstractmethod
    def _print(self, *lines: Line) -> None: ...

    @abstractmethod
    def _header(self, event: RunStarted) -> None: ...

    @abstractmethod
    def _play(self, event: PlayStarted) -> None: ...

    @abstractmethod
    def _progress(self, event: TaskStarted | Progress) -> None: ...

    @abstractmethod
    def _result(self, result: TaskResult) -> None: ...

    @abstractmethod
    def _notice(self, notice: Notice) -> None: ...


class Plain(_Steps):
    """Text for files, pipes and CI: no colour, no width, no times unless ``-v``; stable.

    A step that takes long says how far it is, every ``PATIENCE`` seconds.
    """

    def __init__(
        self,
        detail: Detail,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(detail)
        self._clock = clock
        self._begun = 0.0
        self._told: dict[tuple[str, str], float] = {}
        self._stream = stream or sys.stdout

    def _print(self, *lines: Line) -> None:
        for line in lines:
            self._say(line.text)

    def _header(self, event: RunStarted) -> None:
        self._say(text.title(event))

    def _play(self, event: PlayStarted) -> None:
        self._say(f"\nPlay: {event.name}")

    def _ending(self, event: RunFinished) -> Iterator[Line]:
        yield from super()._ending(event)
        yield Line("")

    def _progress(self, event: TaskStarted | Progress) -> None:
        now = self._clock()
        if isinstance(event, TaskStarted):
            self._begun, self._told = now, {}
            return
        about = (event.host, event.table)
        if not event.done and now - self._told.get(about, self._begun) >= PATIENCE:
            self._told[about] = now
            self._say(f"running: {event.task} [{event.host}]: {event.table}: {event.message}")

    def _result(self, result: TaskResult) -> None:
        said = text.summary(result)
        took = f" ({result.seconds:.1f} s)" if self._detail.verbosity else ""
        end = f": {said}" if said else ""
        self._say(f"{result.status}: {result.task} [{result.host}]{took}{end}")
        for line in text.failure(result):
            self._say(f"    {line}")
        for warning in [] if self._check else result.warnings:
            self._say(f"    warning: {warning}")
        for diff in result.diff if result.changed and self._detail.lines else []:
            for line in text.diff_lines(diff):
                self._say(f"    {line}".rstrip())

    def _notice(self, notice: Notice) -> None:
        for line in notice.text.splitlines():
            self._say(f"{notice.level}: {line}")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Brief:
    """For logs: a line with the time for each step that did or would do something, and for the end.

    Of the check run before an apply only what ends the matter: a failure, or nothing to change.
    A call that did nothing because of another running one is that one line.
    """

    def __init__(self, *, only_check: bool, stream: TextIO | None = None) -> None:
        self._only_check = only_check
        self._stream = stream or sys.stdout
        self._check = True
        self._results: list[TaskResult] = []
        self._counts: Mapping[str, HostCounts] = {}

    def __call__(self, event: Event) -> None:
        """Take in one event. A real run's steps are said as they end, those of a check after it."""
        match event:
            case RunStarted():
                self._check, self._results = event.check, []
            case TaskResult():
                self._results.append(event)
                if not self._check:
                    self._say(event.at, _brief(event))
            case Recap():
                self._counts = event.hosts
            case RunFinished() if not event.check or self._only_check or not self._goes_on(event):
                self._end(event)
            case _:
                pass

    def _end(self, event: RunFinished) -> None:
        """Say what is still to be said, and how the run ended."""
        changed = any(result.changed for result in self._results)
        heads = fleet.headlines(self._results) if event.check or not changed else []
        steps = [line for result in self._results for line in _brief(result)]
        held = event.exit_code == ExitCode.LOCKED or text.is_held(self._results)
        self._say(event.at, [*heads, *steps] if event.check else heads)
        if not (held and len(heads) + len(steps) == 1):
            self._say(event.at, fleet.conclusion(event, self._results, self._counts))

    def _say(self, at: str, lines: Sequence[str]) -> None:
        for line in lines:
            print(f"{at} {line}", file=self._stream, flush=True)

    @staticmethod
    def _goes_on(check: RunFinished) -> bool:
        return check.exit_code == ExitCode.OK and bool(check.changed or check.unchecked)


def _brief(result: TaskResult) -> list[str]:
    """A step in a line; none for one that did nothing."""
    failed = text.failure(result)
    if not result.changed and not failed:
        return []
    said = " ".join(failed) or text.summary(result)
    return [f"{result.status}: {result.task} [{result.host}]{': ' if said else ''}{said}"]


_SYMBOLS = {
    Status.OK: ("✓", "green"),
    Status.CHANGED: ("●", "yellow"),
    Status.SKIPPED: ("·", "dim"),
    Status.FAILED: ("✗", "bold red"),
    Status.UNREACHABLE: ("✗", "bold red"),
    Status.IGNORED: ("✗", "dim yellow"),
}

_DIFF_STYLES = (
    ("+++", "bold"),
    ("---", "bold"),
    ("@@", "cyan"),
    ("+", "green"),
    ("-", "red"),
    ("…", "dim"),
)


class Terminal(_Steps):
    """For people at a terminal: each step as it runs, what changed, the diff in colour.

    ``live``: with a line that says what is running now, and one for each table that it works on.
    """

    def __init__(self, detail: Detail, stream: TextIO | None = None, *, live: bool = True) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        super().__init__(detail)
        self._live = Live(self._console) if live else None
        self._hosts: set[str] = set()
        self._ended: list[TaskResult] = []

    @property
    def _width(self) -> int:
        return min(self._console.width, WIDEST)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._live:
            self._live(event)
        if isinstance(event, TaskResult):
            self._hosts.add(event.host)
        elif not isinstance(event, Progress | Notice):
            self._show_ended()
        super().__call__(event)

    def _print(self, *lines: Line, indent: int = 0) -> None:
        """Print lines at once: the spinner is redrawn once."""
        from rich.text import Text

        if lines:
            parts = (Text(part, style=line.style) for line in lines
                     for part in self._folded(line, indent))  # fmt: skip
            self._console.print(Text("\n").join(parts))

    def _folded(self, line: Line, indent: int) -> list[str]:
        """A line as lines that fit, broken between words; one that is to be copied stays whole."""
        said = " " * indent + line.text
        return [said] if line.exact else text.fold(said, self._width)

    def _play(self, event: PlayStarted) -> None:
        self._print(Line(""), Line(event.name, "bold"))

    def _progress(self, event: TaskStarted | Progress) -> None:
        """Nothing: the line that says what is running shows it."""

    def _header(self, event: RunStarted) -> None:
        from rich.text import Text

        title = Text.assemble(
            ("Check ", "bold cyan") if event.check else ("Apply ", "bold magenta"),
            (event.playbook, "bold"), " → ", (text.where(event), "bold"),
            ("   nothing is changed" if event.check else "", "dim"),
        )  # fmt: skip
        self._console.print()
        self._console.print(title)

    def _result(self, result: TaskResult) -> None:
        """Show a step at once if it has more than a line, else with those of other hosts."""
        if text.failure(result) or result.warnings or self._detail.lines:
            self._show([result.host], [result], text.summary(result))
        else:
            self._ended.append(result)

    def _show_ended(self) -> None:
        """Show the step that has ended on every host, hosts where it came to the same together."""
        ended, self._ended = self._ended, []
        for status in dict.fromkeys(result.status for result in ended):
            of_status = {result.host: result for result in ended if result.status == status}
            said = {host: text.whole_summary(result) for host, result in of_status.items()}
            for hosts, line in fleet.folded(said):
                self._show(hosts, [of_status[host] for host in hosts], text.one_line(line))

    def _show(self, hosts: Sequence[str], results: Sequence[TaskResult], said: str) -> None:
        """Show a step of ``hosts``, of which ``said`` is the summary."""
        result = results[0]
        # Of a host that was not reached, the command that must work.
        exact = result.status == Status.UNREACHABLE
        lines = [Line(line, _tone(result), exact) for line in text.failure(result)]
        if said:
            lines.append(Line(said, "yellow" if result.changed else "dim"))
        if not self._check:
            lines += [Line(f"warning: {warning}", "yellow") for warning in result.warnings]
        for diff in result.diff if result.changed and self._detail.lines else []:
            lines += [Line(line, _diff_style(line), exact=True) for line in text.diff_lines(diff)]
        self._console.print(self._title(hosts, results))
        self._print(*lines, indent=6)

    def _title(self, hosts: Sequence[str], results: Sequence[TaskResult]) -> Any:
        """Symbol and name at the left, time at the right: of several hosts the longest."""
        from rich.text import Text

        result = results[0]
        symbol, style = _SYMBOLS[result.status]
        several = len(self._hosts) > 1
        name = result.task + (f"  [{fleet.named(hosts, self._hosts)}]" if several else "")
        if result.status in (Status.SKIPPED, Status.IGNORED, Status.UNREACHABLE):
            name += f"  {result.status}"
        took = f"{max(each.seconds for each in results):.1f} s"
        width = min(self._console.width, 100) - len(took) - 5
        name = name if len(name) < width else f"{name[: max(width - 2, 1)]}…"
        room = max(width - len(name), 1)
        quiet = "dim" if result.status == Status.SKIPPED else ""
        return Text.assemble("  ", (symbol, style), " ", (name, quiet), " " * room, (took, "dim"))

    def _notice(self, notice: Notice) -> None:
        if notice.level == "verbose":
            self._print(*(Line(line, "dim") for line in notice.text.splitlines()), indent=2)
            return
        style = "bold red" if notice.level == "error" else "yellow"
        self._print(Line(f"{notice.level}: {notice.text}", style), indent=2)


def _tone(result: TaskResult) -> str:
    return "dim" if result.status == Status.IGNORED else "red"


def _diff_style(line: str) -> str:
    return next((style for start, style in _DIFF_STYLES if line.startswith(start)), "")
