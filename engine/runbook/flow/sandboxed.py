"""The packaged sandbox starts by itself when it is the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook import collection

if TYPE_CHECKING:
    from pathlib import Path

    from runbook.load.targets import Target


def bring_up(target: Target) -> None:
    """Start the target if it is the sandbox."""
    if is_sandbox(target):
        from runbook.sandbox import lifecycle

        lifecycle.ensure_up()


def is_sandbox(target: Target) -> bool:
    """Whether a target is the packaged sandbox, which starts by itself."""
    return target.path is not None and _same(target.path, collection.root() / "inventories/sandbox")


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
