# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The live tables of a restore, and the columns that take the backup's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..errors import InvalidInput
from ..fingerprint import Column
from . import catalog

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from .manifest import TableEntry


class Target(NamedTuple):
    """The live table of a backup's one: ``columns`` pairs names in the backup with live ones."""

    name: str
    place: Tuple[str, str]
    columns: List[Tuple[str, str]]
    types: List[str]
    stages: Dict[str, str]

    @property
    def label(self) -> str:
        """The live table's name."""
        return catalog.label(*self.place)

    @property
    def backed_up(self) -> List[str]:
        """The names in the backup of the columns that are restored."""
        return [column for column, _ in self.columns]

    @property
    def live(self) -> List[str]:
        """Their names in the live table."""
        return [column for _, column in self.columns]

    def typed(self, names: Sequence[str]) -> List[Column]:
        """The columns of either side with their types, which are the same on both."""
        return [Column(name, kind) for name, kind in zip(names, self.types)]


def mappings(given: Any, names: Sequence[str]) -> Dict[str, Dict[str, Any]]:
    """The parameter ``mapping`` by table, with an empty one for those it does not name."""
    found: Dict[str, Dict[str, Any]] = {
        name: {"into": "", "columns": {}, "drop": [], "keep_default": []} for name in names
    }
    for entry in given or []:
        if entry["table"] not in found:
            raise InvalidInput(
                "mapping names the table {}, which is not restored".format(entry["table"])
            )
        found[entry["table"]].update({key: value for key, value in entry.items() if value})
    return found


def pairs(
    entry: TableEntry, live: TableEntry, mapping: Mapping[str, Any], where: str
) -> List[Tuple[str, str]]:
    """Columns of the backup with the live ones they go into, in the backup's order.

    By name, renamed as ``mapping`` says. InvalidInput names all that are missing, left over, or
    of another type.
    """
    renamed, dropped = mapping["columns"], set(mapping["drop"])
    types = {column["name"]: column["type"] for column in live["columns"]}
    held = {column["name"] for column in entry["columns"]}
    found, problems = [], []
    problems += [
        "mapping names the column {}, which the backup does not have".format(name)
        for name in sorted((set(renamed) | dropped) - held)
    ]
    for column in entry["columns"]:
        if column["name"] in dropped:
            continue
        into = renamed.get(column["name"], column["name"])
        if into not in types:
            problems.append("column {} of the backup is missing".format(into))
        elif column["type"] not in ("", types[into]):
            problems.append(
                "column {} is {}, in the backup {}".format(into, types[into], column["type"])
            )
        else:
            found.append((column["name"], into))
    meant = {renamed.get(name, name) for name in held - dropped}
    defaults = set(mapping["keep_default"])
    problems += [
        "column {} is not in the backup".format(n) for n in types if n not in meant | defaults
    ]
    problems += [
        "mapping keeps the default of column {}, which {}".format(
            name, "the backup holds" if name in meant else "the table does not have"
        )
        for name in sorted(defaults - (set(types) - meant))
    ]
    if problems:
        raise InvalidInput(
            "{}: {}; alter the table, or say what is meant with mapping".format(
                where, "; ".join(problems)
            )
        )
    return found


def oids(cursor: Cursor, targets: Sequence[Target]) -> List[int]:
    """The oids of live tables and of all that hold their rows."""
    places = [target.place for target in targets]
    relations = catalog.relations_all(cursor, places)
    own = [oid for oid, _, _ in catalog.oids_of(cursor, places)]
    return own + [relation.oid for found in relations.values() for relation in found]
