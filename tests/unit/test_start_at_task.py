"""--start-at-task and --skip-tags may not leave out what gates a run mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook import collection
from runbook.load.run_input import examined
from runbook.load.source import Selection, Source

MODES = ("initial", "single", "regular", "reset")


def said(mode: str, **selection: str | tuple[str, ...]) -> str:
    playbook = collection.root() / "playbooks" / f"{mode}.yml"
    found = examined(Source.of(Path(playbook)), Selection(**selection))  # type: ignore[arg-type]
    return "; ".join(map(str, found.problems))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("Nope", "no task of"),
        ("Remove the crontb", "did you mean Remove the crontab?"),
        ("Reset the database for the run", "Safe to start at: Read the run marker"),
        ("Set labeller's settings", "would leave out what must run before it: Read the run marker"),
        ("Install the crontab*", "would leave out"),
        ("Take the lease", "would leave out"),
    ],
)
def test_a_step_behind_the_gates_is_no_start(mode: str, start: str, message: str) -> None:
    assert message in said(mode, start_at_task=start)


@pytest.mark.parametrize("mode", MODES)
def test_the_first_step_is_a_start(mode: str) -> None:
    assert said(mode, start_at_task="Read the run marker") == ""


@pytest.mark.parametrize(
    ("playbook", "start"),
    [
        ("start", "Set labeller's settings"),
        ("geography", "Load the geography"),
        ("restore", "Restore the tables"),
    ],
)
def test_others_have_gates_too(playbook: str, start: str) -> None:
    assert "would leave out what must run before it" in said(playbook, start_at_task=start)


def test_a_playbook_without_gates_may_start_anywhere() -> None:
    assert said("shutdown", start_at_task="Stop the daemons") == ""


@pytest.mark.parametrize("mode", MODES)
def test_the_gates_cannot_be_skipped_by_their_tag(mode: str) -> None:
    assert "check what must be so" in said(mode, skip_tags=("always",))
