"""Labeller's own settings: which values its daemons can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
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
    if kind == "number":
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
        ("Hit_PollingInterval", "10\n", "a whole number of at least 1"),
        ("StoppingFunc_AccThres", 85, "a number from 0 to 1"),
        ("StoppingFunc_AccThres", "nan", "a number from 0 to 1"),
        ("Bonus_Threshold1", "never", "a number from 0 to 1 or ignore"),
        ("Bonus_Reason1", "it's", "a text without an apostrophe"),
        ("Hit_RejectDescription", "100 %", "a text with %s and no other %"),
        ("KMLdlat", 0, "a number above 0"),
        ("Hit_NotificationEmailAddress", "nobody", "an e-mail address, or empty"),
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
