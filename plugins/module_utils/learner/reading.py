# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify what the learner will read for an iteration (docs/labeller.md 5.2, 5.3).

The learner drops what it cannot use without a message and fails only after hours of a cluster, or
brings a wrong accuracy. So everything that it reads is verified before a cluster is started, by its
own rules: the rows of the table and of the run's static list together, without de-duplication,
that carry the run's number and a true label; of these the ones whose name is in the pool.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NamedTuple, Tuple

from .. import aws, inputs
from ..errors import InvalidInput

if TYPE_CHECKING:
    from ..step import Transaction

#: The columns of both files of names; the learner reads them by position.
HEADER = ["name", "run", "iteration", "processed", "usage", "label"]

#: Spark's spellings of true.
_TRUE = ("t", "true", "y", "yes", "1")

#: The learner asks for names in the least certain twentieth of the cells that no row names.
FEWEST_TO_ASK_FOR = 11


class Name(NamedTuple):
    """A row that the learner keeps."""

    name: str
    iteration: int
    usage: str


class Objects(NamedTuple):
    """Keys of what the learner reads beside the exported table; ``labels`` is a prefix."""

    training_names: str
    pool: str
    image_catalog: str
    labels: str


def load(tx: Transaction, objects: Objects) -> None:
    """Read pool and catalogue into temporary tables. Raises InvalidInput for what is not there."""
    cells = {"name": "text", "col": "text", "row": "text"}
    inputs.Csv(tx, objects.pool, "runbook_learner_pool", cells).load()
    scenes = {"col": "text", "row": "text", "season": "text"}
    inputs.Csv(tx, objects.image_catalog, "runbook_learner_catalog", scenes).load()


def verify(tx: Transaction, run: int, iteration: int, applied_at: str, objects: Objects) -> None:
    """Raise InvalidInput with everything that would make the learner fail or learn wrongly.

    ``iteration`` is the one whose sites are complete; ``applied_at`` is the run marker's time.
    """
    static, problems = _static(tx, run, objects.training_names)
    rows = tx.rows(
        "SELECT name, iteration, usage FROM incoming_names WHERE run = %s AND label", (run,)
    )
    kept = [*(Name(*row) for row in rows), *static]
    problems += _of_tables(tx, run, iteration, kept, applied_at)
    problems += _of_names(tx, kept, objects)
    if problems:
        raise InvalidInput(
            "{}: the learner cannot bring iteration {} of run {}; no cluster is started\n{}".format(
                tx.database, iteration + 1, run, "\n".join("- " + each for each in problems)
            )
        )


def _static(tx: Transaction, run: int, key: str) -> Tuple[List[Name], List[str]]:
    """The rows of the static list that the learner keeps, and what is wrong with the others."""
    name = "s3://{}/{}".format(tx.bucket, key)
    text = inputs.whole(tx, key).decode("utf-8", "replace")
    header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    remedy = "regular.yml wrote it for this run: put that version back, or start a new run_id"
    if header != HEADER:
        found = ",".join(header)[:100]
        return [], ["{} begins with {!r}, not {}; {}".format(name, found, ",".join(HEADER), remedy)]
    kept = [
        Name(row[0], int(row[2]), row[4])
        for row in rows
        if len(row) >= len(HEADER)
        and row[1] == str(run)
        and row[2].isdigit()
        and row[5].lower() in _TRUE
    ]
    dropped = len(rows) - len(kept)
    if not dropped:
        return kept, []
    problem = "{}: {:,} of {:,} rows are not of run {} with a true label and would not train; {}"
    return kept, [problem.format(name, dropped, len(rows), run, remedy)]


def _of_tables(
    tx: Transaction, run: int, iteration: int, kept: List[Name], applied_at: str
) -> List[str]:
    """Why learner and run_DB_insert would disagree on the iteration (docs/labeller.md 5.5)."""
    problems = []
    last = max((name.iteration for name in kept), default=None)
    if last is not None and last != iteration:
        problems.append(
            "iteration {} is complete, and {} is the last with a label: the learner would bring "
            "iteration {}, which run_DB_insert does not take; make labels for iteration {}, or "
            "correct incoming_names".format(iteration, last, last + 1, iteration)
        )
    metrics = dict(
        tx.rows(
            "SELECT iteration, iteration_time < %s::timestamptz - interval '1 day'"
            " FROM iteration_metrics WHERE run = %s AND iteration > %s",
            (applied_at, run, iteration),
        )
    )
    ((names, newest),) = tx.rows(
        "SELECT count(*), max(iteration) FROM incoming_names WHERE run = %s AND iteration > %s",
        (run, iteration),
    )
    if names and newest not in metrics:
        problems.append(
            "incoming_names has {:,} names of iteration {} already, without metrics: delete them, "
            "or restore iteration_metrics".format(names, newest)
        )
    old = [number for number, is_old in metrics.items() if is_old or number > iteration + 1]
    if old:
        problems.append(
            "iteration_metrics has iteration {} of an earlier run {}: start a new run_id, or "
            "delete these rows".format(", ".join(map(str, sorted(old))), run)
        )
    return problems


def _of_names(tx: Transaction, kept: List[Name], objects: Objects) -> List[str]:
    """Empty sets, and names without what the learner needs of each."""
    counts = Counter(name.name for name in kept)
    cells = tx.rows(
        """
        SELECT p.name, p.col, p."row", c.gs, c.os FROM runbook_learner_pool p LEFT JOIN (
            SELECT col, "row", count(*) FILTER (WHERE season = 'GS') AS gs,
                   count(*) FILTER (WHERE season = 'OS') AS os
            FROM runbook_learner_catalog GROUP BY 1, 2
        ) c ON (c.col, c."row") = (p.col, p."row") WHERE p.name = ANY (%s)
        """,
        (list(counts),),
    )
    in_pool = Counter(name for name, *_ in cells)
    used = {
        usage: {n.name for n in kept if n.usage == usage and n.name in in_pool}
        for usage in ("train", "validate")
    }
    problems = [
        "there is no name to {}: no row of this run with a true label and usage {} is in the pool; "
        "start a new run with static training names and initial sites".format(usage, usage)
        for usage, names in used.items()
        if not names
    ]
    wanted = used["train"] | used["validate"]
    place: Dict[str, Any] = {"bucket": tx.bucket, "objects": objects}
    labels = _labels(tx, objects.labels)
    found = {
        "{names} are not in the pool, s3://{bucket}/{objects.pool}, and the learner would leave "
        "them out; a new run_id recreates pool and static list": set(counts) - set(in_pool),
        "{names} are there more than once in incoming_names and the static list, or in the pool: "
        "they would count more than once, or both train and validate; delete all but one row": {
            name for name, number in in_pool.items() if number > 1 or counts[name] > 1
        },
        "{names} have no label image below s3://{bucket}/{objects.labels}; put the images there, "
        "or set label = false for these names": {
            name
            for name, col, row, *_ in cells
            if name in wanted and "{}_{}_{}".format(name, col, row) not in labels
        },
        "{names} do not have one scene of each season in s3://{bucket}/{objects.image_catalog}; "
        "correct that catalogue": {
            name for name, _, _, gs, os in cells if name in wanted and (gs, os) != (1, 1)
        },
    }
    problems += [
        text.format(names=_named(names), **place) for text, names in found.items() if names
    ]
    pool = tx.value("SELECT count(DISTINCT name) FROM runbook_learner_pool")
    if pool - len(in_pool) < FEWEST_TO_ASK_FOR:
        problems.append(
            "{:,} cells of the pool are left to ask for, and the learner needs {} or more: the "
            "area is mapped; end the run (shutdown.yml)".format(
                pool - len(in_pool), FEWEST_TO_ASK_FOR
            )
        )
    return problems


def _labels(tx: Transaction, prefix: str) -> set[str]:
    """Names of the label images below a prefix, without their ending."""
    keys = [each["Key"] for each in aws.objects(tx.s3, tx.bucket, prefix)]
    return {key[len(prefix) : -len(".tif")] for key in keys if key.endswith(".tif")}


def _named(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = ", ..." if len(listed) > 3 else ""
    return "{:,} names ({}{})".format(len(listed), ", ".join(listed[:3]), more)
