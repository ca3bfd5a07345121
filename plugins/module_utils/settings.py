# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Labeller's own settings, the table ``configuration``: what a value may be (reference 1.3).

The table holds texts. Python 2 daemons read them with ``int``, ``float`` and ``strtobool`` and die
on anything else, so a value is held against its key's schema before it is written.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any, Callable, Dict, List, Mapping, Optional

from . import crontab
from .configuration_keys import KEYS

_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")

#: What a crontab profile needs of the settings (reference 6).
NEEDS: Dict[str, Dict[str, str]] = {"standalone_f": {"Hit_StandAlone": "true"}}
ADDRESS = "Hit_NotificationEmailAddress"


def is_secret(key: str) -> bool:
    """Whether the key's value must never be shown; unknown keys named instance* too."""
    return bool(KEYS.get(key, {}).get("writeOnly")) or key.startswith("instance")


def crashes_without(key: str) -> bool:
    """Whether a daemon dies when the row is missing: it converts None to a number or a boolean."""
    rule = KEYS[key]
    return "string" not in _types(rule) and not rule.get("deprecated")


def unknown(key: str) -> str:
    """What to say about a key that labeller does not know."""
    close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
    hint = "; did you mean {}?".format(close[0]) if close else ""
    return "{}: no such key of labeller's configuration{}".format(key, hint)


def canonical(key: str, value: Any) -> Optional[str]:
    """The text that the table holds for a value, or None when a daemon could not use it.

    A value may come as YAML has it or as text. Equal values have equal texts: ``0.40``, ``0.4``;
    ``yes``, ``true``. Keys that are not known take any text.
    """
    rule = KEYS.get(key, {"type": "string"})
    text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
    for kind in ("boolean", "integer", "number", "string"):
        if kind in _types(rule):
            found = _CANONICAL[kind](rule, text)
            if found is not None:
                return found
    return None


def expected(key: str) -> str:
    """What a key's value must be, in words: ``a whole number of at least 1``."""
    rule = KEYS[key]
    return " or ".join(_WORDS[kind](rule) for kind in _types(rule))


def conflicts(settings: Mapping[str, str]) -> List[str]:
    """Settings that are right alone and crash a daemon together."""
    frequency, interval = settings.get("Hit_AlertFrequency"), settings.get("Hit_PollingInterval")
    if frequency and interval and int(frequency) * 60 < int(interval):
        return [
            "Hit_AlertFrequency is {} minutes and Hit_PollingInterval {} seconds: below the "
            "interval create_hit_daemon divides by zero".format(frequency, interval)
        ]
    return []


def unmet(
    profile: str, settings: Mapping[str, str], *, slack: bool, notify: Optional[bool] = None
) -> List[str]:
    """What a crontab profile needs and the settings do not have.

    ``notify`` decides in place of the profile whether the notifier runs, unless it is None.
    """
    missing = [
        "profile {} needs {}={}, and it is {}; set it in labeller_settings or choose another "
        "crontab_profile".format(profile, key, value, settings.get(key) or "not set")
        for key, value in NEEDS.get(profile, {}).items()
        if canonical(key, settings.get(key, "")) != value
    ]
    notifier = crontab.SWITCHES["notify"] in crontab.daemons(profile, {"notify": notify})
    if notifier and not slack and not settings.get(ADDRESS):
        which = "notify=true" if notify else "profile " + profile
        missing.append(
            "{} starts the notifier, which has no address: set slack_url, or {} in "
            "labeller_settings, or notify to false".format(which, ADDRESS)
        )
    return missing


def _types(rule: Mapping[str, Any]) -> List[str]:
    kind = rule["type"]
    return [kind] if isinstance(kind, str) else list(kind)


def _in_range(rule: Mapping[str, Any], number: float) -> bool:
    return (
        math.isfinite(number)
        and number >= rule.get("minimum", -math.inf)
        and number <= rule.get("maximum", math.inf)
        and number > rule.get("exclusiveMinimum", -math.inf)
    )


def _boolean(_rule: Mapping[str, Any], text: str) -> Optional[str]:
    word = text.lower()
    return "true" if word in _TRUE else "false" if word in _FALSE else None


def _integer(rule: Mapping[str, Any], text: str) -> Optional[str]:
    if not re.match(r"[+-]?[0-9]+\Z", text):
        return None
    return str(int(text)) if _in_range(rule, int(text)) else None


def _number(rule: Mapping[str, Any], text: str) -> Optional[str]:
    if not re.match(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\Z", text):
        return None
    number = float(text)
    if not _in_range(rule, number):
        return None
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _string(rule: Mapping[str, Any], text: str) -> Optional[str]:
    fits = re.search(rule.get("pattern", ""), text) and len(text) >= rule.get("minLength", 0)
    return text if fits and "\0" not in text else None


_CANONICAL = {"boolean": _boolean, "integer": _integer, "number": _number, "string": _string}


def _range(rule: Mapping[str, Any]) -> str:
    low, high = rule.get("minimum"), rule.get("maximum")
    if "exclusiveMinimum" in rule:
        return " above {}".format(rule["exclusiveMinimum"])
    if low is not None and high is not None:
        return " from {} to {}".format(low, high)
    return "" if low is None else " of at least {}".format(low)


_TEXTS = {
    "^ignore$": "ignore",
    "^[^']*$": "a text without an apostrophe",
    "^([^%]|%%)*%s([^%]|%%|%s)*$": "a text with %s and no other %",
    "^$|^[^@\\s]+@[^@\\s]+$": "an e-mail address, or empty",
}
_WORDS: Dict[str, Callable[[Mapping[str, Any]], str]] = {
    "boolean": lambda _rule: "true or false",
    "integer": lambda rule: "a whole number" + _range(rule),
    "number": lambda rule: "a number" + _range(rule),
    "string": lambda rule: _TEXTS.get(
        rule.get("pattern", ""),
        "a text that matches {}".format(rule["pattern"]) if "pattern" in rule else "a text",
    ),
}
