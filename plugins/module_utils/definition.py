# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How tables are defined, as a digest: columns, defaults, constraints, indexes, triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Sequence

from . import postgres

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: Stands between a fingerprint of rows and the digest of their table's definition.
MARK = ";definition:"

_DIGESTS = """
    SELECT c.relname, md5(concat_ws(E'\\n',
        (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull,
                                     pg_get_expr(adbin, adrelid)), E'\\n' ORDER BY attnum)
         FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
        (SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), E'\\n' ORDER BY conname)
         FROM pg_constraint WHERE conrelid = c.oid),
        (SELECT string_agg(pg_get_indexdef(indexrelid), E'\\n' ORDER BY pg_get_indexdef(indexrelid))
         FROM pg_index WHERE indrelid = c.oid),
        (SELECT string_agg(tgenabled::text || pg_get_triggerdef(oid), E'\\n' ORDER BY tgname)
         FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)))
    FROM pg_class c WHERE c.relname = ANY (%s) AND c.relnamespace =
        (SELECT oid FROM pg_namespace WHERE nspname = 'public')
"""


def digests(cursor: Cursor, tables: Sequence[str]) -> Dict[str, str]:
    """The digests of tables of the schema public, by name.

    Names in definitions are qualified unless the search path finds them, so there is none here.
    """
    search_path = postgres.value(cursor, "SELECT current_setting('search_path')")
    cursor.execute("SELECT set_config('search_path', '', true)")
    cursor.execute(_DIGESTS, (list(tables),))
    found = dict(cursor.fetchall())
    cursor.execute("SELECT set_config('search_path', %s, true)", (search_path,))
    return found
