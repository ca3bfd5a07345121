"""Labeller's own settings: which values its daemons can read."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import jsonschema
import old_readers
import pytest
import yaml
from ansible_collections.labeller.runbook.plugins.module_utils import crontab, settings
from ansible_collections.labeller.runbook.plugins.module_utils.configuration_keys import KEYS
from hypothesis import given
from hypothesis import strategies as st

PROJECT = Path(__file__).resolve().parent.parent.parent
SCHEMA = json.loads((PROJECT / "schemas" / "configuration.schema.json").read_text())
SANDBOX = (PROJECT / "engine" / "runbook" / "sandbox" / "labeller.sql").read_text()


def test_every_key_of_a_labeller_database_is_known_and_no_other() -> None:
    rows = SANDBOX.partition("INSERT INTO configuration")[2]
    keys = {line.split("'")[1] for line in rows.splitlines() if line.startswith("    ('")}
    assert keys == set(SCHEMA["properties"]) == set(KEYS)


@pytest.mark.parametrize("key", sorted(SCHEMA["properties"]))
def test_defaults_are_values(key: str) -> None:
    rule = SCHEMA["properties"][key]
    assert rule["description"].endswith(".")
    if "default" in rule:
        jsonschema.validate(rule["default"], rule)
        assert settings.canonical(key, rule["default"]) is not None


CASES = {
    key: {kind: list(values) for kind, values in case.items()}
    for key, case in yaml.safe_load(
        (PROJECT / "tests" / "cases" / "settings.yml").read_text(encoding="utf-8")
    ).items()
    if not key.startswith("_")
}


def read_by_the_old_code(key: str, text: str | None) -> bool:
    """Whether the old readers of a key can use a value."""
    try:
        old_readers.READERS[key](text)
    except Exception:  # noqa: BLE001 - whatever it is, labeller would not survive it
        return False
    return True


def test_every_key_has_cases_and_old_readers() -> None:
    assert set(CASES) == set(old_readers.READERS) == set(SCHEMA["properties"])


@pytest.mark.parametrize("key", sorted(CASES))
def test_what_is_accepted_is_what_the_old_readers_can_use(key: str) -> None:
    case = CASES[key]
    assert case["good"]
    for text in case["good"]:
        old_readers.READERS[key](text)
        assert not settings.unreadable(key, text), text
    for text in case.get("dies", []):
        with pytest.raises(Exception) as death:  # noqa: PT011 - each parser has its own
            old_readers.READERS[key](text)
        assert not isinstance(death.value, old_readers.UselessError), text
        assert settings.unreadable(key, text), text
    for text in case.get("useless", []):
        with pytest.raises(old_readers.UselessError):
            old_readers.READERS[key](text)
        assert settings.unreadable(key, text), text
    assert settings.crashes_without(key) == (not read_by_the_old_code(key, None))


@given(
    key=st.sampled_from(sorted(CASES)),
    text=st.one_of(
        st.text(alphabet="0123456789.-+eE \n%sdnaif'_()", max_size=8),
        st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8),
        st.integers().map(str),
        st.floats().map(str),
        st.sampled_from(
            sorted({text for case in CASES.values() for k in case for text in case[k] if text})
        ),
    ),
)
def test_accepted_exactly_when_the_old_readers_can_use_it(key: str, text: str) -> None:
    assert settings.unreadable(key, text) == (not read_by_the_old_code(key, text))


@pytest.mark.parametrize(
    ("key", "value", "bad"),
    [
        ("CurQaqcGid", "57", False), ("CurQaqcGid", "1.5", False), ("CurQaqcGid", "", True),
        ("CurQaqcGid", None, True), ("CurQaqcGid", "last", True), ("IterationCounter", "0", False),
        ("IterationCounter", "1.0", True), ("IterationCounter", None, True),
        ("firstAvailLine", " 501\n", False), ("firstAvailLine", "", True), ("other", None, False),
    ],
)  # fmt: skip
def test_system_data(key: str, value: str | None, bad: bool) -> None:
    assert settings.unreadable_system_data(key, value) == bad


@pytest.mark.parametrize(
    ("key", "value", "warning"),
    [
        ("StoppingFunc_AccThres", "85", "StoppingFunc_AccThres is 85, and is usually from 0 to 1"),
        ("StoppingFunc_AccThres", "0.85", ""),
        ("StoppingFunc_AccThres", "nan", ""),
        ("FKMLCheckingInterval", "0", "FKMLCheckingInterval is 0, and is usually 1 or more"),
        ("Hit_QaqcPercentage", "100", "Hit_QaqcPercentage is 100, and is usually from 1 to 99"),
        ("Bonus_Threshold1", "ignore", ""),
        ("Hit_StandAlone", "1", ""),
        ("SomeOtherKey", "1", ""),
    ],
)
def test_unusual_values_are_warned_of(key: str, value: str, warning: str) -> None:
    assert settings.unusual(key, value) == warning


def test_the_sandbox_holds_values_that_labeller_can_read() -> None:
    rows = dict(re.findall(r"^    \('(\w+)', '((?:[^']|'')*)'", SANDBOX, flags=re.MULTILINE))
    assert set(CASES) | set(settings.SYSTEM_DATA) == set(rows)
    for key, value in rows.items():
        assert not settings.unreadable(key, value), key
        assert not settings.unreadable_system_data(key, value), key
        assert key not in CASES or read_by_the_old_code(key, value)


ONE_NUMBER = "a text with one %s, a literal percent sign as %%, and no apostrophe"

VALUES = st.one_of(
    st.booleans(), st.integers(-5, 200), st.floats(-2, 200, allow_nan=False), st.text(max_size=6),
    st.sampled_from(["ignore", "%s", "a@b.c", "yes", "off", "0.50", "1e-2"]),
)  # fmt: skip


@given(key=st.sampled_from(sorted(KEYS)), value=VALUES)
def test_what_the_table_gets_a_daemon_can_read(key: str, value: Any) -> None:
    text = settings.canonical(key, value)
    if text is None:
        assert settings.expected(key)
        return
    assert settings.canonical(key, text) == text, "a text that was written is what it is"
    kind = SCHEMA["properties"][key]["type"]
    if kind == "integer":
        jsonschema.validate(int(text), SCHEMA["properties"][key])
    if kind == "number" and not math.isnan(float(text)):
        jsonschema.validate(float(text), SCHEMA["properties"][key])
    if kind == "boolean":
        assert text in ("true", "false")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("Hit_StandAlone", True, "true"),
        ("Hit_StandAlone", "Yes", "true"),
        ("Hit_StandAlone", "0", "false"),
        ("Hit_MaxAssignmentsF", "4", "4"),
        ("Hit_MaxAssignmentsF", 4, "4"),
        ("StoppingFunc_AccThres", 0.9, "0.9"),
        ("StoppingFunc_AccThres", "0.90", "0.9"),
        ("ProportionHoldout", 100, "100"),
        ("Bonus_Threshold1", "ignore", "ignore"),
        ("Bonus_Threshold1", "0.8", "0.8"),
        ("Hit_RewardIncrement2", "-0.016", "-0.016"),
        ("Hit_NotificationEmailAddress", "", ""),
    ],
)
def test_values(key: str, value: Any, text: str) -> None:
    assert settings.canonical(key, value) == text


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("Hit_StandAlone", "maybe", "true or false"),
        ("Hit_MaxAssignmentsF", "0.5", "a whole number of at least 1"),
        ("Hit_MaxAssignmentsF", 0, "a whole number of at least 1"),
        ("Hit_MaxAssignmentsF", True, "a whole number of at least 1"),
        ("Hit_MaxAssignmentsF", None, "a whole number of at least 1"),
        ("Hit_PollingInterval", "10s", "a whole number of at least 1"),
        ("Hit_QaqcPercentage", 101, "a whole number from 0 to 100"),
        ("HitN_TrustThreshold", "nan", "a number"),
        ("Bonus_Threshold1", "never", "a number or ignore"),
        ("Bonus_Reason1", "it's", "a text without an apostrophe"),
        ("Hit_RejectDescription", "100 %", ONE_NUMBER),
        (
            "QualTest_TF_TextStart",
            "%d",
            "a text in which a percent sign is %% or part of %(totCount)d",
        ),
        ("KMLFrameHeight", "tall", "a number of pixels of at least 1"),
        ("KMLdlat", 0, "a number above 0"),
        ("Hit_NotificationEmailAddress", "two words", "an e-mail address, or empty"),
    ],
)
def test_what_a_daemon_would_crash_on(key: str, value: Any, said: str) -> None:
    assert settings.canonical(key, value) is None
    assert settings.expected(key) == said


def test_unknown_keys_get_a_hint() -> None:
    assert "did you mean Hit_StandAlone?" in settings.unknown("Hit_Standalone")
    assert "did you mean" not in settings.unknown("zzz")


def test_profiles_with_needs_are_those_of_the_crontab() -> None:
    assert set(settings.NEEDS) <= set(crontab.PROFILES)


def test_needs_of_profiles() -> None:
    assert settings.unmet("no_n", {}, slack=False) == []
    assert "Hit_StandAlone=true" in settings.unmet("standalone_f", {}, slack=False)[0]
    assert settings.unmet("standalone_f", {"Hit_StandAlone": "yes"}, slack=False) == []
    assert "slack_url" in settings.unmet("no_n_notifier", {}, slack=False)[0]
    assert settings.unmet("no_n_notifier", {}, slack=True) == []
    assert settings.unmet("no_n_notifier", {}, slack=False, notify=False) == []
    assert settings.unmet("no_n", {}, slack=False, notify=True)[0].startswith("notify=true starts")
    assert settings.unmet("no_n_notifier", {settings.ADDRESS: "a@b.org"}, slack=False) == []


def test_alerts_more_often_than_the_loop_turns() -> None:
    slow = {"Hit_AlertFrequency": "1", "Hit_PollingInterval": "61"}
    assert "divides by zero" in settings.conflicts(slow)[0]
    assert settings.conflicts({**slow, "Hit_PollingInterval": "60"}) == []
    assert settings.conflicts({**slow, "Hit_PollingInterval": "often"}) == []
