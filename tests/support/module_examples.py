"""The EXAMPLES of every module as one play, in the order in which a run uses the modules."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
MODULES = PROJECT / "plugins" / "modules"

#: Later ones use what earlier ones make.
ORDER = (
    "run_marker",
    "database_consistent",
    "iteration",
    "lease",
    "lock",
    "crontab_profile",
    "daemons",
    "s3_table_backup",
    "s3_table_backup_info",
    "pg_clear",
    "grid_availability",
    "scene_catalog",
    "f_pool",
    "static_sites",
    "f_sites",
    "worker_qualifications",
    "pg_transaction",
    "configuration",
    "labeller_config",
    "emr_learner",
    "geography_info",
    "geography",
    "journal_info",
    "doctor_info",
    "target_info",
    "undo",
)

#: Those that need what a sandbox does not have; tests/e2e/test_httpd.py and
#: test_bootstrap.py run them.
ELSEWHERE = ("httpd", "target_environment")


def modules() -> set[str]:
    """Every module of the collection."""
    return {path.stem for path in MODULES.glob("*.py")}


def tasks(module: str) -> list[dict[str, Any]]:
    """The tasks of a module's EXAMPLES."""
    tree = ast.parse((MODULES / f"{module}.py").read_text(encoding="utf-8"))
    [text] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "EXAMPLES"
    ]
    found: list[dict[str, Any]] = yaml.safe_load(text)
    return found


def play(modules: Sequence[str] = ORDER) -> list[dict[str, Any]]:
    """The tasks of ``modules`` with what docs/playbooks.md has in every play: the role and the logins.

    Beside these only the handler that an example notifies, and the sandbox's crontab in place of
    the one of the user who runs the test.
    """
    return [
        {
            "name": "Examples",
            "hosts": "all",
            "gather_facts": False,
            "roles": [{"role": "labeller.runbook.parameters"}],
            "module_defaults": {
                "group/labeller.runbook.postgres": "{{ postgres_login }}",
                "group/labeller.runbook.aws": "{{ aws_login }}",
                "labeller.runbook.crontab_profile": {"crontab_file": "{{ crontab_file }}"},
            },
            "tasks": [task for module in modules for task in tasks(module)],
            "handlers": [{"name": "Restart httpd", "ansible.builtin.debug": {"msg": "restarted"}}],
        }
    ]
