"""Kill -9 of the engine, of ansible, of a module or of all, at any event and at random moments.

Then an apply or a resume ends in the state of an undisturbed run: tables, objects, crontab and files.
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

#: Rounds of the campaign, 3 kills and 30 s of CPU each; RUNBOOK_ROUNDS raises it.
ROUNDS = int(os.environ.get("RUNBOOK_ROUNDS", "4"))
#: What a round does one after another; each begins where the one before it ended.
RUNS = (
    ("regular.yml",),
    ("reset.yml", "-e", "run_id=1", "-e", "replaced_run=0"),
    ("restore.yml",),
)
VICTIMS = ("engine", "ansible", "module", "all")
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
    objects = [key for key in target.objects() if not key.startswith("backups/")]
    return {
        "database": sorted(_OTHER.sub(b"", dump.stdout).splitlines()),
        "marker": target.query(
            "SELECT mode, aoi_name, aoi_index, run_id, pending_uploads FROM runbook.run_marker"
            " ORDER BY id DESC LIMIT 1"
        ),
        "objects": {key: _OTHER.sub(b"", target.body(key)) for key in objects},
        "crontab": target.crontab.read_bytes(),
        "configuration": _OTHER.sub(b"", target.configuration.read_bytes()),
    }


@dataclass(frozen=True)
class Undisturbed:
    """A run of ``RUNS`` that was left alone."""

    state: dict[str, Any]
    events: int
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(shared_sandbox: Sandbox) -> list[Undisturbed]:
    target = new(shared_sandbox)
    found = []
    for arguments in RUNS:
        with begun(target, arguments) as run:
            assert run.process.wait() == 0, "".join(run.lines)
            seconds = time.monotonic() - run.begun
        found.append(Undisturbed(state(target), run.events, seconds))
    return found


def new(sandbox: Sandbox) -> sequences.Target:
    """The sandbox as new."""
    sandbox.run("sandbox", "reset")
    return sequences.Target(sandbox.home)


def finish(target: Sandbox, arguments: tuple[str, ...], run_id: str) -> None:
    """Apply again, or resume the run if it is named, as soon as its lease can be had."""
    command = ["resume", run_id] if run_id else ["apply", *arguments]
    deadline = time.monotonic() + PATIENCE
    while True:
        done = target.run(*command, "-i", "sandbox", "--yes", exit_code=None)
        if done.returncode != ExitCode.LOCKED or time.monotonic() > deadline:
            assert done.returncode == 0, done.stdout + done.stderr
            return
        time.sleep(1)


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_is_killed_anywhere_ends_as_if_undisturbed(
    number: int, shared_sandbox: Sandbox, undisturbed: list[Undisturbed]
) -> None:
    dice = random.Random(number)
    target = new(shared_sandbox)
    model = sequences.Model(target)
    for place, (arguments, expected) in enumerate(zip(RUNS, undisturbed, strict=True)):
        victim = VICTIMS[(number + place) % len(VICTIMS)]
        event = dice.randint(1, expected.events)
        later = dice.uniform(0, expected.seconds) if dice.random() < 0.5 else 0.0
        resumed = dice.random() < 0.5
        print(
            f"{arguments[0]}: {victim} at {later or event}, then {'resume' if resumed else 'apply'}"
        )
        with begun(target, arguments) as run:
            run.wait(1 if later else event)
            if later:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.process.wait(later)
            family = [] if run.process.poll() is not None else kill(victim, run.process.pid)
            if victim not in ("engine", "all"):
                run.process.wait(180)
        wait_for_end(family)
        model.nothing_is_lost()
        finish(target, arguments, run.run_id if resumed else "")
        model.nothing_is_lost()
        found = state(target)
        assert [what for what, value in expected.state.items() if found[what] != value] == []
        newest = history(target)[0]  # the killed one, if it had nothing left to change
        assert newest["outcome"] == "done" or newest["run"] == run.run_id
