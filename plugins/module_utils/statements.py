# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The definitions of tables that labeller's own SQL needs, and those that a database lacks.

Labeller joins tables with USING and names columns without their table, inserts rows without some
columns, and writes incoming_names to S3 in the columns' physical order. A column that was added by
hand or by a restore from an older dump breaks such a statement at each execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple

if TYPE_CHECKING:
    from .step import Transaction

_ACCURACY = (
    "assignment_id new_score old_score count_acc fragmentation_acc edge_acc ingrid_acc outgrid_acc"
    " category_acc num_userpolygons field_skill nofield_skill"
)
_MAPS = "name geom completion_time category categ_comment assignment_id geom_clean"

#: The columns that the statements name, by table.
COLUMNS = {
    table: names.split()
    for table, names in {
        "configuration": "key value",
        "system_data": "key value",
        "kml_data": "gid kml_type name hint mapped_count mappers_needed consensus_conflict",
        "kml_data_static": "gid kml_type name hint",
        "master_grid": "gid id x y name fwts avail date",
        "scenes_data": "cell_id season",
        "hit_data": "hit_id name create_time delete_time max_assignments duration reward",
        "assignment_data": "assignment_id hit_id worker_id start_time completion_time status score"
        " comment",
        "assignment_history": "event_time event_type worker_id assignment_id amount feedback",
        "worker_data": "worker_id first_time last_time scores returns qualified bonus_paid"
        " random_state",
        "users": "id first_name last_name",
        "categories": "category categ_description categ_default sort_id categ_group",
        "qaqcfields": "name category geom_clean",
        "user_maps": _MAPS,
        "qual_user_maps": _MAPS + " try",
        "accuracy_data": _ACCURACY,
        "qual_accuracy_data": _ACCURACY + " try",
        "qual_assignment_data": "assignment_id worker_id name tries start_time completion_time"
        " status score",
        "incoming_names": "name run iteration processed usage label",
        "iteration_metrics": "run iteration tss accuracy aoi iteration_time precision recall fpr"
        " tpr auc",
    }.items()
}


class Join(NamedTuple):
    """A join with USING: columns that must be in one of the two tables only."""

    left: str
    right: str
    only_left: str
    only_right: str
    #: The statement that fails while the other table has such a column too.
    breaks: str


JOINS = (
    Join("kml_data", "master_grid", "kml_type mapped_count mappers_needed", "fwts x y",
         "create_hit_daemon at each start, and the map page"),
    Join("hit_data", "kml_data", "hit_id max_assignments reward delete_time", "kml_type",
         "create_hit_daemon, cleanup_absent_worker, worker_notification_daemon and the assignment"
         " page"),
    Join("assignment_data", "hit_data", "worker_id assignment_id status completion_time",
         "name reward", "the assignment page"),
    Join("incoming_names", "iteration_metrics", "name usage processed label", "iteration_time",
         "generate_consensus_daemon"),
    Join("kml_data", "qual_assignment_data", "kml_type gid", "completion_time score",
         "the qualification page"),
    Join("users", "worker_data", "first_name last_name", "worker_id qualified",
         "the notification daemons"),
    Join("qaqcfields", "categories", "name geom_clean", "categ_group", "the scoring of maps"),
    Join("user_maps", "categories", "name geom_clean assignment_id", "categ_group",
         "the scoring of maps and the consensus"),
    Join("qual_user_maps", "categories", "name geom_clean assignment_id try", "categ_group",
         "the scoring of the qualification test"),
)  # fmt: skip

#: The columns that an INSERT of labeller's gives; every other needs a default or may be NULL.
INSERTS = {
    "kml_data": ("kml_type name mapped_count", "register_f_sites and select_n_sites"),
    "hit_data": ("name create_time max_assignments duration reward", "create_hit_daemon"),
    "assignment_data": ("hit_id worker_id start_time status", "the assignment page"),
    "worker_data": ("worker_id first_time last_time", "the qualification page"),
    "qual_assignment_data": ("worker_id name tries start_time status", "the qualification page"),
    "user_maps": (_MAPS, "the assignment page"),
    "qual_user_maps": (_MAPS + " try", "the qualification page"),
    "assignment_history": ("event_type worker_id amount feedback", "the payment of a bonus"),
    "accuracy_data": (_ACCURACY, "the scoring of maps"),
    "qual_accuracy_data": (_ACCURACY + " try", "the scoring of the qualification test"),
    "iteration_metrics": ("run iteration aoi iteration_time", "initial_f_sites"),
    "incoming_names": ("name run iteration usage", "initial_f_sites and the learner"),
}  # fmt: skip

#: Defaults that rows rely on because their INSERT leaves the column out, and what else comes of it.
FALSE = {
    ("worker_data", "qualified"): "a new visitor is qualified without the test",
    ("incoming_names", "processed"): "new names are never mapped",
    ("incoming_names", "label"): "new names count as labelled, or failed labels are not counted",
}

#: Values that a CHECK of a single column must admit.
VALUES = {
    ("assignment_data", "status"): (
        "Assigned Abandoned Returned Approved Rejected Unscored Reversed Pending Untrusted"
    ),
    ("kml_data", "kml_type"): "Q F N I",
}


def problems(tx: Transaction) -> List[str]:
    """A line for each thing that makes a statement of labeller's fail, with the remedy."""
    columns: Dict[str, Dict[str, Any]] = {}
    for table, column, kind, required, default in tx.rows(
        "SELECT c.relname, a.attname, format_type(a.atttypid, NULL), a.attnotnull,"
        " pg_get_expr(d.adbin, d.adrelid)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'public')"
        " AND c.relname = ANY (%s)"
        " AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        (list(COLUMNS),),
    ):
        columns.setdefault(table, {})[column] = (kind, required, default)
    found = []
    for table, wanted in COLUMNS.items():
        if table not in columns:
            found.append("there is no table {}".format(table))
            columns[table] = {}
        else:
            found += [
                "{} has no column {}".format(table, column)
                for column in wanted
                if column not in columns[table]
            ]
    return [*found, *_joins(columns), *_inserts(columns), *_forms(columns), *_checks(tx)]


def _joins(columns: Dict[str, Dict[str, Any]]) -> List[str]:
    found = []
    for join in JOINS:
        for extra, other, names in (
            (join.right, join.left, join.only_left), (join.left, join.right, join.only_right),
        ):  # fmt: skip
            found += [
                "{0} has a column {1}, as {2} has: it is ambiguous in {3}; "
                "ALTER TABLE {0} DROP COLUMN {1}".format(extra, name, other, join.breaks)
                for name in names.split()
                if name in columns[extra]
            ]
    return found


def _inserts(columns: Dict[str, Dict[str, Any]]) -> List[str]:
    return [
        "{0}.{1} is NOT NULL without a default, and {2} inserts rows without it; "
        "ALTER TABLE {0} ALTER COLUMN {1} DROP NOT NULL".format(table, column, reader)
        for table, (given, reader) in INSERTS.items()
        for column, (_, required, default) in columns[table].items()
        if required and default is None and column not in given.split()
    ]


def _forms(columns: Dict[str, Dict[str, Any]]) -> List[str]:
    found = [
        "{0}.{1} does not default to false: {2}; "
        "ALTER TABLE {0} ALTER COLUMN {1} SET DEFAULT false".format(table, column, effect)
        for (table, column), effect in FALSE.items()
        if column in columns[table] and columns[table][column][2] != "false"
    ]
    kind = columns["master_grid"].get("date", ("text", None, None))[0]
    if kind not in ("text", "character varying", "character"):
        found.append(
            "master_grid.date is of type {}: the map page needs a text; ALTER TABLE master_grid "
            "ALTER COLUMN date TYPE text".format(kind)
        )
    names, wanted = list(columns["incoming_names"]), COLUMNS["incoming_names"]
    if set(wanted) <= set(names) and names[: len(wanted)] != wanted:
        found.append(
            "incoming_names has its columns in the order {}: generate_consensus_daemon writes the "
            "learner's file in this order, and the learner reads {}".format(
                ", ".join(names[: len(wanted)]), ", ".join(wanted)
            )
        )
    return found


def _checks(tx: Transaction) -> List[str]:
    """Constraints of a single column that refuse a value which labeller writes."""
    found = []
    for (table, column), values in VALUES.items():
        for name, expression in tx.rows(
            "SELECT conname, pg_get_expr(conbin, conrelid) FROM pg_constraint"
            " JOIN pg_attribute ON attrelid = conrelid AND conkey = ARRAY[attnum]"
            " WHERE contype = 'c' AND attname = %s AND conrelid = to_regclass(%s) ORDER BY conname",
            (column, "public." + table),
        ):
            # The expression is the server's own rendering of the constraint.
            template = 'SELECT "{0}" FROM unnest(%s::varchar[]) AS given ("{0}") WHERE NOT ({1})'
            refused = tx.rows(
                template.format(column, expression.replace("%", "%%")), (values.split(),)
            )
            if refused:
                found.append(
                    "the constraint {} of {} refuses {} {}, which labeller writes".format(
                        name, table, column, ", ".join(value for (value,) in refused)
                    )
                )
    return found
