# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fingerprints of tables: two tables with the same rows have the same one, in whatever order.

The server computes them (SQL that PostgreSQL 9.6 has): over the MD5 of each row's text, the sum of
its two 64-bit halves modulo 2^64. Sums of disjoint parts add up to the sum of the whole, so a table
may be read in chunks. Text forms of values depend on session settings, which ``postgres.connect``
fixes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Iterable, List, NamedTuple, Optional, Sequence

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable, Composed

PREFIX = "md5sum:"
_MODULUS = 1 << 64


class Column(NamedTuple):
    """A column of a table; ``type`` as ``format_type`` writes it (``character varying(80)``)."""

    name: str
    type: str


class Fingerprint(NamedTuple):
    """How many rows, and what they are: ``md5sum:`` and 32 hex digits."""

    rows: int
    fingerprint: str


EMPTY = Fingerprint(0, PREFIX + "0" * 32)


def columns(cursor: Cursor, schema: str, table: str) -> List[Column]:
    """The columns that a fingerprint and a backup hold, in table order.

    Without dropped and generated ones. An empty list: there is no such table.
    """
    # attgenerated came with PostgreSQL 12
    stored = "AND a.attgenerated = ''" if cursor.connection.server_version >= 120000 else ""
    query = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped {}
        ORDER BY a.attnum
        """
    cursor.execute(query.format(stored), (schema, table))
    return [Column(name, kind) for name, kind in cursor.fetchall()]


def sql(
    schema: Optional[str],
    table: str,
    column_names: Sequence[str],
    where: Optional[Composable] = None,
    version: int = 0,
) -> Composed:
    """A query of one row, (rows bigint, fingerprint text), over the named columns.

    Without ``schema`` the table is found on the search path. ``where`` is a condition without the
    keyword; results of disjoint conditions ``combine``. ``version`` is the server's
    (``connection.server_version``): newer ones compute the same faster.
    """
    prepared, high, low = _HALVES_18 if version >= 180000 else _HALVES
    # OFFSET 0 keeps the planner from computing the MD5 once for each half.
    return _sql.SQL(
        """
        SELECT count(*), '{prefix}' || {high} || {low} FROM (
            SELECT {prepared} AS digest FROM (
                SELECT md5(ROW({columns})::text) AS md5 FROM {table} {where} OFFSET 0
            ) AS rows OFFSET 0
        ) AS digests
        """
    ).format(
        prefix=_sql.SQL(PREFIX),
        high=_residue(high),
        low=_residue(low),
        prepared=_sql.SQL(prepared),
        columns=_sql.SQL(", ").join(map(_sql.Identifier, column_names)),
        table=_sql.Identifier(*filter(None, (schema, table))),
        where=_sql.SQL("WHERE {}").format(where) if where is not None else _sql.SQL(""),
    )


#: How an MD5 in hex becomes two bigints. The second way, the same numbers for half the time, came
#: with PostgreSQL 18.
_HALVES = (
    "('x' || md5)::bit(128)",
    "substring(digest from 1 for 64)::bigint",
    "substring(digest from 65 for 64)::bigint",
)
_HALVES_18 = (
    "decode(md5, 'hex')",
    "substring(digest from 1 for 8)::bigint",
    "substring(digest from 9 for 8)::bigint",
)


def _residue(half: str) -> Composed:
    """SQL: the sum of ``half`` modulo 2^64, as 16 hex digits."""
    # sum(bigint) is numeric; to_hex takes a bigint, so the residue is moved to -2^63 .. 2^63-1.
    return _sql.SQL(
        "lpad(to_hex((mod(mod(coalesce(sum({half}), 0)"
        " + 9223372036854775808, 18446744073709551616) + 18446744073709551616,"
        " 18446744073709551616) - 9223372036854775808)::bigint), 16, '0')"
    ).format(half=_sql.SQL(half))


def of_table(
    cursor: Cursor, schema: str, table: str, where: Optional[Composable] = None
) -> Fingerprint:
    """The fingerprint of a table's present rows, over all its ``columns``."""
    names = [column.name for column in columns(cursor, schema, table)]
    cursor.execute(sql(schema, table, names, where, cursor.connection.server_version))
    row = cursor.fetchone()
    assert row is not None
    return Fingerprint(*row)


def combine(parts: Iterable[Fingerprint]) -> Fingerprint:
    """The fingerprint of a table from those of its disjoint parts."""
    rows = high = low = 0
    for part in parts:
        digits = part.fingerprint[len(PREFIX) :]
        rows += part.rows
        high = (high + int(digits[:16], 16)) % _MODULUS
        low = (low + int(digits[16:], 16)) % _MODULUS
    return Fingerprint(rows, "{}{:016x}{:016x}".format(PREFIX, high, low))
