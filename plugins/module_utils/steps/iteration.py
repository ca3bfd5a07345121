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

from .. import inputs, loop, machine, marker, transaction
from ..errors import InvalidInput, Refused
from ..learner import reading
from ..step import Step
from . import advance
from .f_sites import LISTED, queue_text

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

#: How many hours the details of ``state: read`` name.
HOURS = 72

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
        counted = advance.counts(tx, run)
        sites = {number: (total, processed) for number, total, processed, _ in counted}
        metrics = tx.rows(
            "SELECT iteration, accuracy::numeric, tss::numeric, auc::numeric"
            " FROM iteration_metrics WHERE run = %s ORDER BY iteration",
            (run,),
        )
        accuracies = {number: accuracy for number, accuracy, _, _ in metrics}
        phase = loop.phase(mode, iteration, sites, accuracies)
        total, processed = sites.get(iteration, (0, 0))
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
            found = advance.criteria(tx)
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

    # the changes

    def prepare(self, tx: Transaction) -> None:
        """Load what the learner will read, or left on S3 and the tables do not have yet."""
        if self.params["state"] == "exported" and self.mode == "regular":
            self.objects = reading.Objects(
                *(advance.required(self.params, name) for name in reading.Objects._fields)
            )
            reading.load(tx, self.objects)
        if self.params["state"] == "advanced":
            self.advance = advance.Advance(tx, self.params, self.mode)

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for what the learner brought wrong, or could not work with;

        ModuleFailure when it brought nothing.
        """
        if self.params["state"] == "repaired":
            return self._repair(tx)
        if self.params["state"] == "exported":
            return [self._export(tx)]
        reason = self.advance.reason
        self.outcome = {"finished": bool(reason), "reason": reason}
        return self.advance.run(tx)

    def _export(self, tx: Transaction) -> Change:
        """The table as the learner reads it; of an initial drawing, the new static list."""
        if self.mode == "regular":
            applied_at = (marker.current(tx.cursor) or {})["applied_at"]
            reading.verify(
                tx, self.params["run_id"], self.params["iteration"], applied_at, self.objects
            )
            rows = ""
        else:  # rows of earlier runs are no part of the drawing, nor labelled for its AOI name
            rows = tx.cursor.mogrify("WHERE run = %s", (self.params["run_id"],)).decode()
        key = advance.required(self.params, "incoming_names")
        return tx.upload(key, _sql.SQL(_EXPORT.format(rows)))

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
