"""Sequences of what operators, mappers, cron and accidents do; a small model says what holds after.

Each step is a command as a user gives it, a mapper's work, a hand on the crontab, the tables or the
bucket, or processes killed in the middle. After every step: no row is gone that no backup holds, no
foreign crontab line was touched, no secret was printed. A command that refuses has changed nothing;
one that succeeds leaves run marker, tables, configuration, its copy on S3 and the crontab of one
run, has done what its check showed, and has nothing to do when repeated.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import psycopg2
import pytest
import sequences
from command_line import PROJECT, RUNBOOK, descendants, runs
from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from killed import wait_for_end

from runbook.sandbox import grid, processes
from runbook.sandbox.state import Home

pytestmark = pytest.mark.campaign

#: Sequences of a test, and the steps of a sequence.
EXAMPLES, STEPS = 2, 32

#: Tests with fixed seeds, which CI runs; further ones have random seeds, 512 steps in all unless
#: RUNBOOK_SEQUENCES says how many tests.
FIXED = 2
COUNT = int(os.environ.get("RUNBOOK_SEQUENCES") or (FIXED if os.environ.get("CI") else 8))

#: Two small areas, and few sites: what a step costs is the command's own start.
AREAS = [grid.rectangle(328, 553, 3, 3), grid.rectangle(333, 553, 3, 3)]
FEW = ("-e", "initial_f_count=20")

#: Exit codes of a command that refuses: nothing was changed.
REFUSED = {3, 5, 6, 7}
MODES = ("regular.yml", "reset.yml", "initial.yml", "single.yml")
PROFILES = ("no_n", "no_n_notifier", "full", "maintenance")
FAULTS = (
    "bootstrap", "spot", "step", "cancelled", "db", "no-metrics", "no-names", "other-run",
    "names-twice", "unknown-names", "empty-file", "none",
)  # fmt: skip

#: Tables that a restore takes, all or some.
RESTORED = (
    "[]", '["kml_data_static", "qaqcfields", "scenes_data"]', '["incoming_names"]',
    '["incoming_names", "iteration_metrics", "kml_data"]',
)  # fmt: skip

#: What a person at psql does, well or badly, after correcting what would have all refused.
REPAIR = (
    "UPDATE configuration SET value = '10' WHERE key = 'Hit_AvailTarget';"
    "DELETE FROM kml_data_static WHERE hint = 'by hand'"
)
STATEMENTS = (
    "UPDATE configuration SET value = '5' WHERE key = 'Hit_AvailTarget'",
    "UPDATE configuration SET value = 'many' WHERE key = 'Hit_AvailTarget'",
    "DELETE FROM kml_data WHERE gid = (SELECT min(gid) FROM kml_data WHERE kml_type = 'F')",
    "UPDATE kml_data SET mapped_count = 0 WHERE kml_type = 'F'",
    (
        "UPDATE incoming_names SET processed = true WHERE name ="
        " (SELECT min(name) FROM incoming_names WHERE NOT processed)"
    ),
    "UPDATE incoming_names SET processed = true",
    "UPDATE incoming_names SET label = false WHERE name = (SELECT min(name) FROM incoming_names)",
    (
        "INSERT INTO incoming_names (name, run, iteration, processed, usage)"
        " SELECT min(name), 77, 0, false, 'validate' FROM master_grid ON CONFLICT DO NOTHING"
    ),
    "DELETE FROM incoming_names WHERE name = (SELECT max(name) FROM incoming_names)",
    (
        "INSERT INTO iteration_metrics (run, iteration, accuracy) VALUES (1, 1, 0.5)"
        " ON CONFLICT DO NOTHING"
    ),
    "DELETE FROM scenes_data WHERE cell_id = (SELECT min(cell_id) FROM scenes_data)",
    (
        "UPDATE worker_data SET qualified = NOT qualified WHERE worker_id ="
        " (SELECT min(worker_id) FROM worker_data)"
    ),
    "UPDATE master_grid SET avail = 'F' WHERE gid = (SELECT min(gid) FROM master_grid)",
    "DELETE FROM system_data WHERE key = 'IterationCounter'",
    (
        "INSERT INTO kml_data_static (kml_type, name, hint)"
        " SELECT 'N', max(name), 'by hand' FROM master_grid"
    ),
)


@st.composite
def commands(draw: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Something an operator applies; the rest is said by what is there then."""
    kind = draw(
        st.sampled_from(["mode", "mode", "backup", "restore", "shutdown", "start", "iterate"])
    )
    if kind == "mode":
        number = draw(st.sampled_from(["same", "next", 0, 1, 2, 3]))
        return kind, draw(st.sampled_from(MODES)), number, draw(st.integers(1, 2)), draw(st.booleans()), draw(st.booleans())  # fmt: skip
    if kind == "restore":
        return kind, draw(st.floats(0, 1)), draw(st.sampled_from(RESTORED))
    return kind, draw(st.sampled_from(PROFILES))


class Operations(RuleBasedStateMachine):
    """One sandbox, and what the model knows of it."""

    box: ClassVar[sequences.Target]
    steps: ClassVar[int]

    @initialize(number=st.integers(0, 2**32))
    def begin(self, number: int) -> None:
        assume(number)  # the simplest example is the first rule over and over
        self.box.run("sandbox", "reset")
        with self.box.database() as cursor:
            self.geography = {
                key: copied_out(cursor, query) for key, query in sequences.GEOGRAPHY.items()
            }
        self.faulty = False
        self.by_hand = 0
        self.model = sequences.Model(self.box)
        self.model.nothing_is_lost()

    @invariant()
    def nothing_is_lost(self) -> None:
        self.model.nothing_is_lost()
        type(self).steps += 1
        print(f"{self.steps} steps", flush=True)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.model.no_secret_at_the_end()

    # What operators do

    @rule(
        mode=st.sampled_from(MODES),
        number=st.sampled_from(["same", "next", "next", 0, 1, 2, 3]),
        area=st.integers(1, 2),
        sure=st.booleans(),
        clear=st.booleans(),
    )
    def a_mode(self, **given: Any) -> None:
        self.applied(*self.mode(**given))

    @rule(where=st.floats(0, 1), tables=st.sampled_from(RESTORED))
    def restore(self, where: float, tables: str) -> None:
        self.applied(*self.restoring(where, tables))

    @rule(kind=st.sampled_from(["backup", "shutdown", "start"]), profile=st.sampled_from(PROFILES))
    def service(self, kind: str, profile: str) -> None:
        code = self.applied(*self.arguments((kind, profile)))
        assert code == 0 or kind == "start"
        if kind == "shutdown":
            assert "daemonNanny" not in self.box.crontab.read_text()
            assert not processes.daemons(Home(self.box.home / "sandbox"))

    @rule(hint=st.sampled_from(["", "as surveyed"]))
    def another_geography(self, hint: str) -> None:
        """The same grid, with hints on the static sites or without."""
        for key, text in self.geography.items():
            body = text.replace("HINT", hint).encode()
            self.box.s3().put_object(Bucket=self.box.status()["bucket"], Key=key, Body=body)
        self.applied("geography.yml")

    @rule(keep=st.integers(0, 8))
    def prune(self, keep: int) -> None:
        """Remove backups but the newest, and with them rows that only they have."""
        self.model.nothing_is_lost()
        before = self.manifests()
        done = self.run("backups", "prune", "--keep", str(keep), "-i", "sandbox", "--yes")
        assert done.returncode == 0
        gone = sorted({*before} - {*self.manifests()})
        assert len(gone) <= max(0, len(before) - keep)
        for manifest in gone:
            self.model.lose_backup(manifest)

    @rule(mapped=st.booleans())
    def iterate(self, mapped: bool) -> None:
        """A turn of the loop; first the mappers finish what is open, or do not."""
        if mapped:
            self.mappers_work(1000)
        arguments = ["iterate.yml", *self.in_place()]
        self.before_iterate(arguments)
        metrics = self.box.rows()["iteration_metrics"]
        self.run("apply", *arguments, "-i", "sandbox", "--yes")
        if self.box.rows()["iteration_metrics"] - metrics:
            self.model.learner_read_the_run()

    # What others do

    @rule(sites=st.sampled_from([5, 12, 200]))
    def mappers_work(self, sites: int) -> None:
        self.box.run("sandbox", "work", "--names", str(sites), exit_code=None)

    @rule(kind=st.sampled_from(FAULTS))
    def clusters_fail(self, kind: str) -> None:
        self.box.run("sandbox", "fault", kind, exit_code=None)
        self.faulty = True

    @rule(edit=st.sampled_from(["first", "last", "remove", "remove all"]))
    def edit_crontab(self, edit: str) -> None:
        """A line of the operator's more or less, or no crontab (``crontab -r``)."""
        lines = self.box.crontab.read_text().splitlines()
        if edit.startswith("remove"):
            gone = self.model.crontab[-1:] if edit == "remove" else lines
            self.box.crontab.write_text("".join(f"{line}\n" for line in lines if line not in gone))
            self.model.crontab = [line for line in self.model.crontab if line not in gone]
            return
        self.by_hand += 1
        line = f"{self.by_hand % 60} 4 * * * true # by hand, {self.by_hand}"
        for these in (lines, self.model.crontab):
            these.insert(0 if edit == "first" else len(these), line)
        self.box.crontab.write_text("\n".join(lines) + "\n")

    @rule(statement=st.sampled_from(STATEMENTS))
    def edit_rows(self, statement: str) -> None:
        before = self.box.rows()
        with contextlib.suppress(psycopg2.Error), self.box.database() as cursor:
            cursor.execute(f"{REPAIR}; {statement}")
        after = self.box.rows()
        self.model.forget({table: rows - after[table] for table, rows in before.items()})

    @rule(copy=st.booleans())
    def edit_configuration(self, copy: bool) -> None:
        """Another run's number in config.yaml, or no copy of it on S3."""
        if not copy:
            text = self.box.configuration.read_text()
            self.box.configuration.write_text(text.replace("runid: ", "runid: 4"))
        elif marker := self.box.marker():
            bucket, key = self.box.status()["bucket"], f"config_ghana_{marker[1]}.yaml"
            self.box.s3().delete_object(Bucket=bucket, Key=key)

    @rule(where=st.floats(0, 1))
    def damage_backup(self, where: float) -> None:
        """Delete an object of a backup, of the newest as often as of another."""
        manifests = self.manifests()
        if not manifests:
            return
        self.model.nothing_is_lost()
        chosen = manifests[-1] if where > 0.5 else manifests[int(2 * where * len(manifests)) - 1]
        folder = chosen.removesuffix("manifest.json")
        objects = sorted(self.box.objects(folder))
        self.box.s3().delete_object(
            Bucket=self.box.status()["bucket"], Key=objects[int(where * (len(objects) - 1))]
        )
        self.model.lose_backup(chosen)

    @rule(
        schema=st.sampled_from(["public", "archive", None]),
        table=st.sampled_from(["kml_data (name)", "hit_data (hit_id)", "assignment_data (assignment_id)"]),
        action=st.sampled_from(["CASCADE", "SET NULL", "NO ACTION"]),
    )  # fmt: skip
    def refer_to_rows(self, schema: str | None, table: str, action: str) -> None:
        """Another table with a foreign key to labeller's, in place of the one before; or none."""
        referred, column = table.removesuffix(")").split(" (")
        with self.box.database() as cursor:
            cursor.execute(
                "CREATE SCHEMA IF NOT EXISTS archive;"
                "DROP TABLE IF EXISTS public.noted, archive.noted"
            )
            if schema:
                cursor.execute(
                    f"""
                    CREATE TABLE {schema}.noted AS
                        SELECT {column} AS noted FROM public.{referred} LIMIT 5;
                    ALTER TABLE {schema}.noted
                        ADD FOREIGN KEY (noted) REFERENCES public.{table} ON DELETE {action}
                    """
                )

    @rule(name=st.sampled_from(["create_hit_daemon", "worker_notification_daemon"]))
    def a_daemon_by_hand(self, name: str) -> None:
        """As ``nohup python NAME.py &`` does."""
        script = self.box.configuration.parent / f"{name}.py"
        nothing = subprocess.DEVNULL
        subprocess.run(
            ["setsid", "--fork", "python3", script], stdin=nothing, stdout=nothing, stderr=nothing
        )

    # Accidents

    @rule(
        command=commands(),
        real=st.sampled_from([True, True, True, False]),
        event=st.integers(1, 36),
        later=st.sampled_from([0, 0.02, 0.1, 0.3]),
        whole=st.booleans(),
        again=st.booleans(),
    )
    def killed(
        self,
        command: tuple[Any, ...],
        real: bool,
        event: int,
        later: float,
        whole: bool,
        again: bool,
    ) -> None:
        """Kill -9 at any event: the engine, or all its processes. The same command then goes on."""
        arguments = self.arguments(command)
        if not arguments:
            return
        self.before_iterate(arguments)
        begun = self.process("apply", *arguments, "-i", "sandbox", "--yes", "--json")
        assert begun.stdout is not None
        started = 0
        for line in begun.stdout:
            started += '"event": "run_started"' in line
            event -= started == (2 if real else 1)
            if event == 0:
                break
        time.sleep(later)
        found = [begun.pid] if begun.poll() is not None else descendants(begun.pid)
        for pid in found if whole else [begun.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.model.no_secret(begun.communicate()[0])
        wait_for_end(found)
        self.model.nothing_is_lost()
        if again and arguments[0] != "iterate.yml":
            self.applied(*arguments)

    @rule(one=commands(), other=commands(), later=st.sampled_from([0, 0.5, 1.5, 3]))
    def two_at_once(self, one: tuple[Any, ...], other: tuple[Any, ...], later: float) -> None:
        both = [arguments for command in (one, other) if (arguments := self.arguments(command))]
        begun = []
        for arguments in both:
            self.before_iterate(arguments)
            begun.append(self.process("apply", *arguments, "-i", "sandbox", "--yes"))
            time.sleep(later)
        done = []
        for arguments, each in zip(both, begun, strict=True):
            text, _ = each.communicate()
            self.understood(arguments, each.returncode, text)
            if each.returncode == 0:
                done.append(arguments[0])
        if any(name in MODES for name in done) and "restore.yml" not in done:
            self.model.one_run(
                in_service=None if {"shutdown.yml", "iterate.yml"} & {*done} else True
            )

    # The commands

    def arguments(self, command: tuple[Any, ...]) -> list[str]:
        """The playbook and its parameters, for what there is now."""
        kind, *rest = command
        if kind == "mode":
            return self.mode(*rest)
        if kind == "restore":
            return self.restoring(*rest)
        if kind == "start":
            return ["start.yml", "-e", f"crontab_profile={rest[0]}", *self.in_place()]
        return [f"{kind}.yml", *(self.in_place() if kind == "iterate" else [])]

    def mode(self, mode: str, number: Any, area: int, sure: bool, clear: bool) -> list[str]:
        marker = self.box.marker()
        _, _, run, _ = marker or (None, None, 0, None)
        run = {"same": run, "next": run + 1}.get(number, number)
        given = [mode, "-e", f"run_id={run}", "-e", f"aoi_index={area}", *FEW]
        given += ["-e", "earlier_metrics=clear"] if clear else []
        if sure and marker:
            known = marker[0] in ("initial", "single", "regular")
            given += ["-e", f"replaced_run={marker[2] if known else 'unknown'}"]
        return given

    def restoring(self, where: float, tables: str) -> list[str]:
        """Any of the backups of this instance and of what its restores replaced."""
        if not (manifests := self.manifests()):
            return []
        _, _, prefix, backup, _ = manifests[round(where * (len(manifests) - 1))].split("/")
        return [
            "restore.yml", "-e", f"restore_backup={backup}", "-e", f"restore_from={prefix}",
            "-e", f'{{"restore_tables": {tables}}}',
        ]  # fmt: skip

    def manifests(self) -> list[str]:
        """The keys of the manifests of all backups, by the time that they were begun."""
        keys = [key for key in self.box.objects("backups/") if key.endswith("/manifest.json")]
        return sorted(keys, key=lambda key: key.split("/")[3])

    def in_place(self) -> list[str]:
        """The parameters of the run in place, as the inventory would hold them."""
        marker = self.box.marker()
        if marker is None or marker[1] == 0:
            return []
        return ["-e", f"run_id={marker[2]}", "-e", f"aoi_index={marker[1]}"]

    def applied(self, *arguments: str) -> int | None:
        """Apply, held to its check; then again; a refusal has changed nothing."""
        if not arguments:
            return None
        before = self.box.snapshot()
        command = ["apply", *arguments, "-i", "sandbox", "--yes", "--json"]
        done = self.run(*command)
        if done.returncode in REFUSED:
            assert self.box.snapshot() == before, f"{arguments} refused and changed something"
            return done.returncode
        assert done.returncode == 0, done.stdout[-3000:]
        check, *real = runs(done.stdout)
        if real:
            assert sequences.steps(check) == sequences.steps(real[0]), "as the check showed"
        if arguments[0] in MODES:
            self.model.one_run()
        if real and sequences.changed(real[0]):
            again = self.run(*command)
            assert again.returncode == 0, again.stdout[-3000:]
            assert not [task for run in runs(again.stdout) for task in sequences.changed(run)]
        return 0

    def before_iterate(self, arguments: list[str]) -> None:
        """A loop that ends deletes its unprocessed names."""
        if arguments[0] == "iterate.yml":
            names = self.box.query(
                "SELECT name, run::text, iteration::text FROM incoming_names WHERE NOT processed"
            )
            self.model.forget({"incoming_names": set(names)})

    def understood(self, arguments: list[str], code: int, text: str) -> None:
        """A command ends well, refuses, or has met a learner's cluster that failed."""
        why = (text.strip().splitlines() or [""])[-1] if code else ""
        print(f"exit {code}: runbook ... {' '.join(arguments)}\n  {why[-600:]}", flush=True)
        failing = {1} if arguments[0] == "iterate.yml" and self.faulty else set()
        assert code in {0, *REFUSED, *failing}, f"{arguments}: {code}\n{text[-3000:]}"
        assert "Traceback" not in text
        assert "a bug in runbook" not in text
        self.model.no_secret(text)

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [RUNBOOK, *arguments], env=self.box.environment, cwd=PROJECT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.box.run(*arguments, exit_code=None)
        self.understood(list(arguments[1:]), done.returncode, done.stdout + done.stderr)
        return done


def copied_out(cursor: Any, query: str) -> str:
    """The rows of a query as a CSV with a header."""
    written = io.StringIO()
    cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", written)
    return written.getvalue()


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Operations]]:
    box = sequences.Target(tmp_path_factory.mktemp("runbook-home"))
    areas = tmp_path_factory.mktemp("areas") / "areas.geojson"
    areas.write_bytes(grid.geojson(AREAS))
    box.run("sandbox", "up", "--aois", str(areas))
    yield type("OperationsHere", (Operations,), {"box": box, "steps": 0})
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


@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_sequences(operations: type[Operations], number: int) -> None:
    operations.steps = 0
    chosen = number if number <= FIXED else secrets.randbits(32)
    print(f"seed {chosen}", flush=True)
    run_state_machine_as_test(seed(chosen)(operations), settings=LONG)
    assert operations.steps >= EXAMPLES * STEPS
