# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How far a backup or a restore is, in a small file that is read while the module runs.

A module answers only at its end, so it writes a file, and the action plugin reads it meanwhile.
``written_to`` opens it for what runs inside; without a path, and for callers that are no module,
every function here does nothing.

While a piece of a table is copied, its rows are estimated from a sample of each megabyte; at its
end they are what the server counted.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager, suppress
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    TextIO,
)

from . import files

#: Seconds between two versions of the file.
INTERVAL = 0.5
_SAMPLE = 1 << 16
#: How the action plugin's names of files begin. One that is removed as a killed module's, whose
#: module lives after all, is written again.
PREFIX = "runbook-progress-"

FINGERPRINT, BACK_UP, VERIFY, RESTORE = "fingerprint", "back up", "verify", "restore"
#: Phases that are a statement or two of the server's, without numbers.
COMPARE, FILL, INDEX = "compare", "fill", "index"


class Total(NamedTuple):
    """The totals of a phase for a table: None is unknown; done after so many ``parts``."""

    rows: Optional[int] = None
    bytes: Optional[int] = None
    exact: bool = False
    parts: int = 1


class _Table:
    def __init__(self, phase: str, total: Total) -> None:
        self.phase, self.total = phase, total
        self.rows = self.bytes = self.parts = 0

    def as_json(self) -> Dict[str, Any]:
        return {
            "phase": self.phase,
            "rows": self.rows,
            "bytes": self.bytes,
            "total_rows": self.total.rows,
            "total_bytes": self.total.bytes,
            "exact": self.total.exact,
            "done": self.parts >= self.total.parts,
        }


class Meter:
    """The counts of every table, and the file that holds them; threads may share it.

    The file follows within ``INTERVAL``; a table that begins or is done is in it at once.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._tables: Dict[str, _Table] = {}
        self._lock = threading.Lock()
        self._made: Set[str] = set()
        self._changed = False
        #: Whether the file can be written: a full disk must not end a backup that needs no file.
        self._open = True
        with self._given_up_on_error():
            self._create(path).close()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._keep, daemon=True, name="progress")
        self._writer.start()

    def begin(self, phase: str, totals: Mapping[str, Total]) -> None:
        """Every table of ``totals`` enters a phase, with nothing done."""
        with self._lock:
            for table, total in totals.items():
                self._tables[table] = _Table(phase, total)
            self._write()

    def add(self, phase: str, table: str, rows: int, size: int, parts: int = 0) -> None:
        """More of a table is done; nothing if it is in another phase."""
        with self._lock:
            found = self._tables.get(table)
            if found is None or found.phase != phase:
                return
            found.rows += rows
            found.bytes += size
            found.parts += parts
            self._changed = True
            if parts and found.parts >= found.total.parts:
                self._write()

    def remove(self) -> None:
        """Leave no file."""
        self._ended.set()
        self._writer.join()
        with self._lock:
            self._open = False
            for path in self._made:
                with suppress(FileNotFoundError):
                    os.remove(path)

    def flush(self) -> None:
        """The file says what is known now."""
        with self._lock:
            if self._changed:
                self._write()

    def _keep(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.flush()

    def _write(self) -> None:
        self._changed = False
        if not self._open:
            return
        tables = {name: table.as_json() for name, table in self._tables.items()}
        new = self._path + ".new"
        with self._given_up_on_error():
            with self._create(new) as file:
                json.dump({"tables": tables}, file)
            os.replace(new, self._path)

    def _create(self, path: str) -> TextIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        file = os.fdopen(os.open(path, flags, 0o600), "w")
        self._made.add(path)
        return file

    @contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._open = False


class Counter:
    """Counts one part of a table as its CSV passes."""

    def __init__(self, meter: Optional[Meter], phase: str, table: str) -> None:
        self._meter, self._phase, self._table = meter, phase, table
        self._rows = 0

    def piece(self, data: Any) -> None:
        """About a megabyte has passed."""
        if self._meter is not None:
            size = len(data)
            sample = bytes(data[:_SAMPLE])
            rows = sample.count(b"\n") * size // max(1, len(sample))
            self._rows += rows
            self._meter.add(self._phase, self._table, rows, size)

    def over(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        """The same pieces, counted as they are taken."""
        return pieces if self._meter is None else self._over(pieces)

    def _over(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.piece(piece)
            yield piece

    def end(self, rows: int, parts: int = 1) -> None:
        """The part is through and had so many rows."""
        if self._meter is not None:
            self._meter.add(self._phase, self._table, rows - self._rows, 0, parts)


_meter: Optional[Meter] = None
_thread = threading.local()


@contextmanager
def written_to(path: Optional[str]) -> Iterator[None]:
    """Write the progress of what runs inside, in any thread, to ``path``; remove it after."""
    global _meter  # noqa: PLW0603 - as deep in the call tree as a log message, and as optional
    if not path:
        yield
        return
    files.remove_stale(os.path.dirname(path), PREFIX)
    _meter = Meter(path)
    try:
        yield
    finally:
        meter, _meter = _meter, None
        meter.remove()


def begin(phase: str, totals: Callable[[], Mapping[str, Total]]) -> None:
    """Tables enter a phase; ``totals`` is only called when progress is read."""
    if _meter is not None:
        _meter.begin(phase, totals())


def add(phase: str, table: str, rows: int, size: int) -> None:
    """A part of a table is through."""
    if _meter is not None:
        _meter.add(phase, table, rows, size, 1)


def counter(phase: str, table: str) -> Counter:
    """Counts a part of a table."""
    return Counter(_meter, phase, table)


@contextmanager
def loading(phase: str, table: str, total: Total) -> Iterator[None]:
    """Report what this thread loads (``of_this_thread``) as a table in a phase, done at the end."""
    begin(phase, lambda: {table: total})
    _thread.counter = (phase, table)
    try:
        yield
    finally:
        _thread.counter = None
    add(phase, table, 0, 0)


@contextmanager
def step(phase: str, table: str) -> Iterator[None]:
    """A phase of a table that has no numbers."""
    begin(phase, lambda: {table: Total()})
    yield
    add(phase, table, 0, 0)


def of_this_thread() -> Counter:
    """Counts what this thread loads now."""
    phase, table = getattr(_thread, "counter", None) or ("", "")
    return Counter(_meter if table else None, phase, table)
