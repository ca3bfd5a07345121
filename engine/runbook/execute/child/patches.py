"""Every attribute of another library that the engine replaces, and why.

Each saves time only or, for ``prompts``, gives what no public interface gives. Those that save time
are used with the versions that they were measured with, and not at all with ``RUNBOOK_FAST=0``.

- ``close_at_once``: ``pexpect.spawn.close``, pexpect 4. ptyprocess sleeps for 0.1 s before it looks
  whether the process has ended, which is 0.1 s of every run; ansible-runner does not hand out the
  object whose setting that is.
- ``prompts``: ``ansible.utils.display.Display.prompt``, every version. The questions of ``--step``
  would be put to the terminal of the ansible process, which is not the operator's.
"""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def fast() -> bool:
    """Whether a run may do what only saves time; ``RUNBOOK_FAST=0`` says no."""
    return os.environ.get("RUNBOOK_FAST", "1") != "0"


def _known(package: str, series: str) -> bool:
    return metadata.version(package).startswith(f"{series}.")


def close_at_once() -> None:
    """Have pexpect close a terminal without a wait when its process has ended already."""
    import pexpect  # type: ignore[import-untyped]

    original = pexpect.spawn.close
    if not (fast() and _known("pexpect", "4") and original.__module__ == "pexpect.pty_spawn"):
        return

    def close(self: Any, force: bool = True) -> None:  # noqa: FBT001, FBT002 - pexpect's
        if not self.closed and not self.isalive():
            self.ptyproc.delayafterclose = 0
        original(self, force)

    pexpect.spawn.close = close


def prompts(ask: Callable[[str, bool], str]) -> None:
    """Have Ansible put its questions to ``ask(question, private)``."""
    from ansible.utils.display import Display

    def prompt(question: str, private: bool = False) -> str:  # noqa: FBT001, FBT002 - Ansible's
        return ask(question, private)

    Display.prompt = staticmethod(prompt)
