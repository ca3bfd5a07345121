"""Puts the collection into the wheel as ``ansible_collections/labeller/runbook``.

Only for standard wheels: in an editable install a forced inclusion is a copy that goes stale,
so there the engine links the checkout's own folders (``runbook.collection``).
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HOME = "ansible_collections/labeller/runbook"
PARTS = (
    "galaxy.yml", "README.md", "docs", "meta", "playbooks", "plugins", "roles", "schemas",
    "inventories",
)  # fmt: skip


class CollectionHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            for part in PARTS:
                if (Path(self.root) / part).exists():
                    build_data["force_include"][str(Path(self.root) / part)] = f"{HOME}/{part}"
