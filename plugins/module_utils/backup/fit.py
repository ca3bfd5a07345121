# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the rows of a backup fit their tables as they are now, and the run that is said."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import (
    TYPE_CHECKING,
    Any,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from .. import marker, postgres
from ..errors import InvalidInput, Refused
from . import catalog
from . import load as loading
from .compare import Comparison
from .difference import rows_text
from .target import Target

with suppress(ImportError):  # postgres.connect says what to install
    import psycopg2
    from psycopg2 import sql

if TYPE_CHECKING:
    from psycopg2.sql import Composable


_NOT_NULL_VIOLATION, _CHECK_VIOLATION = "23502", "23514"


class Fit:
    """Violations of constraints, foreign keys and run marker that a restore would leave."""

    def __init__(self, found: Comparison) -> None:
        self.found, self.cursor = found, found.cursor

    def check_constraints(self) -> None:
        """Refuse, in a check, rows that the constraints of their table would refuse."""
        for target in self.found.filled.values():
            if target.name in self.found.copies:
                with fitting(self.found.origin.label, target):
                    self.cursor.execute(
                        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
                            loading.stage(self.found.copies[target.name]),
                            catalog.column_list(target.live),
                            catalog.column_list(target.backed_up),
                            loading.stage(next(iter(target.stages.values()))),
                        )
                    )

    def check_references(self) -> None:
        """Refuse, in a check, what the foreign keys would refuse when the swap makes them again.

        Not those of one partition of a table that is restored as a whole.
        """
        after = self.found.filled
        for key in self.found.references:
            if not {key.place, key.to} & after.keys():
                continue
            referring = self._rows_after(key.place, key.columns, after)
            known = self._rows_after(key.to, key.to_columns, after)
            if referring is None or known is None:
                continue
            columns, others = (
                [sql.SQL("{}.{}").format(sql.SQL(side), sql.Identifier(name)) for name in names]
                for side, names in (("r", key.columns), ("k", key.to_columns))
            )
            self.cursor.execute(
                sql.SQL(
                    "SELECT count(*), min(ROW({})::text) FROM ({}) AS r WHERE {}"
                    " AND NOT EXISTS (SELECT FROM ({}) AS k WHERE {})"
                ).format(
                    sql.SQL(", ").join(columns),
                    referring,
                    sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(c) for c in columns),
                    known,
                    sql.SQL(" AND ").join(
                        sql.SQL("{} = {}").format(*pair) for pair in zip(columns, others)
                    ),
                )
            )
            count, example = self.cursor.fetchone() or (0, "")
            if count:
                raise InvalidInput(
                    "the restored rows do not fit the others (foreign key {} of table {}): {} "
                    "would refer to what is not in table {}, for instance {} {}; restore both "
                    "tables from the same backup".format(
                        key.name,
                        catalog.label(*key.place),
                        rows_text(count),
                        catalog.label(*key.to),
                        ", ".join(key.columns),
                        example,
                    )
                )

    def check_run(self, *, staged: bool) -> None:
        """Refuse when the tables, as the restore leaves them, are not the run that was said.

        ``staged``: the new rows are beside the live tables, not yet in them.
        """
        if not self.found.params["run"]:
            return
        after = self.found.filled
        tables = {}
        for name, columns in marker.USED.items():
            place = ("public", name)
            rows = self._rows_after(place, columns, after) if staged and place in after else None
            if rows is not None:
                tables[name] = sql.SQL("({})").format(rows)
        found = marker.inconsistencies(self.cursor, self.found.params["run"], tables)
        if found:
            raise Refused(
                "{}: the restored tables are not {}: {}. Nothing was changed".format(
                    postgres.database_name(self.found.params),
                    marker.text(self.found.params["run"]),
                    "; ".join(found),
                )
            )

    def _rows_after(
        self, place: Tuple[str, str], columns: Sequence[str], after: Mapping[Any, Target]
    ) -> Optional[Composable]:
        """Columns of a table as the restore leaves it; None where a check does not know them.

        A foreign key sees the rows of the table alone, without those of tables that inherit from
        it, but all rows of a partitioned one.
        """
        if place in after:
            return self._staged(after[place], place, columns)
        staged = {label: target for target in after.values() for label in target.stages}
        relations = catalog.relations(self.cursor, *place)
        own = [found for found in relations if (found.schema, found.name) == place]
        parts: List[Composable] = []
        for found in own or relations:
            label = catalog.label(found.schema, found.name)
            if label in staged:
                part = self._staged(staged[label], (found.schema, found.name), columns)
            elif catalog.is_part_of(self.cursor, found.oid, [*after]):
                part = None  # which rows of a partitioned table go into one partition
            else:
                part = sql.SQL("SELECT {} FROM ONLY {}").format(
                    catalog.column_list(columns), catalog.identifier(found.schema, found.name)
                )
            if part is None:
                return None
            parts.append(part)
        return sql.SQL(" UNION ALL ").join(parts) if parts else None

    def _staged(
        self, target: Target, place: Tuple[str, str], columns: Sequence[str]
    ) -> Optional[Composable]:
        """Columns of the rows that go into a table; None when one of them gets its default."""
        backed_up = {live: name for name, live in target.columns}
        if not set(columns) <= set(backed_up):
            return None
        return sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(sql.Identifier(backed_up[name]), sql.Identifier(name))
                for name in columns
            ),
            loading.stage(target.stages[catalog.label(*place)]),
        )


@contextmanager
def fitting(backup: str, target: Target) -> Iterator[None]:
    """Raise InvalidInput for rows that a constraint refuses, of the table or of a copy of it.

    The names of the indexes and of the relation are not those of the table in a copy.
    """
    try:
        yield
    except psycopg2.IntegrityError as error:
        diagnosis = error.diag
        key = re.match(r"Key (\(.*?\))", diagnosis.message_detail or "")
        if error.pgcode == _NOT_NULL_VIOLATION:
            broken = "column {} may not be null".format(diagnosis.column_name)
        elif error.pgcode == _CHECK_VIOLATION:
            broken = "they violate check constraint {}".format(diagnosis.constraint_name)
        else:
            broken = "they violate a unique or exclusion constraint{}".format(
                " on {}".format(key.group(1)) if key else ""
            )
        raise InvalidInput(
            "the rows of backup {} do not fit table {} as it is now: {}; nothing was changed. "
            "Alter the table, or restore the others only".format(backup, target.label, broken)
        ) from error
