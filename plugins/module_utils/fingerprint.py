# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fingerprints of tables: two tables with the same rows have the same one, in whatever order.

The server computes them: a hash of each row, summed modulo 2^64. Sums of disjoint parts add up to
the sum of the whole, so a table may be read in chunks. The prefix says how:

``hash64:``
    PostgreSQL 11 and later. A row's hash is the exclusive or of its values' hashes, each seeded
    with the column's number, by the server's own functions for hash partitioning, which keep their
    results across versions. Numbers with a usual type and strings are hashed as they are, all else
    as text; 0 and -0 are one number.
``md5sum:``
    Older servers, six times slower: over the MD5 of each row's text, the sums of its two halves.

Text forms of values depend on session settings, which ``postgres.connect`` fixes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Sequence

from . import server
from .errors import InvalidInput

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812
    from psycopg2.sql import Composable, Composed

HASH64, MD5SUM = "hash64:", "md5sum:"
_DIGITS = {HASH64: 16, MD5SUM: 32}
_HASH64_SERVER = 110000
_MODULUS = 1 << 64


class Column(NamedTuple):
    """A column of a table; ``type`` as ``format_type`` writes it (``character varying(80)``)."""

    name: str
    type: str


class Fingerprint(NamedTuple):
    """How many rows, and what they are: ``hash64:`` and 16 hex digits, ``md5sum:`` and 32."""

    rows: int
    fingerprint: str


def columns(cursor: Cursor, schema: str, table: str) -> List[Column]:
    """The columns that a fingerprint and a backup hold, in table order.

    Without dropped and generated ones. An empty list: there is no such table.
    """
    # attgenerated came with PostgreSQL 12
    stored = "AND a.attgenerated = ''" if server.version(cursor.connection) >= 120000 else ""
    query = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped {}
        ORDER BY a.attnum
        """
    cursor.execute(query.format(stored), (schema, table))
    return [Column(name, kind) for name, kind in cursor.fetchall()]


def method(version: int, like: str = "") -> str:
    """The prefix of what to compute on a server of ``version``: that of ``like``, if any.

    InvalidInput when the server cannot compute one like it.
    """
    if like.startswith(MD5SUM):
        return MD5SUM
    if version >= _HASH64_SERVER:
        return HASH64
    if like.startswith(HASH64):
        raise InvalidInput(
            "a fingerprint was computed by PostgreSQL 11 or later, and this server is older: it "
            "cannot compare its rows"
        )
    return MD5SUM


def empty(version: int, like: str = "") -> Fingerprint:
    """The fingerprint of no rows."""
    prefix = method(version, like)
    return Fingerprint(0, prefix + "0" * _DIGITS[prefix])


def sql(
    schema: Optional[str],
    table: str,
    columns: Sequence[Column],
    version: int,
    where: Optional[Composable] = None,
    like: str = "",
) -> Composed:
    """A query of one row, (rows bigint, fingerprint text), over the columns.

    Without ``schema`` the table is found on the search path. ``where`` is a condition without the
    keyword; results of disjoint conditions ``combine``. ``version`` is the server's
    (``server.version``), ``like`` a fingerprint to compare with. The table's columns may
    be text that holds what COPY wrote for values of the types given.
    """
    hashed = _md5sum if method(version, like) == MD5SUM else _hash64
    condition = _sql.SQL("WHERE {}").format(where) if where is not None else _sql.SQL("")
    source = _sql.SQL("{} {}").format(_sql.Identifier(*filter(None, (schema, table))), condition)
    return hashed(columns, source)


def _hash64(columns: Sequence[Column], source: Composable) -> Composed:
    hashes = [_column_hash(column, number) for number, column in enumerate(columns, 1)]
    return _sql.SQL("SELECT count(*), {prefix} || {sum} FROM {source}").format(
        prefix=_sql.Literal(HASH64),
        sum=_residue(_sql.SQL(" # ").join(hashes or [_sql.SQL("0::bigint")])),
        source=source,
    )


def _column_hash(column: Column, seed: int) -> Composed:
    """SQL: the hash of a value, or the seed for NULL."""
    template = _HASHES.get(column.type.partition("(")[0], _TEXT_HASH)
    return _sql.SQL("coalesce(" + template + ", {seed})").format(
        value=_sql.Identifier(column.name), seed=_sql.Literal(seed)
    )


#: Of a value's output form, which a cast to text is not for every type (inet).
_TEXT_HASH = 'hashtextextended(ROW({value})::text COLLATE "C", {seed})'
#: By type as ``format_type`` writes it, without what is in parentheses.
_HASHES = {
    "smallint": "hashint2extended({value}::smallint, {seed})",
    "integer": "hashint4extended({value}::integer, {seed})",
    "bigint": "hashint8extended({value}::bigint, {seed})",
    "real": "hashfloat4extended({value}::real, {seed})",
    "double precision": "hashfloat8extended({value}::double precision, {seed})",
    "boolean": "hashint4extended({value}::boolean::integer, {seed})",
    "text": 'hashtextextended({value}::text COLLATE "C", {seed})',
    "character varying": 'hashtextextended({value}::text COLLATE "C", {seed})',
    "character": 'hashbpcharextended({value}::bpchar COLLATE "C", {seed})',
}


def _md5sum(columns: Sequence[Column], source: Composable) -> Composed:
    # OFFSET 0 keeps the planner from computing the MD5 once for each half.
    return _sql.SQL(
        """
        SELECT count(*), {prefix} || {high} || {low} FROM (
            SELECT ('x' || md5(ROW({columns})::text))::bit(128) AS digest FROM {source} OFFSET 0
        ) AS digests
        """
    ).format(
        prefix=_sql.Literal(MD5SUM),
        high=_residue(_sql.SQL("substring(digest from 1 for 64)::bigint")),
        low=_residue(_sql.SQL("substring(digest from 65 for 64)::bigint")),
        columns=_sql.SQL(", ").join(_sql.Identifier(column.name) for column in columns),
        source=source,
    )


def _residue(number: Composable) -> Composed:
    """SQL: the sum of ``number`` modulo 2^64, as 16 hex digits."""
    # sum(bigint) is numeric; to_hex takes a bigint, so the residue is moved to -2^63 .. 2^63-1.
    return _sql.SQL(
        "lpad(to_hex((mod(mod(coalesce(sum({number}), 0)"
        " + 9223372036854775808, 18446744073709551616) + 18446744073709551616,"
        " 18446744073709551616) - 9223372036854775808)::bigint), 16, '0')"
    ).format(number=number)


def of_table(
    cursor: Cursor,
    schema: str,
    table: str,
    where: Optional[Composable] = None,
    like: str = "",
) -> Fingerprint:
    """The fingerprint of a table's present rows, over all its ``columns``."""
    return of_columns(cursor, schema, table, columns(cursor, schema, table), where, like)


def of_columns(
    cursor: Cursor,
    schema: Optional[str],
    table: str,
    columns: Sequence[Column],
    where: Optional[Composable] = None,
    like: str = "",
) -> Fingerprint:
    """The result of ``sql`` with these arguments."""
    cursor.execute(sql(schema, table, columns, server.version(cursor.connection), where, like))
    row = cursor.fetchone()
    assert row is not None
    return Fingerprint(*row)


def combine(parts: Sequence[Fingerprint]) -> Fingerprint:
    """The fingerprint of a table from those of its disjoint parts, at least one, of one method."""
    prefix = parts[0].fingerprint.partition(":")[0] + ":"
    sums = [0] * (_DIGITS[prefix] // 16)
    for part in parts:
        digits = part.fingerprint[len(prefix) :]
        for number in range(len(sums)):
            sums[number] += int(digits[16 * number : 16 * number + 16], 16)
    rows = sum(part.rows for part in parts)
    return Fingerprint(rows, prefix + "".join("{:016x}".format(n % _MODULUS) for n in sums))
