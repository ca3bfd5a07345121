# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step run_marker: the row that says which run this database is set up for (docs/safety.md)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping

from .. import marker, privileges, shadow
from ..change import Change
from ..errors import InvalidInput, Refused
from ..step import Step
from . import used_run

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from ..step import Transaction

MODES = list(marker.RUN_MODES)


class RunMarker(Step):
    """Marks the run; a transaction whose run is marked already does none of its steps."""

    name = "run_marker"
    settles = True
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "state": {
            "type": "str",
            "choices": ["present", "read", "checked", "resumable"],
            "default": "present",
        },
        "mode": {"type": "str", "required": True, "choices": MODES},
        "aoi_name": {"type": "str", "required": True},
        "aoi_index": {"type": "int", "required": True},
        "run_id": {"type": "int", "required": True},
        "follows": {"type": "bool", "default": False},
        "replaced_run": {"type": "str", "default": ""},
        "made_with": {"type": "dict"},
        "earlier_metrics": {"type": "str", "choices": ["keep", "clear"], "default": "keep"},
        "static_names": {"type": "str"},
    }
    changed = (marker.TABLE,)

    def in_place(self, tx: Transaction) -> bool:
        """Whether the newest marker is this run's. Raises InvalidInput for another state."""
        if self.params["state"] != "present":
            raise InvalidInput(
                "run_marker in a transaction: state is {}; expected present".format(
                    self.params["state"]
                )
            )
        return self._is_in_place(tx, marker.current(tx.cursor))

    def _is_in_place(self, tx: Transaction, current: Mapping[str, Any] | None) -> bool:
        """A run whose tables disagree is in place unless it may be replaced."""
        if not marker.is_same(current, self.params):
            return False
        return not (self._may_replace(current) and marker.inconsistencies(tx.cursor, current))

    def _may_replace(self, current: Mapping[str, Any] | None) -> bool:
        return current is not None and self.params["replaced_run"] == _number(current)

    def read_state(self, tx: Transaction) -> Mapping[str, Any]:
        """The result of the states that only read; see the module's documentation."""
        current = marker.current(tx.cursor)
        inconsistencies = marker.inconsistencies(tx.cursor, current)
        in_place = self._is_in_place(tx, current)
        headline = ""
        if self.params["state"] == "resumable":
            self._require_resumable(tx, current, inconsistencies)
        else:
            if self.params["follows"] and not in_place:
                require_previous(current, self.params, tx.database)
            if self.params["state"] == "checked":
                self._require_agreement(tx, current, inconsistencies)
                headline = "" if in_place else self._require_replaceable(tx, current)
                if not in_place:
                    self._require_unused(tx)
                tx.warnings += self._ignored(tx, current) if in_place else []
        return {
            "in_place": in_place,
            "current": current,
            "label": marker.text(current) if current else "",
            "msg": "in place: {}".format(marker.text(current)),
            "inconsistencies": inconsistencies,
            "headline": headline,
        }

    def _require_agreement(
        self, tx: Transaction, current: Mapping[str, Any] | None, inconsistencies: List[str]
    ) -> None:
        if not inconsistencies or current is None or self._may_replace(current):
            return
        raise Refused(
            "{}: the run marker says {}, and the tables disagree: {}. Were they restored or "
            "changed by hand? restore.yml with restored_run says which run they are; "
            "replaced_run={} has a run mode back them up and replace them".format(
                tx.database, marker.text(current), "; ".join(inconsistencies), _number(current)
            )
        )

    def _require_replaceable(self, tx: Transaction, current: Mapping[str, Any] | None) -> str:
        """The run that this one replaces, in a line; empty for none. Raises Refused."""
        if current is None:
            return ""
        wanted = _text(self.params)
        unprocessed, names = marker.open_names(tx.cursor, current)
        done = "{:,} of {:,} names processed".format(names - unprocessed, names)
        reasons = []
        later = marker.is_run(current) and current["run_id"] > self.params["run_id"]
        if later and _same_area(current, self.params):
            reasons.append("which is a later run on the same AOI")
        if unprocessed:
            reasons.append("of which {:,} names are unprocessed".format(unprocessed))
        if reasons and not self._may_replace(current):
            raise Refused(
                "{}: {} would replace {}, {}. Give replaced_run={} if that is meant (its tables "
                "are backed up first); to go on with the run in place, set run_id, aoi_name, "
                "aoi_index and the run mode to it".format(
                    tx.database, wanted, marker.text(current), " and ".join(reasons),
                    _number(current),
                )
            )  # fmt: skip
        return "Another run: {} replaces {}{}".format(
            wanted, marker.text(current), " ({})".format(done) if names else ""
        )

    def _require_unused(self, tx: Transaction) -> None:
        """Refuse, before anything is changed, a number that the steps of the run would refuse."""
        names = self.params["static_names"]
        tables = ("incoming_names", "iteration_metrics")
        if self.params["earlier_metrics"] == "clear" or not all(
            shadow.exists(tx.cursor, table) for table in tables
        ):
            return
        run_id = self.params["run_id"]
        refusal = used_run.refusal(tx, run_id, self.params["aoi_index"])
        if refusal and not (names and used_run.is_drawing(tx, run_id, names)):
            raise Refused(refusal)

    def _ignored(self, tx: Transaction, current: Mapping[str, Any] | None) -> List[str]:
        """The parameters that the run in place was not made with, in a line."""
        made = (current or {}).get("made_with") or {}
        wanted = self.params["made_with"] or {}
        differ = [
            "{} is {}, the run was made with {}".format(name, _plain(wanted[name]), _plain(was))
            for name, was in sorted(made.items())
            if name in wanted and _plain(wanted[name]) != _plain(was)
        ]
        if not differ:
            return []
        return [
            "{}: {} is in place; these parameters take effect with a new run_id only: {}".format(
                tx.database, marker.text(current), "; ".join(differ)
            )
        ]

    def _require_resumable(
        self, tx: Transaction, current: Mapping[str, Any] | None, inconsistencies: List[str]
    ) -> None:
        """Raise Refused unless the tables are those that the configuration was written for."""
        self._require_agreement(tx, current, inconsistencies)
        if current is None or current["mode"] == "geography":
            return
        if not marker.is_run(current):
            raise Refused(
                "{}: the tables were restored from a backup that does not say which run they are. "
                "Say it by restore.yml with restored_run, or apply a run mode with "
                "replaced_run={}, which backs them up and replaces them".format(
                    tx.database, _number(current)
                )
            )
        names = ("aoi_name", "aoi_index", "run_id")
        if any(current[name] != self.params[name] for name in names):
            raise Refused(
                "{}: the run in place is {}, the parameters say run {run_id} on {aoi_name}, AOI "
                "{aoi_index}. Correct run_id, aoi_name and aoi_index, then apply {}.yml, which "
                "writes the configuration of the run in place and puts it into service".format(
                    tx.database, marker.text(current), current["mode"], **self.params
                )
            )

    def prepare(self, tx: Transaction) -> None:
        """Make the table where no run was ever applied; in check mode a temporary one.

        Raises Refused when the run must follow the one in place and does not, and for a run in
        place that may not be replaced.
        """
        self.before = marker.current(tx.cursor)
        if self.params["mode"] in MODES:
            if self.params["follows"]:
                require_previous(self.before, self.params, tx.database)
            self._require_replaceable(tx, self.before)
        if not marker.exists(tx.cursor):
            privileges.require_schema(tx.cursor, tx.database)
            if tx.check:
                tx.execute("CREATE TEMPORARY TABLE run_marker {}".format(marker.DEFINITION))
        if not tx.check:
            marker.create(tx.cursor)

    def run(self, tx: Transaction) -> List[Change]:
        """Insert the row."""
        backup = tx.params.get("backup") or {}
        tx.shared["marker"] = marker.insert(
            tx.cursor,
            self.params,
            backup_id=backup.get("backup_id"),
            made_with=self.params["made_with"],
        )
        before = marker.text(self.before) + "\n"
        if self.before:
            before += _left_behind(tx, self.before)
        return [
            Change(
                tx.resource("run marker"),
                "insert",
                before,
                marker.text(self.params) + "\n",
                {"rows_inserted": 1},
            )
        ]


def require_previous(
    current: Mapping[str, Any] | None, params: Mapping[str, Any], database: str
) -> None:
    """Raise Refused unless ``current`` is the run before that of ``params``, on the same AOI."""
    if (
        current is None
        or not _same_area(current, params)
        or current["run_id"] != params["run_id"] - 1
    ):
        raise Refused(
            "{}: {} does not follow the run in place, {}; a reset goes from a run to the next "
            "run_id on the same AOI. For any other run apply its own playbook, for instance "
            "regular.yml".format(
                database,
                _text(params),
                marker.text(current) if current else "which no playbook has marked",
            )
        )


def _same_area(current: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    return all(current[name] == params[name] for name in ("aoi_name", "aoi_index"))


def _number(current: Mapping[str, Any]) -> str:
    """How replaced_run names the run in place."""
    return str(current["run_id"]) if marker.is_run(current) else "unknown"


def _plain(value: Any) -> str:
    """A parameter as text; lists without an order, numbers as YAML and Jinja may give them."""
    if isinstance(value, list):
        return ", ".join(sorted(map(_plain, value))) or "empty"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if value != "" else "empty"


def _text(params: Mapping[str, Any]) -> str:
    return marker.text({"mode": params.get("mode"), **params})


def _left_behind(tx: Transaction, run: Mapping[str, Any]) -> str:
    """The state of the old run: how many names it processed, and its last metrics."""
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
