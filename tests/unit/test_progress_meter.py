"""The module's side of progress: counts of tables in a small file that is replaced as a whole."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from ansible_collections.labeller.runbook.plugins.module_utils import progress
from ansible_collections.labeller.runbook.plugins.module_utils.progress import Total


def read(path: Path) -> dict[str, dict[str, object]]:
    text = path.read_text()
    tables: dict[str, dict[str, object]] = json.loads(text)["tables"] if text else {}
    return tables


def test_the_file_follows_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 3600)  # the test says when
    path = tmp_path / "progress"
    meter = progress.Meter(str(path))
    meter.begin("back up", {"hits": Total(10, None, exact=True, parts=2), "empty": Total(0)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path)["hits"] == {
        "phase": "back up", "rows": 0, "bytes": 0, "total_rows": 10, "total_bytes": None,
        "exact": True, "done": False,
    }  # fmt: skip
    meter.add("back up", "hits", 4, 400, 1)
    meter.add("back up", "hits", 3, 300)
    assert read(path)["hits"]["rows"] == 0
    meter.flush()
    assert read(path)["hits"]["rows"] == 7
    meter.add("fingerprint", "hits", 10, 8192, 1)
    meter.add("back up", "unknown", 10, 8192, 1)
    meter.add("back up", "hits", 3, 0, 1)
    assert (read(path)["hits"]["rows"], read(path)["hits"]["bytes"]) == (10, 700)
    assert read(path)["hits"]["done"]
    meter.remove()
    assert list(tmp_path.iterdir()) == []
    meter.add("back up", "hits", 1, 0, 1)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_estimated_meanwhile_and_exact_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    piece = b'1,"a\nb"\n' * 200_000
    with progress.written_to(str(path)):
        progress.begin("back up", lambda: {"hits": Total(200_000)})
        counter = progress.counter("back up", "hits")
        assert list(counter.over([piece])) == [piece]
        counter.end(200_000)
        assert read(path)["hits"]["rows"] == 200_000
        assert read(path)["hits"]["bytes"] == len(piece)
    assert not path.exists()


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "progress"

    def fail() -> None:
        with progress.written_to(str(path)), progress.loading("restore", "hits", Total(1)):
            progress.of_this_thread().piece(b"1\n")
            assert read(path)["hits"]["done"] is False
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert list(tmp_path.iterdir()) == []
    progress.of_this_thread().piece(b"1\n")


def test_without_a_path_nothing_is_counted(tmp_path: Path) -> None:
    with progress.written_to(None):
        progress.begin("back up", lambda: pytest.fail("totals were asked for"))
        counter = progress.counter("back up", "hits")
        pieces = [b"1\n"]
        assert counter.over(pieces) is pieces
        counter.end(1)


def test_a_place_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    link = tmp_path / "progress.new"
    link.symlink_to(tmp_path / "elsewhere")
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for path in (tmp_path / "progress", taken, tmp_path / "no such folder" / "progress"):
        with progress.written_to(str(path)):
            progress.begin("back up", lambda: {"hits": Total(1)})
    assert sorted(tmp_path.iterdir()) == [link, taken]
    assert taken.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_the_file_is_written_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    written = threading.Event()
    flush = progress.Meter.flush

    def flushed(meter: progress.Meter) -> None:
        flush(meter)
        if read(tmp_path / "progress").get("hits", {}).get("rows") == 3:
            written.set()

    monkeypatch.setattr(progress.Meter, "flush", flushed)
    with progress.written_to(str(tmp_path / "progress")):
        progress.begin("back up", lambda: {"hits": Total(10, parts=2)})
        progress.add("back up", "hits", 3, 300)
        assert written.wait(10)


def test_what_a_killed_module_left_goes_after_a_day(tmp_path: Path) -> None:
    old, new, other = (
        tmp_path / f"{name}x" for name in ("runbook-progress-a", "runbook-progress-b", "mine")
    )
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    with progress.written_to(str(tmp_path / "runbook-progress-c")):
        assert not old.exists()
    assert sorted(tmp_path.iterdir()) == [other, new]
