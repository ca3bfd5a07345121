# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many rows a restore makes appear, vanish and differ."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Sequence, Tuple

from .. import postgres
from . import catalog
from . import load as loading

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable, Composed

    from .target import Target


class Difference(NamedTuple):
    """Rows before and after, and how they differ; with no key, a row that differs is two."""

    before: int
    after: int
    appear: int
    vanish: int
    differ: int


def between(cursor: Cursor, target: Target, before: int) -> Difference:
    """How the rows in a target's stages differ from the ``before`` rows of its live table."""
    staged = _union(target, target.backed_up)
    after = int(postgres.value(cursor, sql.SQL("SELECT count(*) FROM ({}) AS s").format(staged)))
    if not before or not after:
        return Difference(before, after, after, before, 0)
    for stage in target.stages.values():
        cursor.execute(sql.SQL("ANALYZE {}").format(loading.stage(stage)))
    live = sql.SQL("SELECT {} FROM {}").format(
        catalog.column_list(target.live), catalog.identifier(*target.place)
    )
    primary = catalog.primary_key(cursor, *target.place)
    key = [pair for pair in target.columns if pair[1] in primary]
    if key and len(key) == len(primary):
        query = _by_key(staged, live, target, key)
    else:
        query = _by_row(staged, live, target)
    cursor.execute(query)
    (counts,) = cursor.fetchall()
    return Difference(before, after, *map(int, counts))


def _union(target: Target, names: Sequence[str]) -> Composable:
    return sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {} FROM {}").format(catalog.column_list(names), loading.stage(stage))
        for stage in target.stages.values()
    )


def _by_key(
    staged: Composable, live: Composable, target: Target, key: Sequence[Tuple[str, str]]
) -> Composed:
    """Counts of rows that appear, vanish and differ, by primary key."""

    def side(query: Composable, names: Sequence[str], keys: Sequence[str]) -> Composed:
        chosen = sql.SQL(", ").join(
            sql.SQL("{} AS key_{}").format(sql.Identifier(name), sql.SQL(str(number)))
            for number, name in enumerate(keys)
        )
        return sql.SQL("SELECT md5(ROW({})::text) AS row_md5, {} FROM ({}) AS q").format(
            catalog.column_list(names), chosen, query
        )

    return sql.SQL(
        "SELECT count(*) FILTER (WHERE l.row_md5 IS NULL),"
        " count(*) FILTER (WHERE s.row_md5 IS NULL),"
        " count(*) FILTER (WHERE s.row_md5 <> l.row_md5) FROM ({}) AS s FULL JOIN ({}) AS l ON {}"
    ).format(
        side(staged, target.backed_up, [name for name, _ in key]),
        side(live, target.live, [name for _, name in key]),
        sql.SQL(" AND ").join(
            sql.SQL("s.key_{0} = l.key_{0}").format(sql.SQL(str(number)))
            for number in range(len(key))
        ),
    )


def _by_row(staged: Composable, live: Composable, target: Target) -> Composed:
    """Counts of rows that appear and disappear, by content, for tables without a key."""
    side = sql.SQL("SELECT md5(ROW({})::text) AS row_md5, count(*) AS n FROM ({}) AS q GROUP BY 1")
    sides = [
        side.format(catalog.column_list(names), query)
        for names, query in ((target.backed_up, staged), (target.live, live))
    ]
    return sql.SQL(
        "SELECT coalesce(sum(greatest(coalesce(s.n, 0) - coalesce(l.n, 0), 0)), 0),"
        " coalesce(sum(greatest(coalesce(l.n, 0) - coalesce(s.n, 0), 0)), 0), 0"
        " FROM ({}) AS s FULL JOIN ({}) AS l USING (row_md5)"
    ).format(*sides)


def rows_text(count: int) -> str:
    """A number of rows in words."""
    return "{} {}".format(count, "row" if count == 1 else "rows")
