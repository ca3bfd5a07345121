# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step worker_qualifications: reset qualified workers' quality records (docs/labeller.md 2.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Dict, List

from ..errors import InvalidInput
from ..step import Step

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

BONUS = ("Bonus_AmountTraining", "Bonus_ReasonTraining")


class WorkerQualifications(Step):
    """The effect of revoking and granting, for the workers who are qualified now only."""

    name = "worker_qualifications"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "state": {"type": "str", "choices": ["kept", "reset"], "default": "kept"}
    }

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if params["state"] == "reset":
            self.changed = ("worker_data", "assignment_history")

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput when a bonus is due and its settings are missing."""
        if self.params["state"] == "kept":
            return []
        before = _text(tx)
        unpaid = tx.value(
            "SELECT count(*) FROM worker_data WHERE qualified AND bonus_paid IS NOT TRUE"
        )
        if unpaid:
            self._pay(tx)
        changed = tx.execute(
            "UPDATE worker_data SET scores = '{}', returns = '{}', last_time = now(),"
            " bonus_paid = true WHERE qualified"
            " AND (scores <> '{}' OR returns <> '{}' OR bonus_paid IS NOT TRUE)"
        )
        bonus = "" if not unpaid else "training bonus to {:,} workers\n".format(unpaid)
        return [
            tx.table_change("worker_data", "update", before, _text(tx), {"rows_changed": changed}),
            tx.table_change(
                "assignment_history", "insert", "", bonus, {"rows_inserted": int(unpaid)}
            ),
        ]

    def _pay(self, tx: Transaction) -> None:
        found = dict(
            tx.rows("SELECT key, value FROM configuration WHERE key = ANY (%s)", (list(BONUS),))
        )
        missing = [key for key in BONUS if not found.get(key)]
        if missing:
            raise InvalidInput(
                "configuration has no {}, and workers are due the training bonus; set it in "
                "labeller_settings".format(" and no ".join(missing))
            )
        tx.execute(
            "INSERT INTO assignment_history (event_type, worker_id, amount, feedback)"
            " SELECT 'Training Bonus', worker_id, %s, %s FROM worker_data"
            " WHERE qualified AND bonus_paid IS NOT TRUE ORDER BY worker_id",
            [found[key] for key in BONUS],
        )


def _text(tx: Transaction) -> str:
    rows = tx.rows(
        "SELECT count(*), count(*) FILTER (WHERE scores <> '{}' OR returns <> '{}')"
        " FROM worker_data WHERE qualified"
    )
    return "{:,} qualified workers, {:,} with scores or returns\n".format(*rows[0])
