"""The sandbox's cron: a process of its own (``python -m runbook.sandbox.cron``) for its crontab.

Each entry that is new in the file runs once at once, so that a sandbox's daemons need not wait for
the next five minutes; after that by its schedule.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runbook.home import write_whole
from runbook.sandbox.processes import serve
from runbook.sandbox.state import Home

#: How often the file is looked at, in seconds.
POLL = 0.2

#: Of minute, hour, day of the month, month and day of the week (0 and 7 are Sunday).
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))

_FIELD = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?")
_ASSIGNMENT = re.compile(r"""\s*(["']?)(\w+)\1\s*=\s*(.*?)\s*""")


@dataclass(frozen=True)
class Entry:
    """A command, when it runs, and the variables that were assigned above it."""

    fields: tuple[frozenset[int], ...]
    restricted: tuple[bool, bool]
    command: str
    environment: tuple[tuple[str, str], ...]

    def due(self, now: datetime) -> bool:
        """Whether it runs in this minute; of the two kinds of day either will do, as in cron(8)."""
        minute, hour, day, month, weekday = self.fields
        if now.minute not in minute or now.hour not in hour or now.month not in month:
            return False
        by_day, by_weekday = now.day in day, now.isoweekday() % 7 in weekday
        return (by_day or by_weekday) if all(self.restricted) else (by_day and by_weekday)


def parse(text: str) -> list[Entry]:
    """The entries of a crontab; lines that are none are left out."""
    entries = []
    environment: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if assignment := _ASSIGNMENT.fullmatch(line):
            environment[assignment[2]] = _unquoted(assignment[3])
        elif entry := _entry(line, environment):
            entries.append(entry)
    return entries


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _entry(line: str, environment: dict[str, str]) -> Entry | None:
    parts = line.split(None, 5)
    if len(parts) < 6:
        return None
    sets = [_values(part, *limits) for part, limits in zip(parts, RANGES, strict=False)]
    if any(values is None for values in sets):
        return None
    minute, hour, day, month, weekday = (values or frozenset() for values in sets)
    return Entry(
        (minute, hour, day, month, frozenset(value % 7 for value in weekday)),
        (parts[2][0] != "*", parts[4][0] != "*"),
        parts[5],
        tuple(environment.items()),
    )


def _values(field: str, low: int, high: int) -> frozenset[int] | None:
    values: set[int] = set()
    for part in field.split(","):
        match = _FIELD.fullmatch(part)
        if not match:
            return None
        first, last, step = (int(group) if group else None for group in match.groups())
        if first is None:
            first, last = low, high
        elif last is None:
            last = high if step else first
        if not low <= first <= last <= high or step == 0:
            return None
        values.update(range(first, last + 1, step or 1))
    return frozenset(values)


def command_line(entry: Entry) -> tuple[list[str], str]:
    """The command of an entry and its input: ``%`` ends the command, ``\\%`` is a per cent sign."""
    command, _, given = re.sub(r"(?<!\\)%", "\n", entry.command).partition("\n")
    shell = dict(entry.environment).get("SHELL", "/bin/sh")
    return [shell, "-c", command.replace("\\%", "%")], given.replace("\\%", "%")


def execute(entry: Entry, log: Path) -> subprocess.Popen[str]:
    """Start the entry in a session of its own; its output goes to ``log``, where cron mails."""
    arguments, given = command_line(entry)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=sink, stderr=sink, start_new_session=True,
            env={**os.environ, **dict(entry.environment)}, cwd=log.parent, text=True,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        process.stdin.write(given)
        process.stdin.close()
    except BrokenPipeError:
        return process  # it does not read what it is given
    return process


class Cron:
    """The crontab as last read, and what has been started from it."""

    def __init__(self, crontab: Path, log: Path) -> None:
        self.crontab = crontab
        self.log = log
        self.entries: list[Entry] = []
        self.minute: datetime | None = None
        self.running: list[subprocess.Popen[str]] = []

    def step(self, now: datetime) -> None:
        """Read the crontab and start what is new in it and what is due."""
        self.running = [process for process in self.running if process.poll() is None]
        entries = self._read()
        new = Counter(entries) - Counter(self.entries)
        self.entries = entries
        minute = now.replace(second=0, microsecond=0)
        due = [entry for entry in entries if entry not in new and entry.due(minute)]
        starts = [*new.elements(), *(due if minute != self.minute else [])]
        self.minute = minute
        for entry in starts:
            try:
                self.running.append(execute(entry, self.log))
            except OSError as error:
                with self.log.open("a") as sink:
                    sink.write(f"{entry.command}: {error}\n")

    def _read(self) -> list[Entry]:
        try:
            return parse(self.crontab.read_text(errors="surrogateescape"))
        except FileNotFoundError:
            return []


def main(folder: str) -> None:
    """Serve until stopped; ``run/cron.ready`` says that the first entries have come to an end."""
    home = Home(Path(folder))
    me = serve(home, "cron")
    cron = Cron(home.crontab, home.run / "cron.log")
    cron.minute = datetime.now().astimezone().replace(second=0, microsecond=0)
    cron.step(datetime.now().astimezone())
    for process in cron.running:
        process.wait()
    write_whole(home.run / "cron.ready", str(me.started), 0o600)
    while True:
        time.sleep(POLL)
        cron.step(datetime.now().astimezone())


if __name__ == "__main__":
    main(sys.argv[1])
