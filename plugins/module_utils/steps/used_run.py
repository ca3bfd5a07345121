# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a run's number was used before: the learner does not distinguish the two runs."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Optional

from .. import inputs

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..step import Transaction


def refusal(tx: Transaction, run_id: int, aoi_index: int) -> str:
    """Why a number cannot be a new run's, and what to do; empty when it can.

    By what pg_clear leaves of earlier runs: their processed names and their metrics.
    """
    names = tx.value("SELECT count(*) FROM incoming_names WHERE run = %s AND processed", (run_id,))
    iteration, aois = tx.rows(
        "SELECT max(iteration), array_agg(aoi::text) FILTER (WHERE iteration = 0)"
        " FROM iteration_metrics WHERE run = %s",
        (run_id,),
    )[0]
    if names or iteration:
        return used(tx, run_id, names, iteration)
    if aois and aois != [str(aoi_index)]:
        return "{}: iteration_metrics has run {} with AOI {}; choose a new run_id".format(
            tx.database, run_id, aois[0]
        )
    return ""


def used(tx: Transaction, run_id: int, names: int, iteration: Optional[int]) -> str:
    """The refusal of a number that has names or iterations."""
    highest = tx.value(
        "SELECT max(run) FROM (SELECT run FROM incoming_names UNION ALL"
        " SELECT run FROM iteration_metrics) AS runs"
    )
    return (
        "{}: run_id {} was used before: incoming_names has {:,} names of it, and iteration_metrics "
        "goes to its iteration {}. The learner does not distinguish two runs of one number; choose "
        "a new run_id ({} is free), or delete what earlier runs left: earlier_metrics=clear".format(
            tx.database, run_id, names, iteration or 0, highest + 1
        )
    )


def is_drawing(tx: Transaction, run_id: int, static_names: Optional[str]) -> bool:
    """Whether all that a number has is an initial drawing, with its labels in the static list.

    Regular production takes it out of the tables: kept, its names would train twice, and those
    without a label be sites that no mapper gets.
    """
    query = (
        "SELECT coalesce(bool_and(iteration = 0 AND usage = 'train' AND processed"
        " AND (label IS NOT TRUE OR name IN ({trains}))) FILTER (WHERE processed), true)"
        " AND (SELECT max(iteration) FROM public.iteration_metrics WHERE run = {run}) = 0"
        " FROM public.incoming_names WHERE run = {run}"
    )
    return bool(
        tx.value(
            _sql.SQL(query).format(
                trains=inputs.training_names(tx, static_names), run=_sql.Literal(run_id)
            )
        )
    )
