"""Every module goes through the one action plugin."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ansible_collections.labeller.runbook.plugins.plugin_utils import action

PLUGINS = Path(__file__).resolve().parent.parent.parent / "plugins"
PACKAGE = "ansible_collections.labeller.runbook.plugins"
MODULES = {path.stem for path in (PLUGINS / "modules").glob("*.py")}
LINE = f"from {action.__name__} import ActionModule\n"


def test_every_module_has_its_file() -> None:
    found = {path.stem: path.read_text() for path in (PLUGINS / "action").glob("*.py")}
    assert found == dict.fromkeys(MODULES, LINE)


def test_the_modules_that_report_progress_are_those_with_the_option() -> None:
    modules: dict[str, Any] = {
        name: importlib.import_module(f"{PACKAGE}.modules.{name}") for name in MODULES
    }
    with_option = {
        name for name, module in modules.items() if "progress" in vars(module)["DOCUMENTATION"]
    }
    assert with_option == action.REPORTING
