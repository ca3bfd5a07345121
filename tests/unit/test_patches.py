"""The attributes of other libraries that the engine replaces (execute/child/patches.py)."""

from __future__ import annotations

import re

import pexpect
import pytest

from runbook.collection import root
from runbook.execute.child import patches

ORIGINAL = pexpect.spawn.close


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pexpect.spawn, "close", ORIGINAL)
    monkeypatch.delenv("RUNBOOK_FAST", raising=False)


def closed() -> pexpect.spawn:
    child = pexpect.spawn("/bin/true")
    child.expect(pexpect.EOF)
    child.wait()
    child.close()
    return child


def test_an_ended_process_is_closed_without_a_wait() -> None:
    assert closed().ptyproc.delayafterclose > 0
    patches.close_at_once()
    child = closed()
    assert (child.closed, child.exitstatus, child.ptyproc.delayafterclose) == (True, 0, 0)


def test_runbook_fast_0_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_FAST", "0")
    patches.close_at_once()
    assert pexpect.spawn.close is ORIGINAL


def test_another_version_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches.metadata, "version", lambda _: "5.0")
    patches.close_at_once()
    assert pexpect.spawn.close is ORIGINAL


def test_each_has_an_entry() -> None:
    """Each function of the module that is called from elsewhere is described, but ``fast``."""
    text = (root() / "engine/runbook/execute/child/patches.py").read_text()
    names = set(re.findall(r"^def ([a-z]\w+)", text, re.MULTILINE)) - {"fast"}
    assert names == set(re.findall(r", by ``(\w+)``$", patches.__doc__ or "", re.MULTILINE))
    for entry in (patches.__doc__ or "").split("\n\n")[1:]:
        assert all(f"{word}:" in entry for word in ("Versions", "Reason", "Gain"))
