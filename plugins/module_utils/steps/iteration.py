# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step iteration: one turn of the active-learning loop, as far as the database goes.

Makes the decisions of generate_consensus_daemon.py between two batches of sites (docs/labeller.md
4.4, 6) without its stalls: every state is read from the tables, every change is one transaction.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping, Optional, Tuple

from .. import inputs, loop, machine, marker, settings, transaction
from ..errors import InvalidInput, ModuleFailure, Refused
from ..learner import reading
from ..step import Step
from .f_sites import LISTED, queue_text

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

_METRICS: Dict[str, str] = {
    "run": "integer",
    "iteration": "integer",
    "tss": "real",
    "accuracy": "real",
    "precision": "real",
    "recall": "real",
    "fpr": "real",
    "tpr": "real",
    "AUC": "real",
    "aoi": "text",
    "iteration_time": "timestamp with time zone",
}
_NAMES: Dict[str, str] = {
    "name": "text",
    "run": "integer",
    "iteration": "integer",
    "usage": "text",
}

#: How many hours the details of ``state: read`` name.
HOURS = 72

#: configuration's keys of the criteria, with labeller's defaults (docs/labeller.md 1.3.6).
_CRITERIA = {
    "StoppingFunc_MaxIterations": "30",
    "StoppingFunc_AccThres": "0.85",
    "StoppingFunc_AccGainThres": "0.01",
}

# As Python's csv module wrote it for the learner: True and False, not t and f.
_EXPORT = """
    SELECT name, run, iteration, CASE WHEN processed THEN 'True' ELSE 'False' END AS processed,
           usage, CASE WHEN label THEN 'True' ELSE 'False' END AS label
    FROM incoming_names {} ORDER BY run, iteration, name
"""

# Sites of the iteration that no mapping can finish: without a row in the queue, or mapped more
# often than needed, which the daemon's test for equality never sees as done.
_UNQUEUED = """
    SELECT DISTINCT n.name FROM incoming_names n
    WHERE n.run = %(run)s AND n.iteration = %(iteration)s AND NOT n.processed
    AND NOT EXISTS (SELECT 1 FROM kml_data k WHERE k.name = n.name)
"""
_OVERSHOT = """
    kml_type = 'F' AND mapped_count > mappers_needed AND name IN (
        SELECT n.name FROM incoming_names n
        WHERE n.run = %(run)s AND n.iteration = %(iteration)s AND NOT n.processed)
"""


# The newest hours in which mappings completed sites that are processed now. Nothing records when a
# site became processed; the consensus follows its last mapping within minutes.
_BY_HOUR = """
    SELECT date_trunc('hour', mapped) AS hour, count(*) FROM (
        SELECT max(a.completion_time) AS mapped FROM incoming_names n
        JOIN hit_data h ON h.name = n.name JOIN assignment_data a ON a.hit_id = h.hit_id
        WHERE n.run = %s AND n.processed GROUP BY n.name) AS sites
    WHERE mapped IS NOT NULL GROUP BY 1 ORDER BY 1 DESC LIMIT {}
""".format(HOURS)


class Iteration(Step):
    """Reads where the loop is, exports the labelled names, takes in what the learner brought."""

    name = "iteration"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "state": {
            "type": "str",
            "choices": ["read", "repaired", "exported", "advanced"],
            "required": True,
        },
        "aoi_name": {"type": "str", "required": True},
        "aoi_index": {"type": "int", "required": True},
        "run_id": {"type": "int", "required": True},
        "iteration": {"type": "int"},
        "details": {"type": "bool", "default": False},
        "instance": {"type": "str", "default": ""},
        "incoming_names": {"type": "str"},
        "metrics": {"type": "str"},
        "outgoing": {"type": "str"},
        "training_names": {"type": "str"},
        "pool": {"type": "str"},
        "image_catalog": {"type": "str"},
        "labels": {"type": "str"},
    }

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if params["state"] == "repaired":
            self.changed = ("kml_data",)
            self.read = ("incoming_names", "master_grid")
        if params["state"] == "advanced":
            self.changed = ("iteration_metrics", "incoming_names", "kml_data", "system_data")
            self.read = ("master_grid",)
            self.deleted = {"incoming_names": "NOT processed"}
        self.outcome: Dict[str, Any] = {}

    @property
    def _where(self) -> Dict[str, Any]:
        return {"run": self.params["run_id"], "iteration": self.params["iteration"]}

    def in_place(self, tx: Transaction) -> bool:
        """Whether another call has advanced this iteration. Raises what ``_current`` does."""
        self.mode, counter = self._current(tx)
        if not self.mode:
            raise Refused("{}: no run is in place; apply a run mode first".format(tx.database))
        if self.params["state"] == "advanced" and counter == self.params["iteration"] + 1:
            return True
        if counter != self.params["iteration"]:
            raise InvalidInput(
                "iteration is {}, but the loop is in iteration {}; read its state again".format(
                    self.params["iteration"], counter
                )
            )
        return False

    def _current(self, tx: Transaction) -> Tuple[str, int]:
        """Mode of the run in place and its iteration. Raises Refused for another run."""
        current = marker.current(tx.cursor)
        wanted = {name: self.params[name] for name in ("aoi_name", "aoi_index", "run_id")}
        if current is None:
            return "", 0
        if any(current[name] != value for name, value in wanted.items()):
            text = "run {run_id} on {aoi_name}, AOI {aoi_index}".format
            raise Refused(
                "{}: the run in place is {}, the parameters say {}; iterate goes on with the run "
                "in place only: correct run_id, aoi_name and aoi_index, or apply the run mode of "
                "the new run first".format(tx.database, text(**current), text(**wanted))
            )
        return current["mode"], self._counter(tx)

    def _counter(self, tx: Transaction) -> int:
        rows = tx.rows("SELECT value FROM system_data WHERE key = 'IterationCounter'")
        value = str(rows[0][0]) if rows else ""
        if not value.isdigit():
            raise InvalidInput(
                "{}: system_data's IterationCounter is {}; expected a number: has pg_clear or a "
                "run mode set this database up?".format(tx.database, value or "missing")
            )
        return int(value)

    # read

    def read_state(self, tx: Transaction) -> Mapping[str, Any]:
        """The result of ``state: read``. Raises Refused for another run, InvalidInput."""
        mode, iteration = self._current(tx)
        if not mode:
            waits_for = "a run: apply a run mode first"
            return {"phase": "none", "next": "wait", "mode": "", "waits_for": waits_for}
        applied_at = (marker.current(tx.cursor) or {})["applied_at"]
        run = self.params["run_id"]
        counted = self._counts(tx, run)
        counts = {number: (total, processed) for number, total, processed, _ in counted}
        metrics = tx.rows(
            "SELECT iteration, accuracy::numeric, tss::numeric, auc::numeric"
            " FROM iteration_metrics WHERE run = %s ORDER BY iteration",
            (run,),
        )
        accuracies = {number: accuracy for number, accuracy, _, _ in metrics}
        phase = loop.phase(mode, iteration, counts, accuracies)
        total, processed = counts.get(iteration, (0, 0))
        where = {"run": run, "iteration": iteration}
        blocked = 0
        if phase == "mapping":
            blocked = tx.value("SELECT count(*) FROM ({}) AS n".format(_UNQUEUED), where)
            blocked += tx.value("SELECT count(*) FROM kml_data WHERE" + _OVERSHOT, where)
        return {
            "phase": phase,
            "next": loop.following(phase, mode, blocked),
            "mode": mode,
            "iteration": iteration,
            "applied_at": applied_at,
            "total": total,
            "processed": processed,
            "blocked": blocked,
            "failed_labels": sum(failed for _, _, _, failed in counted),
            "metrics": [
                {
                    "iteration": number,
                    **{
                        key: _finite(value)
                        for key, value in zip(("accuracy", "tss", "auc"), values)
                    },
                }
                for number, *values in metrics
            ],
            "waits_for": _waits_for(phase, mode, total - processed, iteration),
            **(self._details(tx) if self.params.get("details") else {}),
        }

    def _details(self, tx: Transaction) -> Dict[str, Any]:
        """For people who look at the loop; criteria that cannot be used are a warning here."""
        criteria = None
        try:
            found = self._criteria(tx)
        except InvalidInput as error:
            tx.warnings.append(str(error))
        else:
            criteria = {
                "max_iterations": found.max_iterations,
                "accuracy": _finite(found.accuracy),
                "gain": _finite(found.gain),
            }
        hours = reversed(tx.rows(_BY_HOUR, (self.params["run_id"],)))
        return {
            "criteria": criteria,
            "hours": [{"hour": hour.isoformat(), "sites": sites} for hour, sites in hours],
        }

    def _counts(self, tx: Transaction, run: int) -> List[Tuple[int, int, int, int]]:
        return tx.rows(
            "SELECT iteration, count(*), count(*) FILTER (WHERE processed),"
            " count(*) FILTER (WHERE processed AND NOT label)"
            " FROM incoming_names WHERE run = %s GROUP BY iteration",
            (run,),
        )

    # the changes

    def prepare(self, tx: Transaction) -> None:
        """Load what the learner will read, or left on S3 and the tables do not have yet."""
        if self.params["state"] == "exported" and self.mode == "regular":
            self.objects = reading.Objects(*map(self._key, reading.Objects._fields))
            reading.load(tx, self.objects)
        if self.params["state"] != "advanced":
            return
        self.next = self.params["iteration"] + 1
        self.criteria = self._criteria(tx)
        self.accuracies = self._accuracies(tx)
        self.metrics_from_file = self.next not in self.accuracies
        if self.metrics_from_file:
            self._load_metrics(tx)
        self.reason = loop.stopping(self.accuracies, self.next, self.criteria)
        brought = tx.value(
            "SELECT count(*) FROM incoming_names WHERE run = %s AND iteration = %s",
            (self.params["run_id"], self.next),
        )
        self.names_from_file = not self.reason and not brought
        if self.names_from_file:
            self._load_names(tx)

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for what the learner brought wrong, or could not work with;

        ModuleFailure when it brought nothing.
        """
        if self.params["state"] == "repaired":
            return self._repair(tx)
        if self.params["state"] == "exported":
            return [self._export(tx)]
        return self._advance(tx)

    def _export(self, tx: Transaction) -> Change:
        """The table as the learner reads it; of an initial drawing, the new static list."""
        if self.mode == "regular":
            applied_at = (marker.current(tx.cursor) or {})["applied_at"]
            reading.verify(
                tx, self.params["run_id"], self.params["iteration"], applied_at, self.objects
            )
            return tx.upload(self._key("incoming_names"), _sql.SQL(_EXPORT.format("")))
        # Rows of earlier runs are no part of the drawing, nor labelled for its AOI name.
        own = tx.cursor.mogrify("WHERE run = %s", (self.params["run_id"],)).decode()
        return tx.upload(self._key("incoming_names"), _sql.SQL(_EXPORT.format(own)))

    def _repair(self, tx: Transaction) -> List[Change]:
        """Queue what is not queued; a site mapped too often needs as many mappers as it had."""
        inputs.require_in_grid(tx, self._bound(tx, _UNQUEUED), "incoming_names")
        before = queue_text(tx)
        inserted = tx.execute(
            "INSERT INTO kml_data (kml_type, name, mapped_count)"
            " SELECT 'F', name, 0 FROM ({}) AS n ORDER BY name".format(_UNQUEUED),
            self._where,
        )
        raised = tx.rows(
            "UPDATE kml_data SET mappers_needed = mapped_count WHERE"
            + _OVERSHOT
            + " RETURNING name, mapped_count",
            self._where,
        )
        after = queue_text(tx) + "".join(
            "{}: mapped {} times, more than needed; complete\n".format(*row)
            for row in sorted(raised)[:LISTED]
        )
        counts = {"rows_inserted": inserted, "rows_changed": len(raised)}
        return [tx.table_change("kml_data", "update", before, after, counts)]

    def _bound(self, tx: Transaction, statement: str) -> Any:
        return _sql.SQL(tx.cursor.mogrify(statement, self._where).decode())

    def _advance(self, tx: Transaction) -> List[Change]:
        total, processed = next(
            (
                (count, done)
                for number, count, done, _ in self._counts(tx, self.params["run_id"])
                if number == self.params["iteration"]
            ),
            (0, 0),
        )
        if self.mode != "regular" or not total or processed < total:
            raise Refused(
                "{}: iteration {} is not complete ({:,} of {:,} sites processed, mode {})".format(
                    tx.database, self.params["iteration"], processed, total, self.mode
                )
            )
        changes = [self._take_metrics(tx)] if self.metrics_from_file else []
        if self.reason:
            changes += [self._drop_open(tx)]
        else:
            changes += [self._take_names(tx), self._queue(tx)]
        changes.append(self._count_up(tx))
        self.outcome = {"finished": bool(self.reason), "reason": self.reason}
        return changes

    def _key(self, option: str) -> str:
        if not self.params[option]:
            raise InvalidInput(
                "{} is missing; state {} needs it".format(option, self.params["state"])
            )
        return str(self.params[option])

    def _criteria(self, tx: Transaction) -> loop.Criteria:
        found = dict(
            tx.rows("SELECT key, value FROM configuration WHERE key = ANY (%s)", (list(_CRITERIA),))
        )
        values = []
        for key, default in _CRITERIA.items():
            if not found.get(key):
                tx.warnings.append("configuration has no {}; {} is used".format(key, default))
            text = settings.canonical(key, found.get(key) or default)
            if text is None:
                raise InvalidInput(
                    "configuration: {} is {!r}; expected {}".format(
                        key, found[key], settings.expected(key)
                    )
                )
            values.append(Decimal(text))
        return loop.Criteria(int(values[0]), values[1], values[2])

    def _accuracies(self, tx: Transaction) -> Dict[int, Optional[Decimal]]:
        # A real as numeric has the digits that were written: 0.85 is not above 0.85.
        return dict(
            tx.rows(
                "SELECT iteration, accuracy::numeric FROM iteration_metrics WHERE run = %s",
                (self.params["run_id"],),
            )
        )

    def _load_metrics(self, tx: Transaction) -> None:
        """Fill runbook_metrics with the one row of this run and iteration."""
        key = self._key("metrics")
        needed = ("run", "iteration", "accuracy")
        optional = [name for name in _METRICS if name not in needed]
        inputs.csv_table(tx, key, "runbook_metrics_file", _METRICS, optional)
        self._only_ours(tx, key, "runbook_metrics_file", "metrics")
        columns = ", ".join('"{}"'.format(name) for name in _METRICS)
        rows = tx.rows(
            "SELECT DISTINCT {}, accuracy::numeric FROM runbook_metrics_file".format(columns)
        )
        if len(rows) > 1:
            raise InvalidInput(
                "s3://{}/{} has {} rows of run {}, iteration {}; expected one".format(
                    tx.bucket, key, len(rows), self.params["run_id"], self.next
                )
            )
        self.metrics = rows[0][:-1]
        self.accuracies[self.next] = rows[0][-1]

    def _load_names(self, tx: Transaction) -> None:
        key = self._key("outgoing")
        inputs.csv_table(tx, key, "runbook_outgoing", _NAMES, ["usage"])
        self._only_ours(tx, key, "runbook_outgoing", "names")
        empty = tx.value(
            "SELECT count(*) FROM runbook_outgoing WHERE coalesce(btrim(name), '') = ''"
        )
        if empty:
            raise InvalidInput("s3://{}/{}: {} rows have no name".format(tx.bucket, key, empty))

    def _only_ours(self, tx: Transaction, key: str, table: str, what: str) -> None:
        """Keep the rows of this run and iteration; ModuleFailure when there is none."""
        others = tx.rows(
            "SELECT run, iteration, count(*) FROM {} WHERE (run, iteration) IS DISTINCT FROM"
            " (%s, %s) GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 3".format(table),
            (self.params["run_id"], self.next),
        )
        found = "; ".join("run {}, iteration {}: {:,} rows".format(*row) for row in others)
        kept = tx.execute(
            "DELETE FROM {} WHERE (run, iteration) IS DISTINCT FROM (%s, %s)".format(table),
            (self.params["run_id"], self.next),
        )
        if not tx.value("SELECT count(*) FROM {}".format(table)):
            raise ModuleFailure(
                "the learner brought no {} for run {}, iteration {}: s3://{}/{} holds {}; look at "
                "the learner's logs, and at --probability-images (num_possibilities), which must "
                "be at least 1".format(
                    what, self.params["run_id"], self.next, tx.bucket, key, found
                )
            )
        if kept:
            tx.warnings.append(
                "s3://{}/{}: rows of others are left out ({})".format(tx.bucket, key, found)
            )

    def _take_metrics(self, tx: Transaction) -> Change:
        with inputs.blamed("s3://{}/{}".format(tx.bucket, self.params["metrics"])):
            tx.execute(
                "INSERT INTO iteration_metrics ({}) VALUES ({})".format(
                    ", ".join('"{}"'.format(name.lower()) for name in _METRICS),
                    ", ".join(["%s"] * len(_METRICS)),
                ),
                self.metrics,
            )
        after = "run {}, iteration {}: accuracy {}\n".format(
            self.params["run_id"], self.next, self.accuracies[self.next]
        )
        return tx.table_change("iteration_metrics", "insert", "", after, {"rows_inserted": 1})

    def _take_names(self, tx: Transaction) -> Change:
        """The new sites, each once, none that was a site of this run before."""
        place = (self.params["run_id"], self.next)
        inserted = 0
        if self.names_from_file:
            inserted = tx.execute(
                "INSERT INTO incoming_names (name, run, iteration, processed, usage, label)"
                " SELECT name, run, iteration, false, coalesce(min(usage), 'train'), false"
                " FROM runbook_outgoing GROUP BY name, run, iteration ORDER BY name"
            )
        # Not by EXISTS: with statistics from before the names came that is a loop within a loop.
        removed = tx.execute(
            "DELETE FROM incoming_names n USING (SELECT ctid, iteration, row_number() OVER"
            "  (PARTITION BY name ORDER BY iteration, ctid) AS nth FROM incoming_names"
            "  WHERE run = %s AND iteration <= %s) AS o"
            " WHERE n.ctid = o.ctid AND o.iteration = %s AND o.nth > 1",
            (*place, place[1]),
        )
        if removed:
            tx.warnings.append(
                "{:,} of the learner's names are left out: twice, or sites of run {} before".format(
                    removed, place[0]
                )
            )
        self._verify_names(tx, place)
        rows = tx.rows(
            "SELECT name FROM incoming_names WHERE run = %s AND iteration = %s ORDER BY name"
            " LIMIT %s",
            (*place, LISTED),
        )
        count = tx.value(
            "SELECT count(*) FROM incoming_names WHERE run = %s AND iteration = %s", place
        )
        after = "run {}, iteration {}: {:,} names\n".format(*place, count)
        after += "".join("{}\n".format(name) for (name,) in rows)
        if count > len(rows):
            after += "and {:,} more\n".format(count - len(rows))
        before = "" if self.names_from_file else after
        counts = {"rows_inserted": inserted, "rows_deleted": removed}
        return tx.table_change("incoming_names", "insert", before, after, counts)

    def _verify_names(self, tx: Transaction, place: Tuple[int, int]) -> None:
        brought = _sql.SQL(
            tx.cursor.mogrify(
                "SELECT name FROM incoming_names WHERE run = %s AND iteration = %s", place
            ).decode()
        )
        what = "the learner's names of run {}, iteration {}".format(*place)
        if not tx.rows(_sql.SQL("SELECT 1 FROM ({}) AS q LIMIT 1").format(brought)):
            raise ModuleFailure(
                "{} are all sites that were mapped before; the loop cannot go on with them".format(
                    what
                )
            )
        inputs.require_in_grid(tx, brought, what)
        clash = tx.rows(
            _sql.SQL(
                "SELECT k.name, k.kml_type FROM kml_data k JOIN ({}) AS q ON q.name = k.name"
                " WHERE k.kml_type <> 'F' ORDER BY 1 LIMIT 3"
            ).format(brought)
        )
        if clash:
            raise InvalidInput(
                "{}: some are sites of other types in kml_data: {}".format(
                    what, ", ".join("{} ({})".format(*row) for row in clash)
                )
            )

    def _queue(self, tx: Transaction) -> Change:
        before = queue_text(tx)
        inserted = tx.execute(
            "INSERT INTO kml_data (kml_type, name, mapped_count) SELECT 'F', name, 0"
            " FROM incoming_names n WHERE run = %s AND iteration = %s"
            " AND NOT EXISTS (SELECT 1 FROM kml_data k WHERE k.name = n.name) ORDER BY name",
            (self.params["run_id"], self.next),
        )
        return tx.table_change(
            "kml_data", "insert", before, queue_text(tx), {"rows_inserted": inserted}
        )

    def _drop_open(self, tx: Transaction) -> Change:
        """The learner's last names will not be mapped (docs/labeller.md 4.4.7)."""
        deleted = tx.execute(
            "DELETE FROM incoming_names WHERE run = %s AND NOT processed",
            (self.params["run_id"],),
        )
        before = "{:,} names to map\n".format(deleted) if deleted else ""
        return tx.table_change("incoming_names", "delete", before, "", {"rows_deleted": deleted})

    def _count_up(self, tx: Transaction) -> Change:
        tx.execute(
            "UPDATE system_data SET value = %s WHERE key = 'IterationCounter'", (str(self.next),)
        )
        text = "IterationCounter: {}{}\n".format
        return tx.table_change(
            "system_data",
            "update",
            text(self.next - 1, ""),
            text(self.next, "; the loop ends, {}".format(self.reason) if self.reason else ""),
            {"rows_changed": 1},
        )


def _finite(value: Optional[Decimal]) -> Optional[float]:
    return float(value) if value is not None and value.is_finite() else None


def _waits_for(phase: str, mode: str, left: int, iteration: int) -> str:
    if phase == "mapping":
        return "mappers: {:,} sites of iteration {} are open".format(left, iteration)
    if phase == "complete":
        return "the learner" if mode == "regular" else "nothing: the sites are labelled"
    return {
        "returned": "the next call, which registers the learner's names",
        "stopped": "nothing: the loop has ended",
        "none": "sites: the run has none",
    }[phase]


def logic(params: Mapping[str, Any], check_mode: bool) -> Mapping[str, Any]:
    """The module iteration."""
    step = Iteration(params)
    if params["state"] == "read":
        machine.require(params.get("instance") or "")
        return transaction.read(step, params)
    done = transaction.run([step], params, check=check_mode)
    return {**done, **step.outcome}
