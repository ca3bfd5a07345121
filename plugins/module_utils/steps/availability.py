# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Counts of master_grid by availability code: what the steps that set codes show."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Mapping

if TYPE_CHECKING:
    from ..change import Change
    from ..transaction import Transaction

#: Code values of master_grid.avail (reference 1.2).
MEANING = {
    "T": "free",
    "I": "training cell",
    "Q": "quality cell",
    "F": "pool or chosen F cell",
    "N": "issued as N site",
    "E": "label to edit",
}


_COUNTS = "availability"


def counts(tx: Transaction) -> Mapping[str, int]:
    """Cells by code; the grid is large, and counted again only when it has changed.

    Whoever writes master_grid says so, by ``change`` or ``forget``.
    """
    if _COUNTS not in tx.shared:
        query = "SELECT avail, count(*) FROM master_grid GROUP BY avail ORDER BY avail"
        tx.shared[_COUNTS] = dict(tx.rows(query))
    found: Mapping[str, int] = tx.shared[_COUNTS]
    return found


def forget(tx: Transaction) -> None:
    """The cells have changed: they are to be counted anew."""
    tx.shared.pop(_COUNTS, None)


def text(tx: Transaction) -> str:
    """One line a code, with the number of cells."""
    return "".join(
        "{} ({}): {:,} cells\n".format(code, MEANING.get(code, "unknown code"), count)
        for code, count in counts(tx).items()
    )


def change(tx: Transaction, before: str, changed: int) -> List[Change]:
    """The change from the codes that ``text`` gave before, with ``changed`` cells."""
    if changed:
        forget(tx)
    after = text(tx) if changed else before
    return [tx.table_change("master_grid", "update", before, after, {"cells_changed": changed})]
