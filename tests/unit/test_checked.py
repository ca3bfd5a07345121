"""Later steps of a check run learn what earlier ones would have stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.labeller.runbook.plugins.module_utils import daemons
from ansible_collections.labeller.runbook.plugins.modules import crontab_profile
from ansible_collections.labeller.runbook.plugins.modules import daemons as daemons_module
from ansible_collections.labeller.runbook.plugins.plugin_utils import checked

if TYPE_CHECKING:
    from pathlib import Path


def test_the_modules_with_the_option_are_those_that_get_it() -> None:
    for module in (crontab_profile, daemons_module):
        name = module.__name__.rpartition(".")[2]
        assert checked.OPTION in module.MODULE.argument_spec
        assert checked.STOPPING[name] in module.MODULE.argument_spec["state"]["choices"]


def test_a_crontab_that_was_taken_down_counts_as_down_on_that_host_and_home(
    tmp_path: Path,
) -> None:
    step = {"home": str(tmp_path), "state": "absent"}
    up = {"home": str(tmp_path), "state": "present", "profile": "full"}
    assert checked.of_task("one", "crontab_profile", up) is False
    checked.note("one", "crontab_profile", step)
    assert checked.of_task("one", "crontab_profile", up) is True
    assert checked.of_task("two", "crontab_profile", up) is False
    assert checked.of_task("one", "crontab_profile", {**up, "home": "/elsewhere"}) is False
    assert checked.of_task("one", "crontab_profile", {**up, "user": "mapper"}) is False
    checked.note("one", "crontab_profile", up)
    assert checked.of_task("one", "crontab_profile", step) is False


def test_daemons_that_were_stopped_count_as_stopped_by_name(tmp_path: Path) -> None:
    step: dict[str, Any] = {"home": str(tmp_path), "state": "stopped"}
    first, *rest = sorted(daemons.NAMES)
    checked.note("one", "daemons", {**step, "names": [first]})
    assert checked.of_task("one", "daemons", step) == [first]
    checked.note("one", "daemons", step)
    checked.note("one", "daemons", {**step, "state": "started", "names": [first]})
    assert checked.of_task("one", "daemons", step) == rest
