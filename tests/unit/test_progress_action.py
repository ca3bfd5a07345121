"""The action plugin's way of telling progress: nothing waits for it and nothing fails by it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.labeller.runbook.plugins.plugin_utils import following
from waiting import until

FILE = json.dumps(
    {"tables": {"hits": {"phase": "restore", "rows": 5, "bytes": 9, "total_rows": 10,
                         "total_bytes": 18, "exact": True, "done": False}}}
)  # fmt: skip


class File:
    """A progress file that gives ``answers``, the last of them again and again."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.read_at_all = threading.Event()

    def read(self) -> str:
        self.read_at_all.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_what_is_read_is_told_until_the_end() -> None:
    told: list[dict[str, Any]] = []
    enough = threading.Event()

    def tell(news: dict[str, Any]) -> None:
        told.append(news)
        if len(told) == 3:
            enough.set()

    file = File("", FILE[:20], FILE)
    with following.followed(file, tell, 0.001):
        assert enough.wait(10)
    assert {(news["table"], news["rows"]) for news in told} == {("hits", 5)}
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_a_short_module_is_not_followed() -> None:
    file = File(AssertionError("it was read"))
    with following.followed(file, pytest.fail, 3600):
        pass
    assert not file.read_at_all.is_set()


def test_a_connection_that_fails_ends_the_progress_only() -> None:
    file = File(AnsibleConnectionFailure("gone"))
    with following.followed(file, pytest.fail, 0.001):
        assert file.read_at_all.wait(10)
        until(lambda: "progress" not in [thread.name for thread in threading.enumerate()])


def test_the_engine_is_told_a_line_or_nothing(tmp_path: Path) -> None:
    channel = tmp_path / "channel"
    following._tell(str(channel), {"x": 1})
    os.mkfifo(channel)
    following._tell(str(channel), {"x": 1})  # without a reader
    pipe = os.open(channel, os.O_RDWR | os.O_NONBLOCK)
    try:
        following._tell(str(channel), {"x": "y" * select.PIPE_BUF})
        following._tell(str(channel), {"x": 2})
        assert os.read(pipe, 1 << 20) == b'{"x": 2}\n'
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe, b"." * 4096)
        following._tell(str(channel), {"x": 3})  # full
        assert b"x" not in os.read(pipe, 1 << 20)
    finally:
        os.close(pipe)


def test_without_an_engine_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [100.0], []
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(following.Display, "display", lambda _self, text: said.append(text))
    patient = following._Patient("db1")
    for second in range(25):
        now[0] = 100.0 + second
        patient.tell({"table": "hits", "done": False, "message": f"restore: {second} rows"})
        patient.tell({"table": "other", "done": True, "message": "restore: done"})
    assert said == ["db1: hits: restore: 10 rows", "db1: hits: restore: 20 rows"]
