"""Every module goes through the one action plugin."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.labeller.runbook.plugins.module_utils import journal_read
from ansible_collections.labeller.runbook.plugins.plugin_utils import action, bootstrap, journaled

PLUGINS = Path(__file__).resolve().parent.parent.parent / "plugins"
COLLECTIONS = PLUGINS.parent / ".build" / "collections"
PACKAGE = "ansible_collections.labeller.runbook.plugins"
MODULES = {path.stem for path in (PLUGINS / "modules").glob("*.py")}
LINE = f"from {action.__name__} import ActionModule\n"


def test_every_module_has_its_file() -> None:
    found = {path.stem: path.read_text() for path in (PLUGINS / "action").glob("*.py")}
    own = {"target_environment": LINE.replace("action", "bootstrap")}
    assert found == {**dict.fromkeys(MODULES, LINE), **own}
    assert issubclass(bootstrap.ActionModule, action.ActionModule)


def test_the_modules_that_report_progress_are_those_with_the_option() -> None:
    modules: dict[str, Any] = {
        name: importlib.import_module(f"{PACKAGE}.modules.{name}") for name in MODULES
    }
    with_option = {
        name for name, module in modules.items() if "progress" in vars(module)["DOCUMENTATION"]
    }
    assert with_option == action.REPORTING


def test_all_steps_of_an_ansible_process_have_one_run(tmp_path: Path) -> None:
    """Without the engine the first one makes its id, also when several are first."""
    code = (
        "import sys, json; from ansible import constants;"
        f"sys.path.insert(0, {str(COLLECTIONS)!r});"
        f"constants.DEFAULT_LOCAL_TMP = {str(tmp_path)!r};"
        "from ansible_collections.labeller.runbook.plugins.plugin_utils import journaled;"
        "print(journaled.of_run({'USER': 'olli'})['run'])"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    (run,) = {process.communicate()[0] for process in several}
    assert re.fullmatch(journal_read.RUN_ID, run.strip())
    given = {"RUNBOOK_RUN": "20260114T093012-3f9a1c", "RUNBOOK_OPERATOR": "anna@desk"}
    told = journaled.of_run(given)
    assert (told["run"], told["operator"]) == ("20260114T093012-3f9a1c", "anna@desk")
