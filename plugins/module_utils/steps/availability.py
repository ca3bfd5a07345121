# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Availability codes of master_grid: set here, and counted once a transaction.

The grid is large (102 million cells for the continent) and has no index on the code, so counting
reads it whole. It is counted before the first change; from then on the changes are added up. All
changes of the column go through ``release`` and ``mark``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

with suppress(ImportError):  # postgres.connect says what to install
    from psycopg2 import sql as _sql

if TYPE_CHECKING:
    from psycopg2.sql import Composable

    from ..change import Change
    from ..transaction import Transaction

#: Code values of master_grid.avail (docs/labeller.md 1.2).
MEANING = {
    "T": "free",
    "I": "training cell",
    "Q": "quality cell",
    "F": "pool or chosen F cell",
    "N": "issued as N site",
    "E": "label to edit",
}


#: What ``Step.updated`` is for the steps that set codes.
UPDATED: Mapping[str, Sequence[str]] = {"master_grid": ("avail",)}

_COUNTS = "availability"
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

    Reads the grid once for each code that there is; without a condition once for all.
    """
    found = [code for code in codes if code != _FREE and _counts(tx).get(code)]
    groups = [found] if condition == "true" and found else [[code] for code in found]
    total = 0
    for group in groups:
        tx.real_only.discard("master_grid")
        changed = dict(
            tx.rows(
                "WITH changed AS (UPDATE master_grid g SET avail = '{}' WHERE avail = ANY"
                " (%s::bpchar[]) AND {} RETURNING g.avail)"
                " SELECT avail, count(*) FROM changed GROUP BY avail".format(_FREE, condition),
                (group,),
            )
        )
        total += sum(changed.values())
        moved = [(code, _FREE, _counts(tx)[code]) for code in group]
        if len(group) == 1:
            moved = [(group[0], _FREE, changed.get(_FREE, 0))]
        if sum(count for *_, count in moved) == sum(changed.values()) and set(changed) <= {_FREE}:
            _moved(tx, moved)
        else:  # a trigger had a hand in it
            forget(tx)
    return total


def mark(tx: Transaction, cells: Composable) -> int:
    """Give cells another code; gives how many had another one before.

    ``cells`` is a query of gid, old (the code that the cell has) and code; the cells are found by
    gid.
    """
    _counts(tx)
    tx.real_only.discard("master_grid")
    moved = tx.rows(
        _sql.SQL(
            "WITH changed AS (UPDATE master_grid g SET avail = c.code FROM ({}) AS c"
            " WHERE g.gid = c.gid AND g.avail IS DISTINCT FROM c.code RETURNING c.old, g.avail)"
            " SELECT old, avail, count(*) FROM changed GROUP BY old, avail"
        ).format(cells)
    )
    return _moved(tx, moved)


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
