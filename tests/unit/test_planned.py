"""The plan of the check run reaches the same step of the real run, and no other."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ansible_collections.labeller.runbook.plugins.plugin_utils import planned

from runbook.execute import runner, translate

if TYPE_CHECKING:
    from pathlib import Path


def event(path: str, result: dict[str, Any], host: str = "one") -> dict[str, Any]:
    return {
        "event": "runner_on_ok", "event_data": {"host": host, "task_path": path, "res": result},
    }  # fmt: skip


def done(number: int, **more: Any) -> dict[str, Any]:
    entry = {"resource": f"r{number}", "action": "none", "counts": {}, "before_fingerprint": "x"}
    return {"plan": [entry], "diff": [], **more}


def environment(folder: Path, *events: dict[str, Any]) -> dict[str, str]:
    found: dict[str, list[Any]] = {}
    for raw in events:
        for step, result in translate.planned(raw):
            found.setdefault(step, []).extend([result] if result else [])
    (folder / "planned.json").write_text(json.dumps(found))
    return {"RUNBOOK_PLANNED": str(folder / "planned.json")}


def resource(path: str, uuid: str, variables: dict[str, Any], given: dict[str, str]) -> Any:
    changes = planned.of_task(path, uuid, {"inventory_hostname": "one", **variables}, given)
    return changes and changes[0]["resource"]


def test_a_step_is_found_by_host_place_and_item(tmp_path: Path) -> None:
    items = [done(n, ansible_loop_var="item", item={"run": n}) for n in (2, 3)]
    given = environment(
        tmp_path, event("/p.yml:1", done(1)), event("/p.yml:5", {"results": items}),
        event("/p.yml:1", done(4), host="two"), event("/p.yml:7", {"msg": "of another module"}),
    )  # fmt: skip
    assert resource("/p.yml:1", "a", {}, given) == "r1"
    assert resource("/p.yml:1", "a", {"inventory_hostname": "two"}, given) == "r4"
    assert (
        resource("/p.yml:5", "b", {"ansible_loop_var": "item", "item": {"run": 3}}, given) == "r3"
    )
    assert (
        resource("/p.yml:5", "b", {"ansible_loop_var": "item", "item": {"run": 9}}, given) is None
    )
    assert resource("/p.yml:7", "c", {}, given) is None
    assert resource("/p.yml:1", "a", {}, {}) is None


def test_a_task_that_runs_twice_takes_its_plans_in_order(tmp_path: Path) -> None:
    given = environment(tmp_path, *(event("/p.yml:1", done(n)) for n in (1, 2)))
    assert [resource("/p.yml:1", uuid, {}, given) for uuid in "aabbc"] == [
        "r1", "r1", "r2", "r2", None,
    ]  # fmt: skip


def test_the_place_is_the_file_whatever_link_leads_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    given = environment(tmp_path, event(f"{tmp_path}/link/p.yml:1", done(1)))
    assert resource(f"{tmp_path}/p.yml:1", "a", {}, given) == "r1"


def skipped(path: str, **more: Any) -> dict[str, Any]:
    return {**event(path, {"skipped": True, **more}), "event": "runner_on_skipped"}


def test_a_step_that_the_check_left_out_is_planned_to_change_nothing(tmp_path: Path) -> None:
    items = [{**done(2), "ansible_loop_var": "item", "item": 2},
             {"skipped": True, "ansible_loop_var": "item", "item": 3}]  # fmt: skip
    given = environment(
        tmp_path, skipped("/p.yml:1"), skipped("/p.yml:2"), event("/p.yml:2", done(1)),
        event("/p.yml:3", {"results": items}),
    )  # fmt: skip
    assert planned.of_task("/p.yml:1", "a", {"inventory_hostname": "one"}, given) == []
    assert resource("/p.yml:2", "b", {}, given) == "r1"
    three = {"inventory_hostname": "one", "ansible_loop_var": "item", "item": 3}
    assert planned.of_task("/p.yml:3", "c", three, given) == []


def test_what_a_check_could_not_see_may_decide_about_later_steps() -> None:
    ran, left_out = {"plan": [], "diff": []}, "a step that its condition left out"
    watch = SimpleNamespace(planned={"a step": [ran], left_out: []}, unchecked=[])
    assert runner._planned(watch) == watch.planned
    watch.unchecked = ["Run a command"]
    assert runner._planned(watch) == {"a step": [ran]}
