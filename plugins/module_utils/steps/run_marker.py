# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step run_marker: the row that says which run this database is set up for (design section 6)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping

from .. import guard, marker
from ..change import Change
from ..errors import InvalidInput, Refused
from ..transaction import Step

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..transaction import Transaction

MODES = ["initial", "single", "regular"]


class RunMarker(Step):
    """Marks the run; a transaction whose run is marked already does none of its steps."""

    name = "run_marker"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "state": {"type": "str", "choices": ["present", "read"], "default": "present"},
        "mode": {"type": "str", "required": True, "choices": MODES},
        "aoi_name": {"type": "str", "required": True},
        "aoi_index": {"type": "int", "required": True},
        "run_id": {"type": "int", "required": True},
        "follows": {"type": "bool", "default": False},
    }
    changed = (marker.TABLE,)

    def in_place(self, tx: Transaction) -> bool:
        """Whether the newest marker is this run's. Raises InvalidInput for a state of read."""
        if self.params["state"] != "present":
            raise InvalidInput("run_marker in a transaction: state is read; expected present")
        return is_in_place(marker.current(tx.cursor), self.params)

    def observe(self, tx: Transaction) -> Mapping[str, Any]:
        """What ``state: read`` returns."""
        current = marker.current(tx.cursor)
        in_place = is_in_place(current, self.params)
        if self.params["follows"] and not in_place:
            require_previous(current, self.params, tx.database)
        label = _text(current).strip() if current else ""
        return {"in_place": in_place, "current": current, "label": label}

    def prepare(self, tx: Transaction) -> None:
        """Make the table where no run was ever applied; in check mode a temporary one.

        Raises Refused when the run must follow the one in place and does not.
        """
        self.before = marker.current(tx.cursor)
        if self.params["follows"]:
            require_previous(self.before, self.params, tx.database)
        if marker.exists(tx.cursor):
            return
        guard.require_schema(tx.cursor, tx.database, "runbook")
        if tx.check:
            tx.execute("CREATE TEMPORARY TABLE run_marker {}".format(marker.DEFINITION))
        else:
            tx.execute("CREATE SCHEMA IF NOT EXISTS runbook")
            tx.execute("CREATE TABLE runbook.run_marker {}".format(marker.DEFINITION))

    def run(self, tx: Transaction) -> List[Change]:
        """Insert the row."""
        backup = tx.params.get("backup") or {}
        tx.shared["marker"] = tx.value(
            "INSERT INTO run_marker (mode, aoi_name, aoi_index, run_id, applied_by, backup_id)"
            " VALUES (%s, %s, %s, %s,"
            " session_user || '@' || coalesce(host(inet_client_addr()), 'local'), %s) RETURNING id",
            (*(self.params[name] for name in marker.COLUMNS), backup.get("backup_id")),
        )
        return [
            Change(
                tx.resource("run marker"),
                "insert",
                _text(self.before) + _left_behind(tx, self.before) if self.before else "no run\n",
                _text(self.params),
                {"rows_inserted": 1},
            )
        ]


def is_in_place(current: Mapping[str, Any] | None, params: Mapping[str, Any]) -> bool:
    """Whether ``current`` (``marker.current``) is the run of ``params``."""
    return current is not None and all(current[name] == params[name] for name in marker.COLUMNS)


def require_previous(
    current: Mapping[str, Any] | None, params: Mapping[str, Any], database: str
) -> None:
    """Raise Refused unless ``current`` is the run before that of ``params``, on the same AOI."""
    same_area = current is not None and all(
        current[name] == params[name] for name in ("aoi_name", "aoi_index")
    )
    if current is None or not same_area or current["run_id"] != params["run_id"] - 1:
        raise Refused(
            "{}: {}does not follow the run in place, {}; a reset goes from a run to the next "
            "run_id on the same AOI. For any other run apply its own playbook, for instance "
            "regular.yml".format(
                database,
                _text({"mode": params.get("mode"), **params}).replace("\n", " "),
                _text(current).strip() if current else "which no playbook has marked",
            )
        )


def _left_behind(tx: Transaction, run: Mapping[str, Any]) -> str:
    """What the old run leaves: how many names it processed, and its last metrics."""
    names = tx.rows(
        _sql.SQL(
            "SELECT usage, count(*), count(*) FILTER (WHERE processed) FROM {} WHERE run = %s"
            " GROUP BY usage ORDER BY usage"
        ).format(tx.source("incoming_names")),
        (run["run_id"],),
    )
    metrics = tx.rows(
        "SELECT iteration, accuracy, tss FROM iteration_metrics WHERE run = %s"
        " ORDER BY iteration DESC LIMIT 1",
        (run["run_id"],),
    )
    lines = [
        "{:,} of {:,} {} names processed\n".format(processed, count, usage)
        for usage, count, processed in names
    ]
    lines += [
        "last metrics: iteration {}, accuracy {}, TSS {}\n".format(
            iteration, *("none" if value is None else value for value in values)
        )
        for iteration, *values in metrics
    ]
    return "".join(lines)


def _text(run: Mapping[str, Any]) -> str:
    if run["mode"] == "geography":
        return "another geography, no run\n"
    values: Dict[str, Any] = {name: run[name] for name in marker.COLUMNS}
    return "{mode} run {run_id} on {aoi_name}, AOI {aoi_index}\n".format(**values)
