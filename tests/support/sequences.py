"""The invariants of a sequence of operations: rows, the run in place, its learner's input."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import learner_filter
import yaml
import zstandard
from command_line import Sandbox

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
Row = tuple[str, ...]
Rows = dict[str, set[Row]]

#: The objects of geography.yml, from the tables of a new sandbox; HINT stands for a hint.
GEOGRAPHY = {
    "grid/master_grid.csv": (
        "SELECT id, x, y, name, fwts, 'T' AS avail, date FROM master_grid"
        " WHERE name::text NOT IN (SELECT name FROM kml_data_static)"
    ),
    "training_reference/reference_grid.csv": (
        "SELECT id, x, y, g.name, fwts, s.kml_type AS avail, date"
        " FROM master_grid g JOIN kml_data_static s ON s.name = g.name::text"
    ),
    "training_reference/kml_data_static.csv": (
        "SELECT kml_type, name, 'HINT' AS hint FROM kml_data_static"
    ),
    "training_reference/qaqcfields.csv": "SELECT name, category, geom_clean FROM qaqcfields",
}

STATIC_NAMES = "planet/incoming_names_static_cluster1.csv"


class Target(Sandbox):
    """A sandbox, looked at often: its addresses are found once, its objects have their ETags.

    A sandbox that was recreated needs a new Target.
    """

    @functools.cached_property
    def _status(self) -> dict[str, Any]:
        return super().status()

    @functools.cached_property
    def _s3(self) -> Any:
        return super().s3()

    def status(self) -> dict[str, Any]:
        return self._status

    def s3(self) -> Any:
        return self._s3

    @property
    def crontab(self) -> Path:
        return Path(self.status()["crontab"])

    @property
    def configuration(self) -> Path:
        return Path(self.status()["labeller_home"], "common/config.yaml")

    def objects(self, prefix: str = "") -> dict[str, str]:
        pages = self.s3().get_paginator("list_objects_v2")
        return {
            entry["Key"]: entry["ETag"]
            for page in pages.paginate(Bucket=self.status()["bucket"], Prefix=prefix)
            for entry in page.get("Contents", [])
        }

    def body(self, key: str) -> bytes:
        found = self.s3().get_object(Bucket=self.status()["bucket"], Key=key)["Body"].read()
        if key.endswith(".zst"):
            found = zstandard.ZstdDecompressor().decompressobj().decompress(found)
        return bytes(found)

    def rows(self) -> Rows:
        """The live rows of every table of ``ROWS``, in one snapshot."""
        with self.database() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            found = {}
            for table, names in ROWS.items():
                columns = ", ".join(f"coalesce({name}::text, '')" for name in names)
                cursor.execute(f"SELECT {columns} FROM public.{table}")
                found[table] = set(cursor.fetchall())
        return found

    def marker(self) -> tuple[Any, ...] | None:
        """Mode, area and number of the run in place, and when it was applied."""
        if self.query("SELECT to_regclass('runbook.run_marker')::text") == [(None,)]:
            return None
        found = self.query(
            "SELECT mode, aoi_index, run_id, applied_at FROM runbook.run_marker"
            " ORDER BY id DESC LIMIT 1"
        )
        return found[0] if found else None


class Model:
    """The history of a target: rows that ever were, backups, the operator's own crontab lines."""

    def __init__(self, target: Target) -> None:
        self.target = target
        state = json.loads((target.home / "sandbox" / "state.json").read_text())
        #: Values that may stand in configurations alone.
        self.secrets = {value for value in state["secrets"].values() if len(value) >= 8}
        self.crontab = [
            line for line in target.crontab.read_text().splitlines() if "daemonNanny" not in line
        ]
        self.ever: Rows = {table: set() for table in ROWS}
        #: By the key of its manifest, the rows and objects of each backup.
        self.backups: dict[str, tuple[Rows, set[str]]] = {}
        #: By area and number of a run, the static names that it trains on.
        self.training: dict[tuple[int, int], set[str]] = {}
        self.scanned: set[Path] = set()

    def nothing_is_lost(self) -> None:
        """Every row that ever was is live or in a backup; the operator's crontab lines are there."""
        live = self.target.rows()
        lost = {table: gone for table, rows in live.items() if (gone := self.ever[table] - rows)}
        if lost:
            self._read_backups()
            for table, rows in lost.items():
                kept: set[Row] = set().union(*(kept[table] for kept, _ in self.backups.values()))
                assert rows <= kept, f"{table}: {sorted(rows - kept)[:5]} are in no backup"
        for table, rows in live.items():
            self.ever[table] |= rows
        lines = iter(self.target.crontab.read_text().splitlines())
        assert all(line in lines for line in self.crontab), "the operator's lines, in their order"

    def forget(self, rows: Rows) -> None:
        """Rows that were deleted by hand, or by the loop's end."""
        for table, deleted in rows.items():
            self.ever[table] -= deleted

    def lose_backup(self, manifest: str) -> None:
        """A backup that was damaged by hand, and with it the rows that it alone had."""
        self.backups[manifest] = ({table: set() for table in ROWS}, set())
        self._read_backups()
        live = self.target.rows()
        for table in ROWS:
            kept = [rows[table] for rows, _ in self.backups.values()]
            self.ever[table] &= live[table].union(*kept)

    def _read_backups(self) -> None:
        keys = self.target.objects("backups/").keys()
        for manifest in (key for key in keys if key.endswith("/manifest.json")):
            folder = manifest.removesuffix("manifest.json")
            if manifest not in self.backups:
                objects = {key for key in keys if key.startswith(folder)}
                rows = {table: set(self._rows_of(folder, table, objects)) for table in ROWS}
                self.backups[manifest] = (rows, objects)
        for _, objects in self.backups.values():
            assert objects <= keys, "nothing takes objects out of a backup"

    def _rows_of(self, folder: str, table: str, objects: set[str]) -> Iterator[Row]:
        for key in objects:
            if key.startswith(f"{folder}{table}/"):
                for row in csv.DictReader(io.StringIO(self.target.body(key).decode())):
                    yield tuple(row[column] for column in ROWS[table])

    def one_run(self, *, in_service: bool | None = True) -> None:
        """The run marker, the tables, config.yaml, its copy on S3 and the crontab are of one run."""
        marker = self.target.marker()
        assert marker is not None
        mode, area, run, _ = marker
        text = self.target.configuration.read_text()
        learner = yaml.safe_load(text)["learner"]
        assert (learner["runid"], learner["aoiid"]) == (run, area)
        assert self.target.text(f"config_ghana_{area}.yaml") == text
        assert self.target.query(
            "SELECT DISTINCT run FROM incoming_names WHERE NOT processed"
        ) in ([(run,)], []), mode  # fmt: skip
        assert in_service in (None, "daemonNanny" in self.target.crontab.read_text())
        if mode == "regular":
            self.training[area, run] = self._static_names()

    def _static_names(self) -> set[str]:
        """The operator's static training names that the learner can use."""
        paired = self.target.query(
            "SELECT g.name::text FROM master_grid g JOIN scenes_data s ON s.cell_id = g.id"
            " GROUP BY g.name HAVING count(DISTINCT s.season) = 2"
        )
        return {
            row["name"]
            for row in csv.DictReader(io.StringIO(self.target.text(STATIC_NAMES)))
            if (row["name"],) in paired
            and row["usage"] == "train"
            and row["label"].lower() in ("t", "true")
        }

    def learner_read_the_run(self) -> None:
        """The real learner's filter over S3 gives the run's names, each once."""
        marker = self.target.marker()
        assert marker is not None
        _, area, run, _ = marker
        configuration = yaml.safe_load(self.target.text(f"config_ghana_{area}.yaml"))
        read = learner_filter.read(self.target.text, configuration["learner"])
        labelled = self.target.query(
            "SELECT usage, name FROM incoming_names WHERE run = %s AND label ORDER BY name", run
        )
        assert read.validate == [name for usage, name in labelled if usage == "validate"]
        train = {name for usage, name in labelled if usage == "train"}
        assert read.train == sorted(train | self.training.get((area, run), set(read.train)))

    def no_secret(self, text: str) -> None:
        """No secret in ``text``, nor in what the journal has written since."""
        self._require_none("output", text)
        for file in sorted((self.target.home / "runs").rglob("*")):
            if file.is_file() and file not in self.scanned:
                self.scanned.add(file)
                self._require_none(str(file), file.read_text())

    def no_secret_at_the_end(self) -> None:
        """No secret on S3, but in configurations and their backups, nor in labeller's logs."""
        for key in self.target.objects():
            if not re.match(r"config_\w+\.yaml$|backups/.*/configuration/", key):
                self._require_none(key, self.target.body(key).decode(errors="replace"))
        for file in (self.target.home / "sandbox" / "labeller" / "log").iterdir():
            self._require_none(str(file), file.read_text(errors="replace"))

    def _require_none(self, where: str, text: str) -> None:
        assert not [where for secret in self.secrets if secret in text]


def steps(run: list[dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """The changes of each step of a run, or those that a check predicts.

    But for which daemons run: cron may start one in between, and modules are not held to that.
    """
    return {
        event["task"]: (event.get("plan"), event.get("diff"))
        for event in run
        if event["event"] == "task_result" and event["status"] in ("ok", "changed")
        if event["module"] != "labeller.runbook.daemons"
    }


def changed(run: list[dict[str, Any]]) -> list[str]:
    """The steps of a run that changed something."""
    return [event["task"] for event in run if event.get("status") == "changed"]
