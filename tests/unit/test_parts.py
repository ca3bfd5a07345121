"""Parts of playbooks: their tags, and which of them may be left out."""

from __future__ import annotations

import itertools

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible_collections.labeller.runbook.plugins.filter.parts import skipped_parts

from runbook import collection
from runbook.load.walk.playbook import Walk

RUN_MODE = ["shutdown", "backup", "database", "configuration", "crontab"]
PARTS = {
    **dict.fromkeys(("initial", "single", "regular", "reset"), RUN_MODE),
    "geography": RUN_MODE[:3],
    "restore": RUN_MODE[:3],
    "start": RUN_MODE[3:],
}


@pytest.mark.parametrize("playbook", PARTS)
def test_every_step_has_the_tag_of_its_part_or_always(playbook: str) -> None:
    walk = Walk(frozenset(), open_names=True)
    walk.playbook(collection.root() / "playbooks" / f"{playbook}.yml")
    steps = [step for step in walk.steps if not step.handler]
    assert all(len(step.tags) == 1 for step in steps), steps
    order = [tag for tag, _ in itertools.groupby(step.tags[0] for step in steps)]
    assert order == ["always", *PARTS[playbook], "always"]


@pytest.mark.parametrize(
    ("run", "skip", "expected"),
    [
        ("all", "", []),
        ("all", "backup", ["backup"]),
        ("all", "crontab", []),
        ("all", "configuration,crontab", []),
        ("all", "shutdown,database", ["shutdown", "database"]),
        ("configuration", "", ["shutdown", "backup", "database"]),
        ("crontab", "", ["shutdown", "backup", "database", "configuration"]),
        ("shutdown,backup", "", []),
        ("shutdown,backup,database", "backup", ["backup"]),
        ("always", "", []),
        ("untagged", "", []),
        ("tagged", "database", ["database"]),
        ("all", "all", []),
        ("all", "tagged", []),
    ],
)
def test_what_is_left_out_before_a_selected_part(run: str, skip: str, expected: list[str]) -> None:
    tags = run.split(","), skip.split(",") if skip else []
    assert skipped_parts(RUN_MODE, *tags) == expected
    # Ansible itself selects the same parts.
    tasks = [{"debug": {}, "tags": [tag]} for tag in RUN_MODE]
    (block,) = Play.load({"hosts": "all", "tasks": tasks}, loader=DataLoader()).tasks
    selected = [n for n, task in enumerate(block.block) if task.evaluate_tags(*tags, all_vars={})]
    before = RUN_MODE[: selected[-1]] if selected else []
    assert [tag for n, tag in enumerate(before) if n not in selected] == expected
