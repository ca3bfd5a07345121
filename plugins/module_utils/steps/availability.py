# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Availability codes of master_grid: set here, and counted once a transaction.

The grid is large (102 million cells for the continent) and has no index on the code, so counting
reads it whole. It is counted before the first change; from then on the changes are added up. All
changes of the column go through ``release`` and ``mark``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.sql import Composable

    from ..change import Change
    from ..step import Transaction

#: Code values of master_grid.avail (docs/labeller.md 1.2).
MEANING = {
    "T": "free",
    "I": "training cell",
    "Q": "quality cell",
    "F": "pool or chosen F cell",
    "N": "issued as N site",
    "E": "label to edit",
}
#: Each side-by-side cells that the transaction gave another code: codes, first and last gid.
_NET = """
    WITH ends AS (SELECT gid, (array_agg(old ORDER BY number))[1] AS old,
                  (array_agg(new ORDER BY number))[count(*)] AS new FROM runbook_kept GROUP BY gid),
    net AS (SELECT * FROM ends WHERE old IS DISTINCT FROM new),
    ranged AS (SELECT *, gid - row_number() OVER (PARTITION BY old, new ORDER BY gid) AS range
               FROM net)
    SELECT old, new, min(gid), max(gid) FROM ranged GROUP BY old, new, range ORDER BY 1, 2, 3
"""


#: What ``Step.updated`` is for the steps that set codes.
UPDATED: Mapping[str, Sequence[str]] = {"master_grid": ("avail",)}

_COUNTS = "availability"
_KEPT = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS runbook_kept"
    " (gid integer, old character(1), new character(1), number serial) ON COMMIT DROP"
)
_FREE = "T"


def _counts(tx: Transaction) -> Dict[Optional[str], int]:
    """Cells by code, of which there may be none any more."""
    if _COUNTS not in tx.shared:
        query = _sql.SQL("SELECT avail, count(*) FROM {} GROUP BY avail")
        tx.shared[_COUNTS] = dict(tx.rows(query.format(tx.source("master_grid"))))
    found: Dict[Optional[str], int] = tx.shared[_COUNTS]
    return found


def forget(tx: Transaction) -> None:
    """The table has other rows now: they are to be counted."""
    tx.shared.pop(_COUNTS, None)


def release(tx: Transaction, codes: Sequence[str], condition: str = "true") -> int:
    """Free the cells with one of the codes that meet a condition; gives how many.

    A real run finds their rows again by where they lie: by gid, it would read the grid once more.
    """
    found = [code for code in codes if code != _FREE and _counts(tx).get(code)]
    if not found:
        return 0
    listed = ", ".join("'{}'".format(code) for code in found)
    where = "avail = ANY (ARRAY[{}]::bpchar[]) AND {}".format(listed, condition)
    if tx.check:  # a shadow may be a view
        cells = "SELECT gid, avail AS old, '{}'::bpchar AS code FROM master_grid g WHERE {}"
        return mark(tx, _sql.SQL(cells.format(_FREE, where)))
    return _change(
        tx,
        _sql.SQL(
            "found AS (SELECT gid, ctid AS place, avail AS old FROM master_grid g WHERE {}),"
            " freed AS (UPDATE master_grid SET avail = '{}' WHERE ctid = ANY (ARRAY("
            "  SELECT place FROM found)) RETURNING gid, avail),"
            " changed AS (SELECT gid, old, f.avail FROM freed f JOIN found USING (gid))".format(
                where, _FREE
            )
        ),
    )


def mark(tx: Transaction, cells: Composable) -> int:
    """Give cells another code; gives how many had another one before.

    ``cells`` is a query of gid, old (the code that the cell has) and code; the cells are found by
    gid.
    """
    return _change(
        tx,
        _sql.SQL(
            "changed AS (UPDATE master_grid g SET avail = c.code FROM ({}) AS c"
            " WHERE g.gid = c.gid AND g.avail IS DISTINCT FROM c.code RETURNING g.gid, c.old,"
            " g.avail)"
        ).format(cells),
    )


def _change(tx: Transaction, changed: Composable) -> int:
    """Change cells by queries of WITH, of which ``changed`` gives gid, old and new code; how many.

    A real run keeps which ones they were, for the target's journal (``cells_changed``).
    """
    _counts(tx)
    tx.real_only.discard("master_grid")
    keep = ""
    if not tx.check:
        tx.execute(_KEPT)
        tx.image["cells"] = cells_changed
        keep = ", kept AS (INSERT INTO runbook_kept SELECT gid, old, avail FROM changed)"
    moved = tx.rows(
        _sql.SQL("WITH {} {} SELECT old, avail, count(*) FROM changed GROUP BY old, avail").format(
            changed, _sql.SQL(keep)
        )
    )
    return _moved(tx, moved)


def cells_changed(tx: Transaction) -> List[Dict[str, Any]]:
    """The cells that have another code than before the transaction, by old and new code.

    ``gids`` are ranges, as ``3-7,9``: the cells of an area lie side by side.
    """
    rows = tx.rows(_NET)
    found: Dict[Tuple[Optional[str], Optional[str]], List[str]] = {}
    for old, new, first, last in rows:
        one = str(first) if first == last else "{}-{}".format(first, last)
        found.setdefault((old, new), []).append(one)
    return [{"old": old, "new": new, "gids": ",".join(gids)} for (old, new), gids in found.items()]


def _moved(tx: Transaction, moved: Sequence[Tuple[Optional[str], str, int]]) -> int:
    """Add up cells that went from one code to another; gives how many in all."""
    found = _counts(tx)
    for old, new, count in moved:
        found[old] = found.get(old, 0) - count
        found[new] = found.get(new, 0) + count
    return sum(count for _, _, count in moved)


def text(tx: Transaction) -> str:
    """One line a code, with the number of cells."""
    return "".join(
        "{} ({}): {:,} cells\n".format(code, MEANING.get(code or "", "unknown code"), count)
        for code, count in sorted(_counts(tx).items(), key=lambda item: item[0] or "~")
        if count
    )


def change(tx: Transaction, before: str, changed: int) -> List[Change]:
    """The change from the codes that ``text`` gave before, with ``changed`` cells."""
    counted = {"cells_changed": changed}
    return [tx.table_change("master_grid", "update", before, text(tx), counted)]
