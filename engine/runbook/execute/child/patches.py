"""Every attribute of another library that the engine replaces, and why.

``pexpect.spawn.close``, by ``close_at_once``
    Versions: pexpect 4, another one is left as it is. Reason: ptyprocess sleeps before it looks
    whether the process has ended, ansible-runner closes the terminal, and neither pexpect nor
    ansible-runner has an option for that wait. Gain: 0.1 s of each run of ansible, of about 2 s.
    Not with ``RUNBOOK_FAST=0``, like all that only saves time.

``event_context.cache.set`` of ansible-runner's callback, by ``events_or_end``
    Versions: ansible-runner 2, which the engine requires. Reason: of an event that cannot be kept,
    as on a full disk, Ansible only warns, and the engine would never hear of a change, or Ansible
    loses the thread that takes results and waits forever. No interface says that an event was lost.
    Gain: none in time, so ``RUNBOOK_FAST`` does not switch it off.
"""

from __future__ import annotations

import os
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def fast() -> bool:
    """Whether a run may do what only saves time; ``RUNBOOK_FAST=0`` says no."""
    return os.environ.get("RUNBOOK_FAST", "1") != "0"


def close_at_once() -> None:
    """Have pexpect close a terminal without a wait when its process has ended already."""
    import pexpect  # type: ignore[import-untyped]

    original = pexpect.spawn.close
    known = metadata.version("pexpect").startswith("4.")
    if not (fast() and known and original.__module__ == "pexpect.pty_spawn"):
        return

    def close(self: Any, force: bool = True) -> None:  # noqa: FBT001, FBT002 - pexpect's
        if not self.closed and not self.isalive():
            self.ptyproc.delayafterclose = 0
        original(self, force)

    pexpect.spawn.close = close


def events_or_end(cache: Any, lost: Callable[[OSError], None]) -> None:
    """Have ansible-runner's callback report an event that it cannot keep, and stop there."""
    keep = cache.set

    def kept(key: str, event: Any) -> None:
        try:
            keep(key, event)
        except OSError as error:
            lost(error)
            threading.Event().wait()  # nothing more may happen that is not followed

    cache.set = kept
