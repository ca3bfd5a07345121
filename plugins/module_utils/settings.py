# Copyright (c) 2026 The runbook developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Labeller's own settings, the table ``configuration``: what a value may be (docs/labeller.md 1.3).

The table holds texts. Python 2 daemons and web pages read them with ``int``, ``float``, ``Decimal``
and ``strtobool``, splice them into SQL or format them with ``%``, and exit on anything else. So the
schema of a key accepts what its readers can use, and nothing else; a value outside of the range
that makes sense (``x-usual``) is only warned of.
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

#: What a crontab profile needs of the settings (docs/labeller.md 4.2).
NEEDS: Dict[str, Dict[str, str]] = {"standalone_f": {"Hit_StandAlone": "true"}}
ADDRESS = "Hit_NotificationEmailAddress"

#: Rows of ``system_data``: CurQaqcGid goes into SQL as a number, the others through ``int``.
SYSTEM_DATA: Dict[str, Dict[str, Any]] = {
    "CurQaqcGid": {"type": "number"},
    "IterationCounter": {"type": "integer", "minimum": 0},
    "firstAvailLine": {"type": "integer"},
}
#: What PostgreSQL's integer holds: the type of most columns and limits that integers end up in.
LARGEST = 2147483647


def is_secret(key: str) -> bool:
    """Whether the key's value must never be shown; unknown keys named instance* too."""
    return bool(KEYS.get(key, {}).get("writeOnly")) or key.startswith("instance")


def parameter_of(key: str) -> str:
    """The run modes' parameter that sets the key, so that no other may; empty for most."""
    return str(KEYS.get(key, {}).get("x-parameter", ""))


def crashes_without(key: str) -> bool:
    """Whether a reader fails when the row is missing or its value is NULL."""
    return bool(KEYS[key].get("x-required"))


def unreadable(key: str, value: Optional[str]) -> bool:
    """Whether a row of the table makes a reader of its key fail; unknown keys have no reader."""
    if key not in KEYS:
        return False
    return crashes_without(key) if value is None else canonical(key, value) is None


def unreadable_system_data(key: str, value: Optional[str]) -> bool:
    """Whether a row of ``system_data`` makes a daemon fail."""
    if key not in SYSTEM_DATA:
        return False
    kind = SYSTEM_DATA[key]["type"]
    return value is None or _CANONICAL[kind](SYSTEM_DATA[key], value) is None


def unusual(key: str, value: str) -> str:
    """A warning for a value that can be read and is outside of its usual range; or nothing."""
    low, high = KEYS.get(key, {}).get("x-usual") or (None, None)
    text = canonical(key, value)
    try:
        number = float(text or "")
    except ValueError:
        return ""
    above = low is None or not number < low
    below = high is None or not number > high
    if above and below:
        return ""
    usual = "{} or more".format(low) if high is None else "from {} to {}".format(low, high)
    return "{} is {}, and is usually {}".format(key, text, usual)


def unknown(key: str) -> str:
    """The message about a key that labeller does not know."""
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
    """The values that a key may have, in words: ``a whole number of at least 1``."""
    rule = KEYS[key]
    return " or ".join(_WORDS[kind](rule) for kind in _types(rule))


def conflicts(settings: Mapping[str, str]) -> List[str]:
    """Settings that are right alone and crash a daemon together."""
    frequency, interval = (
        canonical(key, settings.get(key)) for key in ("Hit_AlertFrequency", "Hit_PollingInterval")
    )
    if frequency and interval and int(frequency) * 60 < int(interval):
        return [
            "Hit_AlertFrequency is {} minutes and Hit_PollingInterval {} seconds: below the "
            "interval create_hit_daemon divides by zero".format(frequency, interval)
        ]
    return []


def unmet(
    profile: str, settings: Mapping[str, str], *, slack: bool, notify: Optional[bool] = None
) -> List[str]:
    """The settings that a crontab profile needs and that are not there.

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


#: Blanks that Python 2's int, float and Decimal pass over, and PostgreSQL in a number; strtobool
#: passes over none.
_BLANK = " \t\n\r\v\f"
_BLANKS = "[{}]*".format(_BLANK)


def _boolean(_rule: Mapping[str, Any], text: str) -> Optional[str]:
    word = text.lower()
    return "true" if word in _TRUE else "false" if word in _FALSE else None


def _integer(rule: Mapping[str, Any], text: str) -> Optional[str]:
    found = re.match(_BLANKS + r"([+-]?[0-9]{1,40})" + _BLANKS + r"\Z", text)
    if not found or abs(int(found.group(1))) > LARGEST or not _in_range(rule, int(found.group(1))):
        return None
    return str(int(found.group(1)))


def _number(rule: Mapping[str, Any], text: str) -> Optional[str]:
    text = text.strip(_BLANK)
    if rule.get("x-nan") and re.match(r"[+-]?nan\Z", text, re.IGNORECASE):
        return "nan"
    if not re.match(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\Z", text):
        return None
    number = float(text)
    if not _in_range(rule, number):
        return None
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _string(rule: Mapping[str, Any], text: str) -> Optional[str]:
    # In Python $ matches before a last newline too, which JSON Schema's does not.
    pattern = re.sub(r"\$\Z", r"\\Z", rule.get("pattern", ""))
    fits = re.search(pattern, text) and len(text) >= rule.get("minLength", 0)
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
    "^\\S*$": "an e-mail address, or empty",
    "^[1-9][0-9]*(px|%)?$": "a number of pixels of at least 1",
}
_WORDS: Dict[str, Callable[[Mapping[str, Any]], str]] = {
    "boolean": lambda _rule: "true or false",
    "integer": lambda rule: "a whole number" + _range(rule),
    "number": lambda rule: "a number" + _range(rule),
    "string": lambda rule: _words(rule.get("pattern", "")),
}


def _words(pattern: str) -> str:
    """The texts that a pattern allows, in words."""
    if pattern.startswith("^([^%']|%%)*%"):
        return "a text with one %s, a literal percent sign as %%, and no apostrophe"
    if "totCount" in pattern:
        names = ["%({})d".format(n) for n in ("doneCount", "totCount") if n in pattern]
        return "a text in which a percent sign is %% or part of {}".format(" or ".join(names))
    if not pattern:
        return "a text"
    return _TEXTS.get(pattern, "a text that matches {}".format(pattern))
