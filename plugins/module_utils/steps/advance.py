# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state ``advanced`` of the step iteration: what the learner brought is taken in."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

from .. import inputs, loop, settings
from ..errors import InvalidInput, ModuleFailure, Refused
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

#: configuration's keys of the criteria, with labeller's defaults (docs/labeller.md 1.3.6).
_CRITERIA = {
    "StoppingFunc_MaxIterations": "30",
    "StoppingFunc_AccThres": "0.85",
    "StoppingFunc_AccGainThres": "0.01",
}


def counts(tx: Transaction, run: int) -> List[Tuple[int, int, int, int]]:
    """By iteration its number, its sites, those processed, and those of them without a label."""
    return tx.rows(
        "SELECT iteration, count(*), count(*) FILTER (WHERE processed),"
        " count(*) FILTER (WHERE processed AND NOT label)"
        " FROM incoming_names WHERE run = %s GROUP BY iteration",
        (run,),
    )


def criteria(tx: Transaction) -> loop.Criteria:
    """The criteria that end the loop; InvalidInput for a value that cannot be used."""
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


def required(params: Mapping[str, Any], option: str) -> str:
    """An option that the state needs; InvalidInput without it."""
    if not params[option]:
        raise InvalidInput("{} is missing; state {} needs it".format(option, params["state"]))
    return str(params[option])


class Advance:
    """From an iteration to the next one: its metrics, then its names, or the end of the loop.

    Loads what the learner left on S3 and the tables do not have yet. Raises InvalidInput for what
    is wrong there, ModuleFailure when there is nothing.
    """

    def __init__(self, tx: Transaction, params: Mapping[str, Any], mode: str) -> None:
        self.params, self.mode = params, mode
        self.next = params["iteration"] + 1
        ends = criteria(tx)
        self.accuracies = self._accuracies(tx)
        self.metrics_from_file = self.next not in self.accuracies
        if self.metrics_from_file:
            self._load_metrics(tx)
        #: Why the loop ends here; empty when it goes on.
        self.reason = loop.stopping(self.accuracies, self.next, ends)
        brought = tx.value(
            "SELECT count(*) FROM incoming_names WHERE run = %s AND iteration = %s",
            (params["run_id"], self.next),
        )
        self.names_from_file = not self.reason and not brought
        if self.names_from_file:
            self._load_names(tx)

    def run(self, tx: Transaction) -> List[Change]:
        """Take them in; raises Refused while the iteration is not complete."""
        total, processed = next(
            (
                (count, done)
                for number, count, done, _ in counts(tx, self.params["run_id"])
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
        return changes

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
        key = required(self.params, "metrics")
        needed = ("run", "iteration", "accuracy")
        optional = [name for name in _METRICS if name not in needed]
        inputs.Csv(tx, key, "runbook_metrics_file", _METRICS, optional).load()
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
        key = required(self.params, "outgoing")
        inputs.Csv(tx, key, "runbook_outgoing", _NAMES, ["usage"]).load()
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
