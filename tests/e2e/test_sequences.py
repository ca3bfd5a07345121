"""Sequences of what operators, mappers, cron and accidents do; a small model says what holds after.

Each step is a command as a user gives it, a mapper's work, a hand on the crontab or the tables, or
a process killed in the middle. After every step: no row is gone that no verified backup holds, no
foreign crontab line was touched, no secret was printed. A command that refuses has changed nothing;
one that succeeds leaves run marker, tables, configuration, its copy on S3 and the crontab of one
run, has done what its check showed, and has nothing to do when repeated.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
import zstandard
from command_line import PROJECT, RUNBOOK, Sandbox
from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

import learner_filter

pytestmark = pytest.mark.campaign

#: Steps a test makes: examples times steps of each.
EXAMPLES, STEPS = 3, 25

#: What identifies a row for good, by table: columns whose text COPY and a query give alike.
ROWS = {
    "user_maps": ("gid", "name", "assignment_id"),
    "accuracy_data": ("assignment_id",),
    "assignment_history": ("event_type", "worker_id", "assignment_id"),
    "assignment_data": ("assignment_id", "hit_id", "worker_id"),
    "qual_assignment_data": ("assignment_id", "worker_id", "name"),
    "qual_user_maps": ("gid", "name", "assignment_id"),
    "hit_data": ("hit_id", "name"),
    "incoming_names": ("name", "run", "iteration"),
    "iteration_metrics": ("run", "iteration"),
}
Rows = set[tuple[str, ...]]

#: Exit codes of a command that refuses: nothing was changed.
REFUSED = {3, 5, 6, 7}
FOREIGN = "17 3 * * 0 $HOME/bin/rotate-logs # the operator's own"
MODES = ("regular.yml", "reset.yml", "initial.yml", "single.yml")


class Known(Sandbox):
    """A sandbox whose addresses are looked up once: they stay while it is up."""

    @functools.cache  # noqa: B019 - a few sandboxes, as long as the tests run
    def status(self) -> dict[str, Any]:
        return super().status()

    @functools.cache  # noqa: B019
    def s3(self) -> Any:
        return super().s3()


class Operations(RuleBasedStateMachine):
    """One sandbox, and what the model knows of it."""

    box: ClassVar[Sandbox]
    secrets: ClassVar[set[str]]
    taken: ClassVar[int] = 0

    @initialize(number=st.integers(0, 2**32))
    def begin(self, number: int) -> None:
        assume(number)  # the simplest example is the first rule over and over
        self.box.run("sandbox", "reset")
        state = json.loads((self.box.home / "sandbox" / "state.json").read_text())
        type(self).secrets = {value for value in state["secrets"].values() if len(value) >= 8}
        crontab = Path(state["crontab"])
        crontab.write_text(f"{FOREIGN}\n{crontab.read_text()}")
        self.crontab = crontab
        self.manifests: dict[str, dict[str, Rows]] = {}
        self.ever: dict[str, Rows] = {name: set() for name in ROWS}
        self.holds()

    # What operators do

    @rule(
        mode=st.sampled_from(MODES),
        run=st.integers(0, 3),
        area=st.integers(1, 2),
        sure=st.booleans(),
    )
    def a_mode(self, mode: str, run: int, area: int, sure: bool) -> None:
        given = ["-e", f"run_id={run}", "-e", f"aoi_index={area}"]
        if sure:
            given += self.replacing()
        self.applied(mode, *given)

    @rule()
    def back_up(self) -> None:
        self.applied("backup.yml")

    @rule(data=st.data(), before=st.booleans())
    def restore(self, data: st.DataObject, before: bool) -> None:
        prefix = "sandbox-before-restore" if before else "sandbox"
        known = sorted(key for key in self.backups() if key.split("/")[2] == prefix)
        if not known:
            return
        backup = data.draw(st.sampled_from(known)).split("/")[3]
        self.applied(
            "restore.yml", "-e", f"restore_backup={backup}", "-e", f"restore_from={prefix}"
        )

    @rule()
    def shut_down(self) -> None:
        self.applied("shutdown.yml")
        assert "daemonNanny" not in self.crontab.read_text()

    @rule(profile=st.sampled_from(["no_n", "no_n_notifier", "full", "maintenance"]))
    def start(self, profile: str) -> None:
        self.applied("start.yml", "-e", f"crontab_profile={profile}", *self.in_place())

    @rule()
    def iterate(self) -> None:
        unprocessed = self.rows("incoming_names", "WHERE NOT processed")
        metrics = self.rows("iteration_metrics")
        self.run("apply", "iterate.yml", "-i", "sandbox", "--yes", *self.in_place())
        self.ever["incoming_names"] -= unprocessed  # a loop that ends deletes them
        self.holds()
        if self.rows("iteration_metrics") - metrics:
            self.learner_read_the_run()

    # What others do

    @rule(sites=st.sampled_from([10, 60, 200]))
    def mappers_work(self, sites: int) -> None:
        self.box.run("sandbox", "work", "--names", str(sites), exit_code=None)
        self.holds()

    @rule(kind=st.sampled_from(["step", "bootstrap", "no-names", "none"]))
    def clusters_fail(self, kind: str) -> None:
        self.box.run("sandbox", "fault", kind, exit_code=None)

    @rule()
    def edit_crontab(self) -> None:
        lines = self.crontab.read_text().splitlines()
        self.crontab.write_text("\n".join([*lines, f"{len(lines)} 4 * * * true # by hand"]) + "\n")

    @rule(value=st.sampled_from(["5", "30"]))
    def edit_configuration(self, value: str) -> None:
        with self.box.database() as cursor:
            cursor.execute(
                "UPDATE configuration SET value = %s WHERE key = 'Hit_AvailTarget'", (value,)
            )

    @rule(
        schema=st.sampled_from(["public", "archive"]),
        action=st.sampled_from(["CASCADE", "SET NULL", "NO ACTION"]),
    )
    def add_referring_table(self, schema: str, action: str) -> None:
        with self.box.database() as cursor:
            cursor.execute(
                f"""
                CREATE SCHEMA IF NOT EXISTS archive;
                DROP TABLE IF EXISTS {schema}.noted;
                CREATE TABLE {schema}.noted
                    (kml text REFERENCES public.kml_data (name) ON DELETE {action});
                INSERT INTO {schema}.noted SELECT name FROM public.kml_data LIMIT 5
                """
            )
        self.noted = (schema, action)

    @precondition(lambda self: getattr(self, "noted", None))
    @rule()
    def drop_referring_table(self) -> None:
        with self.box.database() as cursor:
            cursor.execute(f"DROP TABLE {self.noted[0]}.noted")
        del self.noted

    @rule(run=st.integers(0, 3), area=st.integers(1, 2), moment=st.floats(0, 4))
    def killed(self, run: int, area: int, moment: float) -> None:
        """Kill -9 anywhere; the same command then finishes the job, or refuses as before."""
        command = [
            "regular.yml",
            "-e",
            f"run_id={run}",
            "-e",
            f"aoi_index={area}",
            *self.replacing(),
        ]
        begun = self.process("apply", *command, "-i", "sandbox", "--yes")
        try:
            begun.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(begun.pid, signal.SIGKILL)
        begun.communicate()
        self.holds()
        self.applied(*command)

    @rule(one=st.integers(0, 3), other=st.integers(0, 3))
    def two_at_once(self, one: int, other: int) -> None:
        both = [
            self.process("apply", "regular.yml", "-i", "sandbox", "--yes", "-e", f"run_id={run}",
                         "-e", f"aoi_index={area}", *self.replacing())
            for run, area in ((one, 1), (other, 2))
        ]  # fmt: skip
        codes = []
        for each in both:
            text, _ = each.communicate()
            codes.append(each.returncode)
            assert each.returncode in {0, *REFUSED}, text
            assert "Traceback" not in text
        if 0 in codes:
            self.agrees()
        self.holds()

    # The model

    def applied(self, playbook: str, *arguments: str) -> None:
        """Apply, held to its check; then again; a refusal has changed nothing."""
        before = self.state()
        command = ["apply", playbook, "-i", "sandbox", "--yes", "--json", *arguments]
        done = self.run(*command)
        if done.returncode in REFUSED:
            assert self.state() == before, (
                f"{playbook} refused and changed something:\n{done.stdout}"
            )
            return
        assert done.returncode == 0, done.stdout[-3000:]
        runs = list(_runs(done.stdout))
        if len(runs) == 2:
            assert _steps(runs[0]) == _steps(runs[1]), (
                f"{playbook} did not do what its check showed"
            )
        self.holds()
        if playbook in MODES:
            self.agrees()
        if playbook != "restore.yml":
            again = self.run(*command)
            assert again.returncode == 0, again.stdout[-3000:]
            assert not [
                event
                for run in _runs(again.stdout)
                for event in run
                if event.get("status") == "changed"
            ]

    def holds(self) -> None:
        """What must hold after every step."""
        for name in ROWS:
            rows = self.rows(name)
            lost = self.ever[name] - rows
            if lost:
                kept = set().union(*(tables.get(name, set()) for tables in self.backups().values()))
                assert lost <= kept, f"{name}: {sorted(lost - kept)[:5]} are in no backup"
            self.ever[name] |= rows
        assert FOREIGN in self.crontab.read_text().splitlines()

    def agrees(self) -> None:
        """The run marker, the tables, config.yaml, its copy on S3 and the crontab are of one run."""
        mode, name, area, run = self.box.query(
            "SELECT mode, aoi_name, aoi_index, run_id FROM runbook.run_marker ORDER BY id DESC LIMIT 1"
        )[0]
        status = self.box.status()
        local = Path(status["labeller_home"], "common/config.yaml").read_text()
        assert yaml.safe_load(local)["learner"]["runid"] == run
        assert yaml.safe_load(local)["learner"]["aoiid"] == area
        assert self.box.text(f"config_{name}_{area}.yaml") == local
        unprocessed = self.box.query("SELECT DISTINCT run FROM incoming_names WHERE NOT processed")
        assert unprocessed in ([(run,)], []), mode
        assert "daemonNanny" in self.crontab.read_text()

    def learner_read_the_run(self) -> None:
        """The real learner's filter over S3 gives the run's names, each once."""
        _mode, name, area, run = self.box.query(
            "SELECT mode, aoi_name, aoi_index, run_id FROM runbook.run_marker ORDER BY id DESC LIMIT 1"
        )[0]
        configuration = yaml.safe_load(self.box.text(f"config_{name}_{area}.yaml"))
        read = learner_filter.read(self.box.text, configuration["learner"])
        labelled = self.box.query(
            "SELECT usage, name FROM incoming_names WHERE run = %s AND label ORDER BY name", run
        )
        validate = [name for usage, name in labelled if usage == "validate"]
        train = {name for usage, name in labelled if usage == "train"}
        assert read.validate == validate, "the learner validates on the run's names, each once"
        assert len(set(read.train)) == len(read.train) > 0
        assert train <= set(read.train)
        assert not set(read.train) & set(validate)

    def in_place(self) -> list[str]:
        """The parameters of the run in place, as the inventory would hold them."""
        if self.box.query("SELECT to_regclass('runbook.run_marker')::text") == [(None,)]:
            return []
        found = self.box.query(
            "SELECT run_id, aoi_index FROM runbook.run_marker ORDER BY id DESC LIMIT 1"
        )
        return (
            [] if not found else ["-e", f"run_id={found[0][0]}", "-e", f"aoi_index={found[0][1]}"]
        )

    def replacing(self) -> list[str]:
        """The parameter that lets a run replace the one in place, finished or not."""
        found = self.in_place()
        return ["-e", f"replaced_run={found[1].removeprefix('run_id=')}"] if found else []

    def rows(self, table: str, where: str = "") -> Rows:
        columns = ", ".join(f"coalesce({column}::text, '')" for column in ROWS[table])
        return set(self.box.query(f"SELECT {columns} FROM public.{table} {where}"))

    def backups(self) -> dict[str, dict[str, Rows]]:
        """The rows of every backup, by the key of its manifest."""
        s3, bucket = self.box.s3(), self.box.status()["bucket"]
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="backups/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        for manifest in [key for key in keys if key.endswith("/manifest.json")]:
            if manifest not in self.manifests:
                folder = manifest.removesuffix("manifest.json")
                self.manifests[manifest] = {
                    name: {
                        row
                        for key in keys
                        if key.startswith(f"{folder}{name}/")
                        for row in _csv_rows(
                            s3.get_object(Bucket=bucket, Key=key)["Body"].read(), ROWS[name]
                        )
                    }
                    for name in ROWS
                }
        return self.manifests

    def state(self) -> dict[str, Any]:
        """All that a command may change, but for what records that it was tried."""
        return self.box.snapshot()

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [RUNBOOK, *arguments], env=self.box.environment, cwd=PROJECT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        begun = time.monotonic()
        done = self.box.run(*arguments, exit_code=None)
        type(self).taken += 1
        print(
            f"{time.monotonic() - begun:5.1f} s  exit {done.returncode}  runbook {' '.join(arguments)}"
        )
        for secret in self.secrets:
            assert secret not in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert "a bug in runbook" not in done.stderr
        return done


def _runs(text: str) -> Iterator[list[dict[str, Any]]]:
    """The events of each run that ``--json`` printed."""
    found: list[list[dict[str, Any]]] = []
    for line in text.splitlines():
        event = json.loads(line)
        if event["event"] == "run_started":
            found.append([])
        if found:
            found[-1].append(event)
    return iter(found)


def _steps(run: list[dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    return {
        event["task"]: (event.get("plan"), event.get("diff"))
        for event in run
        if event["event"] == "task_result" and event["status"] in ("ok", "changed")
    }


def _csv_rows(body: bytes, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    text = zstandard.ZstdDecompressor().decompressobj().decompress(body).decode()
    for row in csv.DictReader(io.StringIO(text)):
        yield tuple(row[column] for column in columns)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Operations]]:
    box = Known(tmp_path_factory.mktemp("runbook-home"))
    box.run("sandbox", "up")
    yield type("OperationsHere", (Operations,), {"box": box})
    box.run("sandbox", "down")


LONG = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def test_the_same_sequences_each_time(operations: type[Operations]) -> None:
    run_state_machine_as_test(operations, settings=settings(LONG, derandomize=True))


def test_other_sequences_each_time(operations: type[Operations]) -> None:
    number = random.randrange(2**32)
    print(f"seed {number}")
    run_state_machine_as_test(seed(number)(operations), settings=LONG)
