# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's side of progress: what a module counts, as rates, time left, and words."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

#: Seconds over which a rate is taken: long enough not to flicker, short enough to follow.
WINDOW = 15.0


class Count(NamedTuple):
    """How far a table is in a phase (module_utils/progress.py); None is unknown."""

    table: str
    phase: str
    rows: int
    bytes: int
    total_rows: Optional[int]
    total_bytes: Optional[int]
    exact: bool
    done: bool

    @property
    def work(self) -> Tuple[int, Optional[int]]:
        """The amounts done and in total, in the unit whose total is known: rows, else bytes."""
        if self.total_rows:
            return self.rows, self.total_rows
        return self.bytes, self.total_bytes


class Sample(NamedTuple):
    """A count of bytes, and of work, at a time in seconds."""

    at: float
    bytes: int
    work: int


def parse(text: str) -> List[Count]:
    """The entries of a progress file; none unless it is one."""
    try:
        tables = json.loads(text)["tables"]
        found = [Count(table=str(name), **values) for name, values in tables.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return found if all(_sound(count) for count in found) else []


def _sound(count: Count) -> bool:
    numbers = (count.rows, count.bytes, count.total_rows or 0, count.total_bytes or 0)
    flags = (count.exact, count.done)
    return (
        isinstance(count.phase, str)
        and all(type(number) is int for number in numbers)
        and all(type(flag) is bool for flag in flags)
    )


def rate(samples: Sequence[Sample]) -> Tuple[Optional[float], Optional[float]]:
    """Bytes, and work, a second over the samples; None before there are two."""
    first, last = samples[0], samples[-1]
    seconds = last.at - first.at
    if seconds <= 0:
        return None, None
    return (last.bytes - first.bytes) / seconds, (last.work - first.work) / seconds


def seconds_left(count: Count, speed: Optional[float]) -> Optional[float]:
    """How long the rest takes at that speed; None when unknown."""
    work, whole = count.work
    if count.done or not speed or whole is None or whole < work:
        return None
    return (whole - work) / speed


class Rates:
    """Remembers counts for long enough to compute their rate."""

    def __init__(self) -> None:
        self._samples: Dict[Tuple[str, str], Deque[Sample]] = {}
        self._told: Dict[str, Count] = {}

    def news(self, now: float, counts: Sequence[Count]) -> Iterator[Dict[str, Any]]:
        """The reports of ``counts``, read at ``now``.

        A table in progress is reported each time, with its rate; one that waits or is done, once.
        """
        for count in counts:
            samples = self._samples.setdefault((count.table, count.phase), deque())
            samples.append(Sample(now, count.bytes, count.work[0]))
            while len(samples) > 2 and (now - samples[0].at > WINDOW or not samples[1].bytes):
                samples.popleft()  # too old, or from when the table still waited
            running = (count.rows or count.bytes) and not count.done
            if not running and self._told.get(count.table) == count:
                continue
            self._told[count.table] = count
            by_bytes, by_work = rate(samples)
            left = seconds_left(count, by_work)
            yield {
                **count._asdict(),
                "bytes_per_second": None if by_bytes is None or count.done else round(by_bytes),
                "seconds_left": None if left is None else round(left),
                "message": sentence(count, by_bytes, left),
            }


def sentence(count: Count, speed: Optional[float], left: Optional[float]) -> str:
    """A table's progress for people: ``back up: 1,200 of ~2,000 rows, 34.1 MB, 12.3 MB/s, 0:42
    left``; totals that are estimates have a tilde.
    """
    if (count.rows, count.bytes, count.total_rows) == (0, 0, None):
        return count.phase + (": done" if count.done else " …")
    about = "" if count.exact else "~"
    rows = "{:,}".format(count.rows)
    if count.total_rows is not None and not count.done:
        rows += " of {}{:,}".format(about, count.total_rows)
    said = [rows + " rows"]
    if count.bytes:
        said.append(size(count.bytes))
    if count.done:
        said.append("done")
    elif count.rows or count.bytes:
        said += [] if speed is None else [size(speed) + "/s"]
        said += [] if left is None else [duration(left) + " left"]
    return "{}: {}".format(count.phase, ", ".join(said))


def size(number: float) -> str:
    """Bytes with three digits or so: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:  # what would not be written as 1000
            digits = 0 if unit == "B" or number >= 99.95 else 1
            return "{:.{}f} {}".format(number, digits, unit)
        number /= 1000
    return "{:,.1f} TB".format(number)


def duration(seconds: float) -> str:
    """``0:42``, ``12:05``, ``3:04:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return "{}:{:02d}:{:02d}".format(hours, minutes, rest)
    return "{}:{:02d}".format(minutes, rest)
