# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step database_consistent: what labeller's code silently assumes, asserted (docs/labeller.md 1.5).

Each invariant is one query of its own: it sees one moment, takes no lock that a writer could wait
for, and gives one line for each row that breaks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, List, NamedTuple, Optional

from .. import settings, shadow, statements
from ..change import Change
from ..configuration_keys import KEYS
from ..errors import Refused
from ..step import Step

if TYPE_CHECKING:
    from ..step import Transaction

#: How many of an invariant's rows a message names.
NAMED = 100

TABLES = (
    "configuration", "hit_data", "incoming_names", "iteration_metrics", "kml_data",
    "kml_data_static", "master_grid", "scenes_data", "system_data",
)  # fmt: skip

#: Name of an invariant, and the query of the rows that break it (docs/labeller.md 1.5, by item).
INVARIANTS: Dict[str, str] = {
    # 1
    "settings": """
        SELECT format('configuration has no key %%s', key) FROM unnest(%(keys)s::text[]) AS key
        WHERE NOT EXISTS (SELECT 1 FROM configuration c WHERE c.key = key.key)
        UNION ALL
        SELECT format('configuration %%s = %%s: labeller cannot use it; expected %%s', key,
                      value, wanted)
        FROM unnest(%(bad_keys)s::text[], %(bad_values)s::text[], %(bad_wanted)s::text[])
            AS bad (key, value, wanted)
        """,
    "system_data": """
        SELECT format('system_data has no key %%s', key)
        FROM unnest(%(system_keys)s::text[]) AS key
        WHERE NOT EXISTS (SELECT 1 FROM system_data s WHERE s.key = key.key)
        UNION ALL
        SELECT format('system_data %%s = %%s: a daemon cannot read it as a number', key, value)
        FROM unnest(%(bad_keys)s::text[], %(bad_values)s::text[]) AS bad (key, value)
        """,
    "statements": """
        SELECT line FROM unnest(%(problems)s::text[]) AS line
        """,
    # 2
    "static_cells": """
        SELECT format('kml_data_static %%s (%%s): %%s', s.name, s.kml_type,
                      coalesce('avail is ' || g.avail || ' in master_grid',
                               'not in master_grid'))
        FROM kml_data_static s LEFT JOIN master_grid g ON g.name = s.name::bpchar
        WHERE g.name IS NULL OR g.avail <> s.kml_type
        UNION ALL
        SELECT format('kml_data_static %%s (%%s) is not in kml_data', s.name, s.kml_type)
        FROM kml_data_static s
        WHERE NOT EXISTS (SELECT 1 FROM kml_data k
                          WHERE k.name = s.name AND k.kml_type = s.kml_type)
        UNION ALL
        SELECT format('kml_data %%s (%%s) is not in kml_data_static', k.name, k.kml_type)
        FROM kml_data k
        WHERE k.kml_type IN ('Q', 'I')
        AND NOT EXISTS (SELECT 1 FROM kml_data_static s
                        WHERE s.name = k.name AND s.kml_type = k.kml_type)
        """,
    # 3
    "queue_names": """
        SELECT format('kml_data %%s is there %%s times', name, count(*))
        FROM kml_data GROUP BY name HAVING count(*) > 1
        UNION ALL
        SELECT format('kml_data %%s is not in master_grid', k.name)
        FROM kml_data k LEFT JOIN master_grid g ON g.name = k.name::bpchar WHERE g.name IS NULL
        """,
    # 4, second half: the F cells that are in use
    "scenes": """
        SELECT format('kml_data %%s (F) has %%s GS and %%s OS scenes', k.name,
                      count(s.cell_id) FILTER (WHERE s.season = 'GS'),
                      count(s.cell_id) FILTER (WHERE s.season = 'OS'))
        FROM kml_data k JOIN master_grid g ON g.name = k.name::bpchar
        LEFT JOIN scenes_data s ON s.cell_id = g.id
        WHERE k.kml_type = 'F'
        GROUP BY k.name
        HAVING count(s.cell_id) FILTER (WHERE s.season = 'GS') <> 1
        OR count(s.cell_id) FILTER (WHERE s.season = 'OS') <> 1
        """,
    # 5
    "open_names": """
        SELECT format('incoming_names has unprocessed names of run %%s, iteration %%s, and of '
                      'others', run, iteration)
        FROM (SELECT run, iteration, count(*) OVER () AS pairs FROM incoming_names
              WHERE NOT processed GROUP BY run, iteration) AS open WHERE pairs > 1
        UNION ALL
        SELECT format('incoming_names has unprocessed names of iteration %%s, and IterationCounter '
                      'is %%s', iteration, value)
        FROM (SELECT DISTINCT iteration FROM incoming_names WHERE NOT processed) AS open
        JOIN system_data ON key = 'IterationCounter'
        WHERE iteration::text <> value AND (iteration - 1)::text <> value
        UNION ALL
        SELECT format('incoming_names has names of run %%s, iteration %%s, and iteration_metrics '
                      'does not', run, iteration)
        FROM (SELECT DISTINCT run, iteration FROM incoming_names WHERE NOT processed) AS open
        WHERE NOT EXISTS (SELECT 1 FROM iteration_metrics m
                          WHERE m.run = open.run AND m.iteration = open.iteration)
        UNION ALL
        SELECT format('incoming_names %%s is unprocessed and not in kml_data as F', i.name)
        FROM incoming_names i
        WHERE NOT processed
        AND NOT EXISTS (SELECT 1 FROM kml_data k WHERE k.name = i.name AND k.kml_type = 'F')
        """,
    # 8
    "hits": """
        SELECT format('hit_data has %%s live HITs for %%s', count(*), name)
        FROM hit_data WHERE delete_time IS NULL GROUP BY name HAVING count(*) > 1
        UNION ALL
        SELECT format('kml_data %%s: mapped_count %%s is above mappers_needed %%s', name,
                      mapped_count, mappers_needed)
        FROM kml_data WHERE mapped_count > mappers_needed
        """,
    # 9
    "metrics": """
        SELECT format('iteration_metrics has iteration %%s of the runs %%s', iteration,
                      string_agg(DISTINCT run::text, ', '))
        FROM iteration_metrics GROUP BY iteration HAVING count(DISTINCT run) > 1
        """,
}


#: What to do, where the rows that break an invariant do not say it.
REMEDIES = {
    "metrics": "; the consensus daemon does not distinguish runs: clear those of earlier runs "
    "(earlier_metrics=clear), or let iterate.yml decide when to stop (learner_loop=true)",
}


class _Broken(NamedTuple):
    """Lines of the first rows that break an invariant, and how many there are."""

    lines: List[str]
    total: int


class DatabaseConsistent(Step):
    """Refuses on the invariants of ``refuse`` and warns of those of ``warn``; changes nothing."""

    name = "database_consistent"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "refuse": {
            "type": "list", "elements": "str", "choices": list(INVARIANTS),
            "default": list(INVARIANTS),
        },
        "warn": {
            "type": "list", "elements": "str", "choices": list(INVARIANTS), "default": [],
        },
        "set_later": {"type": "list", "elements": "str", "default": []},
    }  # fmt: skip
    # Nothing in read: a chain locks that against writers, and none shall wait for an assertion.

    def run(self, tx: Transaction) -> List[Change]:
        """Raises Refused, naming rows of every broken invariant that is not only warned of."""
        shadow.require(tx.cursor, list(TABLES))
        broken = {
            name: self._broken(tx, name)
            for name in INVARIANTS
            if name in self.params["refuse"] or name in self.params["warn"]
        }
        told = {name: _told(name, found) for name, found in broken.items() if found}
        refused = [told[name] for name in self.params["refuse"] if name in told]
        if refused:
            raise Refused(
                "{}: the database breaks what labeller relies on\n{}".format(
                    tx.database, "\n".join(refused)
                )
            )
        tx.warnings += ["{}: {}".format(tx.database, line) for line in told.values()]
        text = "".join(
            "{}: {}\n".format(
                name, "holds" if not rows else "broken by {:,} rows".format(len(rows))
            )
            for name, rows in broken.items()
        )
        counts = {name: found.total for name, found in broken.items() if found}
        return [Change(tx.resource("consistency"), "none", text, text, counts)]

    def _broken(self, tx: Transaction, name: str) -> Optional[_Broken]:
        rows = tx.rows(
            "SELECT line, count(*) OVER () FROM ({}) AS broken (line) LIMIT {}".format(
                INVARIANTS[name], NAMED
            ),
            _PARAMETERS[name](self, tx) if name in _PARAMETERS else {},
        )
        return _Broken([line for line, _ in rows], rows[0][1]) if rows else None

    def _settings(self, tx: Transaction) -> Dict[str, Any]:
        """Keys that must be there, and rows whose value a daemon cannot read; never a secret."""
        rows = dict(tx.rows("SELECT key, value FROM configuration"))
        bad = {
            key: "(a secret)" if settings.is_secret(key) else _literal(value)
            for key, value in rows.items()
            if key not in self.params["set_later"] and settings.unreadable(key, value)
        }
        return {
            "keys": sorted(
                key
                for key in KEYS
                if settings.crashes_without(key) and key not in self.params["set_later"]
            ),
            "bad_keys": list(bad),
            "bad_values": list(bad.values()),
            "bad_wanted": [settings.expected(key) for key in bad],
        }

    def _system_data(self, tx: Transaction) -> Dict[str, Any]:
        """The rows that must be there, and those whose value a daemon cannot read."""
        rows = dict(tx.rows("SELECT key, value FROM system_data"))
        bad = [key for key in rows if settings.unreadable_system_data(key, rows[key])]
        return {
            "system_keys": list(settings.SYSTEM_DATA),
            "bad_keys": bad,
            "bad_values": [_literal(rows[key]) for key in bad],
        }


#: What the query of an invariant is given.
_PARAMETERS: Dict[str, Callable[[DatabaseConsistent, Transaction], Dict[str, Any]]] = {
    "settings": DatabaseConsistent._settings,  # noqa: SLF001 - of the class above
    "system_data": DatabaseConsistent._system_data,  # noqa: SLF001
    "statements": lambda _step, tx: {"problems": statements.problems(tx)},
}


def _literal(value: Optional[str]) -> str:
    return "NULL" if value is None else "'{}'".format(value.replace("'", "''"))


def _told(name: str, broken: _Broken) -> str:
    """One line of a message: the invariant and the first rows that break it."""
    more = broken.total - len(broken.lines)
    return "{}: {}{}{}".format(
        name,
        "; ".join(broken.lines),
        "; and {:,} more".format(more) if more else "",
        REMEDIES.get(name, ""),
    )
