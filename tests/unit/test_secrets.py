"""No secret value passes the redactor, whatever it looks like and wherever it stands."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.events import Event, HostCounts, Publisher, Recap, Status, TaskResult
from runbook.secrets import MASK, SHORTEST_PART, Redactor

secrets = st.text(min_size=SHORTEST_PART).filter(
    lambda text: text.strip() and MASK not in text and text not in MASK
)


@given(secrets, st.text(), st.text())
def test_a_secret_inside_text_is_masked(secret: str, before: str, after: str) -> None:
    masked = Redactor([secret]).text(before + secret + after)
    assert secret not in masked.replace(MASK, "\0")


@given(secrets)
def test_a_secret_in_json_and_in_a_url_is_masked(secret: str) -> None:
    redactor = Redactor([secret])
    assert redactor.text(json.dumps({"password": secret})) == json.dumps({"password": MASK})
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in secret):
        assert (
            redactor.text(f"postgresql://u:{quote(secret, safe='')}@h/d")
            == f"postgresql://u:{MASK}@h/d"
        )


def test_a_secret_that_contains_another_is_masked_as_a_whole() -> None:
    assert Redactor(["abcd", "abcdefgh"]).text("x abcdefgh y abcd") == f"x {MASK} y {MASK}"


def test_a_short_secret_is_masked_only_as_a_whole_value() -> None:
    assert Redactor(["abc"]).value(["abc", "abcabc"]) == [MASK, "abcabc"]


def test_each_line_of_a_long_secret_is_masked() -> None:
    key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\n-----END KEY-----\n"
    assert Redactor([key]).text("found MIIEowIBAAKCAQEA") == f"found {MASK}"


@pytest.mark.parametrize("value", [None, "", "  ", True, False, {}, []])
def test_what_is_no_secret_masks_nothing(value: object) -> None:
    text = "True False None {} []"
    assert Redactor([value]).text(text) == text


def test_secrets_inside_structures_and_numbers_are_learned() -> None:
    redactor = Redactor([{"users": ["hunter22", {"pin": 123456}]}])
    assert redactor.value({"a": ("hunter22", 123456)}) == {"a": [MASK, MASK]}


def test_every_field_of_an_event_is_redacted_before_it_is_delivered() -> None:
    seen: list[Event] = []
    publisher = Publisher(Redactor(["hunter22"]), [seen.append])
    publisher.publish(
        TaskResult(
            host="h", task="t hunter22", module="m", status=Status.FAILED, message="hunter22",
            diff=[{"before": "pw: hunter22\n", "after": {"pw": "hunter22"}}],
            plan=[{"resource": "hunter22", "counts": {"hunter22": 1}}], output="hunter22",
            warnings=["hunter22"],
        )
    )  # fmt: skip
    publisher.publish(Recap({"hunter22": HostCounts(ok=1)}))
    assert "hunter22" not in json.dumps([event.as_json() for event in seen])
    assert isinstance(seen[1], Recap)
    assert seen[1].hosts == {MASK: HostCounts(ok=1)}
    assert isinstance(seen[0], TaskResult)
    assert seen[0].status is Status.FAILED
