"""Kill -9 of the engine, of ansible, of a module or of all, at any event and at random moments.

Then an apply or a resume ends in the state of an undisturbed run, and an undo in the state before it:
tables, objects, crontab and files. An undo that was killed is completed by the same command.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import pytest
import sequences
from command_line import Sandbox
from killed import begun, history, kill, wait_for_end

from runbook.errors import ExitCode
from runbook.sandbox import postgres

#: One worker has the runs that are left alone, which the rounds are compared with.
pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("killed_anywhere")]

#: Rounds of the campaign, 4 kills and a minute of CPU each; RUNBOOK_ROUNDS raises it.
ROUNDS = int(os.environ.get("RUNBOOK_ROUNDS", "3"))
#: What a round does one after another; each begins where the one before it ended.
RUNS = (
    ("regular.yml",),
    ("reset.yml", "-e", "run_id=1", "-e", "replaced_run=0"),
    ("restore.yml",),
)
VICTIMS = ("engine", "ansible", "module", "all")
WAYS = ("apply", "resume", "undo")
#: Seconds in which the lease of a run that died elsewhere than it was taken can be had.
PATIENCE = 90

#: What differs from run to run: times, and ids that a new sandbox's EC2 gives.
_OTHER = re.compile(
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?([+-]\d\d)?|\b(subnet|sg|i|vpc)-[0-9a-f]{8,17}\b"
)


def state(target: sequences.Target) -> dict[str, Any]:
    """All that a run leaves, without times: the lines of the database's dump, the objects, the files.

    Of backups, which are named by their time, ``Model.nothing_is_lost`` reads the rows.
    """
    dump = subprocess.run(
        [postgres.binaries() / "pg_dump", "--restrict-key=test", "--exclude-schema=runbook",
         target.status()["database_url"]],
        capture_output=True,
    )  # fmt: skip
    assert dump.returncode == 0, dump.stderr.decode()
    marked = target.query("SELECT to_regclass('runbook.run_marker') IS NOT NULL") == [(True,)]
    marker = (
        "SELECT mode, aoi_name, aoi_index, run_id, pending_uploads FROM runbook.run_marker"
        " ORDER BY id DESC LIMIT 1"
    )
    objects = [key for key in target.objects() if not key.startswith("backups/")]
    return {
        "database": sorted(_OTHER.sub(b"", dump.stdout).splitlines()),
        "marker": marked and target.query(marker),
        "objects": {key: _OTHER.sub(b"", target.body(key)) for key in objects},
        "crontab": target.crontab.read_bytes(),
        "configuration": _OTHER.sub(b"", target.configuration.read_bytes()),
    }


@dataclass(frozen=True)
class Undisturbed:
    """A run that was left alone."""

    state: dict[str, Any]
    events: int
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(shared_sandbox: Sandbox) -> list[Undisturbed]:
    """The runs of ``RUNS``, and an undo."""
    target = new(shared_sandbox)
    found = [left_alone(target, arguments) for arguments in RUNS]
    return [*found, left_alone(target, undoing(run_to_undo(target)))]


def left_alone(target: sequences.Target, arguments: tuple[str, ...]) -> Undisturbed:
    with begun(target, arguments) as run:
        assert run.process.wait() == 0, "".join(run.lines)
        seconds = time.monotonic() - run.begun
    return Undisturbed(state(target), run.events, seconds)


def run_to_undo(target: sequences.Target) -> str:
    """Reset once more; the run's id."""
    target.run("apply", *RUNS[1], "-i", "sandbox", "--yes")
    return str(history(target)[0]["run"])


def undoing(run_id: str) -> tuple[str, ...]:
    return ("undo.yml", "-e", f"undo_run={run_id}")


def new(sandbox: Sandbox) -> sequences.Target:
    """The sandbox as new."""
    sandbox.run("sandbox", "reset")
    return sequences.Target(sandbox.home)


def finish(target: Sandbox, *command: str) -> None:
    """Give a command as soon as the lease of the run that was killed can be had."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = target.run(*command, "-i", "sandbox", "--yes", exit_code=None)
        if done.returncode != ExitCode.LOCKED or time.monotonic() > deadline:
            assert done.returncode == 0, done.stdout + done.stderr
            return
        time.sleep(1)


def kill_somewhere(
    target: sequences.Target,
    arguments: tuple[str, ...],
    victim: str,
    number: int,
    expected: Undisturbed,
) -> str:
    """Begin a run and kill ``victim`` of it; the run's id.

    In even rounds at an event, of which enough rounds take each, in odd ones at a random moment.
    """
    events = random.Random(0).sample(range(1, expected.events + 1), expected.events)
    event = events[number // 2 % expected.events]
    later = random.Random(number).uniform(0, expected.seconds) if number % 2 else 0.0
    moment = f"{later:.2f} s" if later else f"event {event} of {expected.events}"
    print(f"{arguments[0]}: {victim} at {moment}")
    with begun(target, arguments) as run:
        run.wait(1 if later else event)
        if later:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(later)
        family = [] if run.process.poll() is not None else kill(victim, run.process.pid)
        if victim not in ("engine", "all"):
            run.process.wait(180)
    wait_for_end(family)
    return run.run_id


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The parts in which two states differ."""
    return [what for what, value in one.items() if other[what] != value]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_is_killed_anywhere_ends_as_if_undisturbed(
    number: int, shared_sandbox: Sandbox, undisturbed: list[Undisturbed]
) -> None:
    target = new(shared_sandbox)
    model = sequences.Model(target)
    for place, (arguments, expected) in enumerate(zip(RUNS, undisturbed[:-1], strict=True)):
        before = state(target)
        victim = VICTIMS[(number // 2 + place) % len(VICTIMS)]
        run_id = kill_somewhere(target, arguments, victim, number, expected)
        model.nothing_is_lost()
        way = WAYS[(number + place) % len(WAYS)]
        print(f"then {way}")
        unknown: tuple[str, ...] = ()
        if way == "undo" and run_id in [run["run"] for run in history(target)]:
            finish(target, "undo", run_id)
            left = differing(before, state(target))
            # No marker says that there was no run before the first one.
            assert set(left) <= ({"marker"} if place == 0 else set())
            unknown = ("-e", "replaced_run=unknown") if left else ()
        if way == "resume":
            finish(target, "resume", run_id)
        else:
            finish(target, "apply", *arguments, *unknown)
        model.nothing_is_lost()
        assert differing(expected.state, state(target)) == []
        newest = history(target)[0]  # the killed one, if it had nothing left to change
        assert newest["outcome"] == "done" or newest["run"] == run_id
    victim = VICTIMS[(number // 2 + len(RUNS)) % len(VICTIMS)]
    undo_somewhere(target, victim, number, undisturbed[-1])
    model.nothing_is_lost()


def undo_somewhere(
    target: sequences.Target, victim: str, number: int, expected: Undisturbed
) -> None:
    """A run that is left alone is undone; the undo is killed, and given again."""
    before = state(target)
    run_id = run_to_undo(target)
    kill_somewhere(target, undoing(run_id), victim, number, expected)
    finish(target, "undo", run_id)
    assert differing(before, state(target)) == []
