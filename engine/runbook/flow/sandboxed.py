"""The packaged sandbox starts by itself when it is the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook import collection

if TYPE_CHECKING:
    from runbook.load.targets import Target


def bring_up(target: Target) -> None:
    """Start the target if it is the sandbox."""
    packaged = collection.root() / "inventories/sandbox"
    if target.path and target.path.resolve() == packaged.resolve():
        from runbook.sandbox import lifecycle

        lifecycle.ensure_up()
