# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step f_sites: draw a run's initial F sites and queue them (docs/labeller.md 2.5, 2.6)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, NamedTuple, Sequence

from .. import inputs
from ..errors import InvalidInput, Refused
from ..step import Step
from . import used_run
from .f_pool import PAIRED

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.sql import Composable

    from ..change import Change
    from ..step import Transaction

#: How many drawn names a diff lists.
LISTED = 1000


class Split(NamedTuple):
    """How many of the drawn sites are for what; they sum to the draw."""

    holdout: int
    validate: int
    train: int


def split(count: int, proportion_holdout: float, proportion_holdout1: float) -> Split:
    """Usages of ``count`` sites (docs/labeller.md 2.5).

    int(count * ProportionHoldout) sites are not for training, at most all of them: regular
    production's 100 means all. int(count * ProportionHoldout * ProportionHoldout1) of those are
    holdout, the others validate.
    """
    share = min(proportion_holdout, 1.0)
    aside = min(count, int(count * share))
    holdout = min(aside, int(count * share * proportion_holdout1))
    return Split(holdout, aside - holdout, count - aside)


class FSites(Step):
    """Draws the sites by a seeded hash of the name and registers them as iteration 0 of the run."""

    name = "f_sites"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "run_id": {"type": "int", "required": True},
        "aoi_index": {"type": "int", "required": True},
        "count": {"type": "int", "required": True},
        "seed": {"type": "int", "default": 0},
        "proportion_holdout": {"type": "float", "default": 100.0},
        "proportion_holdout1": {"type": "float", "default": 0.0},
        "static_names": {"type": "str"},
    }
    changed: Sequence[str] = ("iteration_metrics", "incoming_names", "kml_data")
    read: Sequence[str] = ("master_grid", "scenes_data")

    def prepare(self, tx: Transaction) -> None:
        """Raises InvalidInput for arguments out of range and for bad static names."""
        self._check_arguments()
        self.static = inputs.names(tx, self.params["static_names"])
        tx.execute(
            "CREATE TEMPORARY TABLE runbook_drawn (rank integer, name text, usage text)"
            " ON COMMIT DROP"
        )

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for a pool that is too small, Refused for a run_id used before."""
        self._draw(tx)
        present = self._present(tx)
        return [
            self._metrics(tx),
            self._names(tx, present=present),
            self._queue(tx),
        ]

    def _present(self, tx: Transaction) -> bool:
        """Whether the drawn sites are there already. Raises Refused for a run_id used before."""
        run_id = self.params["run_id"]
        refusal = used_run.refusal(tx, run_id, self.params["aoi_index"])
        sites = tx.rows("SELECT name, usage FROM incoming_names WHERE run = %s", (run_id,))
        if sites and sorted(sites) != sorted(tx.rows("SELECT name, usage FROM runbook_drawn")):
            refusal = refusal or used_run.used(tx, run_id, len(sites), None)
        if refusal:
            raise Refused(refusal)
        return bool(sites)

    def _check_arguments(self) -> None:
        self._at_least(count=1, run_id=0, aoi_index=1, proportion_holdout=0, proportion_holdout1=0)

    def _at_least(self, **least: int) -> None:
        for argument, value in least.items():
            if not self.params[argument] >= value:
                raise InvalidInput(
                    "{} is {}; expected {} or more".format(argument, self.params[argument], value)
                )

    def _pool(self, tx: Transaction) -> Composable:
        """The names to draw from: the pool that f_pool made before, or what it left in the grid."""
        if "pool" in tx.shared:
            return _sql.SQL("SELECT name FROM runbook_pool")
        return _sql.SQL(
            "SELECT name::text FROM master_grid WHERE avail = 'F' AND id IN ({})"
            " AND name::text NOT IN (SELECT name FROM ({}) AS n)"
        ).format(_sql.SQL(PAIRED), self.static)

    def _draw(self, tx: Transaction) -> None:
        """Fill runbook_drawn: the first of the pool by hash, usages by another hash."""
        count, seed = self.params["count"], str(self.params["seed"])
        parts = split(count, self.params["proportion_holdout"], self.params["proportion_holdout1"])
        drawn = tx.execute(
            _sql.SQL(
                """
                INSERT INTO runbook_drawn
                SELECT rank, name, CASE
                    WHEN place <= %(holdout)s THEN 'holdout'
                    WHEN place <= %(aside)s THEN 'validate' ELSE 'train' END
                FROM (
                    SELECT rank, name,
                           row_number() OVER (ORDER BY md5(%(seed)s || ':usage:' || name), name)
                               AS place
                    FROM (
                        SELECT name,
                               row_number() OVER (ORDER BY md5(%(seed)s || ':' || name), name)
                                   AS rank
                        FROM ({}) AS pool
                    ) AS ranked WHERE rank <= %(count)s
                ) AS placed
                """
            ).format(self._pool(tx)),
            {
                "seed": seed,
                "count": count,
                "holdout": parts.holdout,
                "aside": parts.holdout + parts.validate,
            },
        )
        if drawn < count:
            raise InvalidInput(
                "{:,} sites are to be drawn, and the pool holds {:,} cells; "
                "lower initial_f_count or choose another area".format(count, drawn)
            )

    def _metrics(self, tx: Transaction) -> Change:
        run_id, aoi = self.params["run_id"], self.params["aoi_index"]
        there = tx.value(
            "SELECT count(*) FROM iteration_metrics WHERE run = %s AND iteration = 0", (run_id,)
        )
        after = "run {}, iteration 0, AOI {}\n".format(run_id, aoi)
        if not there:
            tx.execute(
                "INSERT INTO iteration_metrics (run, iteration, aoi, iteration_time)"
                " VALUES (%s, 0, %s, now())",
                (run_id, aoi),
            )
        return tx.table_change(
            "iteration_metrics", "insert", after if there else "", after,
            {"rows_inserted": 0 if there else 1},
        )  # fmt: skip

    def _names(self, tx: Transaction, *, present: bool) -> Change:
        rows = tx.rows("SELECT name, usage FROM runbook_drawn ORDER BY name LIMIT %s", (LISTED,))
        counts = tx.rows("SELECT usage, count(*) FROM runbook_drawn GROUP BY usage ORDER BY usage")
        after = "run {}, iteration 0: {}\n".format(
            self.params["run_id"], ", ".join("{:,} {}".format(n, usage) for usage, n in counts)
        )
        after += "".join("{} {}\n".format(name, usage) for name, usage in rows)
        more = sum(n for _, n in counts) - len(rows)
        if more:
            after += "and {:,} more\n".format(more)
        inserted = 0
        if not present:
            inserted = tx.execute(
                "INSERT INTO incoming_names (name, run, iteration, processed, usage, label)"
                " SELECT name, %s, 0, false, usage, false FROM runbook_drawn ORDER BY rank",
                (self.params["run_id"],),
            )
        return tx.table_change(
            "incoming_names", "insert", after if present else "", after,
            {"rows_inserted": inserted},
        )  # fmt: skip

    def _queue(self, tx: Transaction) -> Change:
        """Register the sites in kml_data; those that are there stay as they are."""
        clash = tx.rows(
            "SELECT k.name, k.kml_type FROM kml_data k JOIN runbook_drawn d ON d.name = k.name"
            " WHERE k.kml_type <> 'F' ORDER BY 1 LIMIT 3"
        )
        if clash:
            raise InvalidInput(
                "kml_data has drawn sites as other types: {}".format(
                    ", ".join("{} ({})".format(*row) for row in clash)
                )
            )
        before = queue_text(tx)
        inserted = tx.execute(
            "INSERT INTO kml_data (kml_type, name, mapped_count) SELECT 'F', name, 0"
            " FROM runbook_drawn d WHERE NOT EXISTS"
            " (SELECT 1 FROM kml_data k WHERE k.name = d.name) ORDER BY rank"
        )
        after = queue_text(tx) if inserted else before
        return tx.table_change("kml_data", "insert", before, after, {"rows_inserted": inserted})


def queue_text(tx: Transaction) -> str:
    """kml_data by type, one line each; of the real table while its shadow is empty in advance."""
    rows = tx.rows(
        _sql.SQL("SELECT kml_type, count(*) FROM {} GROUP BY kml_type ORDER BY kml_type").format(
            tx.source("kml_data")
        )
    )
    return "".join("{}: {:,} sites\n".format(kind, n) for kind, n in rows) or "0 sites\n"
