# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Step configuration: rows of labeller's own settings table (docs/labeller.md 1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Dict, List, Mapping, Optional

from .. import crontab, settings, shadow
from ..configuration_keys import KEYS
from ..errors import InvalidInput, Refused
from ..step import Step
from ..undo import record

if TYPE_CHECKING:
    from ..change import Change
    from ..step import Transaction

TABLE = "configuration"


class Configuration(Step):
    """Sets the keys that are given and leaves every other as it is."""

    name = "configuration"
    ARGUMENTS: ClassVar[Dict[str, Any]] = {
        "state": {"type": "str", "choices": ["present", "valid", "undone"], "default": "present"},
        **record.ARGUMENTS,
        "settings": {"type": "dict", "default": {}},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
        "allow_unknown": {"type": "bool", "default": False},
        "profile": {"type": "str", "choices": sorted(crontab.PROFILES)},
        "notify": {"type": "bool"},
        "slack": {"type": "bool", "default": False},
    }

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if params["state"] != "valid":
            self.changed = (TABLE,)

    def prepare(self, tx: Transaction) -> None:
        """Raises InvalidInput, with all of them, for unknown keys and values of the wrong kind."""
        self.wanted: Dict[str, str] = {}
        if self.params["state"] == "undone":
            self.undone = record.of({**tx.params, **self.params}).settings
            return
        problems = []
        for key, value in sorted({**self.params["settings"], **self.params["secrets"]}.items()):
            text = settings.canonical(key, value)
            if key not in KEYS and not self.params["allow_unknown"]:
                problems.append(settings.unknown(key))
            elif key in self.params["settings"] and settings.is_secret(key):
                problems.append("{} is a secret; give it in secrets".format(key))
            elif self.params["state"] == "valid" and settings.parameter_of(key):
                problems.append(
                    "{} has a parameter of its own: set {} instead".format(
                        key, settings.parameter_of(key)
                    )
                )
            elif text is None:
                shown = "the value given" if settings.is_secret(key) else repr(value)
                problems.append(
                    "{}: expected {}, not {}".format(key, settings.expected(key), shown)
                )
            else:
                self.wanted[key] = text
        if problems:
            raise InvalidInput("configuration: {}".format("; ".join(problems)))

    def run(self, tx: Transaction) -> List[Change]:
        """Raises InvalidInput for settings that crash together, Refused for a profile's needs."""
        shadow.require(tx.cursor, [TABLE])
        before = dict(tx.rows("SELECT key, value FROM configuration"))
        if self.params["state"] == "undone":
            return self._undo(tx, before)
        after = {**before, **self.wanted}
        conflicts = settings.conflicts(after)
        if conflicts:
            raise InvalidInput("configuration: {}".format("; ".join(conflicts)))
        profile = self.params["profile"]
        slack, notify = self.params["slack"], self.params["notify"]
        unmet = settings.unmet(profile, after, slack=slack, notify=notify) if profile else []
        if unmet:
            raise Refused("{}: {}".format(tx.database, "; ".join(unmet)))
        tx.warnings += [
            "{}: {}".format(tx.database, warning)
            for warning in (settings.unusual(key, text) for key, text in self.wanted.items())
            if warning
        ]
        if self.params["state"] == "valid":
            return []
        changed = {
            key: text
            for key, text in self.wanted.items()
            if before.get(key) is None or settings.canonical(key, before[key]) != text
        }
        return [self._write(tx, before, changed)]

    def _undo(self, tx: Transaction, before: Mapping[str, Any]) -> List[Change]:
        """Raises Refused for settings that were changed since the run."""
        moved = [key for key, each in self.undone.items() if not each.accepts(before.get(key))]
        if moved and "settings" not in self.params["force"]:
            raise Refused(
                "{}: settings were changed after the run: {}; nothing was changed. "
                "--force-step settings gives them the values that they had before the run".format(
                    tx.database, ", ".join("{} = {}".format(key, before.get(key)) for key in moved)
                )
            )
        wanted = {key: each.before for key, each in self.undone.items()}
        return [
            self._write(
                tx, before, {key: text for key, text in wanted.items() if before.get(key) != text}
            )
        ]

    def _write(
        self, tx: Transaction, before: Mapping[str, Any], changed: Mapping[str, Optional[str]]
    ) -> Change:
        """Give keys other values, or none (None)."""
        for key, text in changed.items():
            if text is None:
                tx.execute("DELETE FROM configuration WHERE key = %s", (key,))
            elif not tx.execute("UPDATE configuration SET value = %s WHERE key = %s", (text, key)):
                tx.execute("INSERT INTO configuration (key, value) VALUES (%s, %s)", (key, text))
        tx.image["settings"] = lambda _tx: _kept(before, changed)
        deleted = len([key for key, text in changed.items() if text is None])
        inserted = len([key for key in changed if key not in before])
        counts = {"rows_inserted": inserted, "rows_changed": len(changed) - inserted - deleted}
        return tx.table_change(
            TABLE, "update",
            "".join(_line(key, before[key], "old") for key in changed if key in before),
            "".join(_line(key, text, "new") for key, text in changed.items() if text is not None),
            {**counts, "rows_deleted": deleted} if deleted else counts,
        )  # fmt: skip


def _kept(before: Mapping[str, Any], changed: Mapping[str, Optional[str]]) -> Dict[str, Any]:
    """The changed settings for the target's journal; of the secret ones only their names."""
    plain = [key for key in changed if not settings.is_secret(key)]
    return {
        "before": {key: before.get(key) for key in plain},
        "after": {key: changed[key] for key in plain},
        "secret": sorted(set(changed).difference(plain)),
    }


def _line(key: str, value: Any, which: str) -> str:
    """``key = value``; of a secret only which of the two it is."""
    shown = "******** ({} value)".format(which) if settings.is_secret(key) else value
    return "{} = {}\n".format(key, shown)
