"""No secret value passes the redactor, whatever it looks like and wherever it stands."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import markupsafe
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import QuotedString

from runbook.events.model import Event, HostCounts, Publisher, Recap, Status, TaskResult
from runbook.events.redaction import MASK, SHORTEST_PART, Redactor

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


@given(st.text("ab", min_size=20), st.lists(st.tuples(st.integers(0, 15), st.integers(4, 5))))
@example("abcdWXYZ1234", [(0, 8), (4, 8)])
@example("aabaabaabaab", [(0, 6)])
def test_all_that_overlapping_secrets_cover_is_masked(
    text: str, places: list[tuple[int, int]]
) -> None:
    known = {text[start : start + size] for start, size in places}
    known = {secret for secret in known if len(secret) >= SHORTEST_PART}
    covered = set()
    for secret in known:
        for start in range(len(text)):
            if text.startswith(secret, start):
                covered |= set(range(start, start + len(secret)))
    clear = "".join(letter for place, letter in enumerate(text) if place not in covered)
    assert Redactor(known).text(text).replace(MASK, "") == clear


def _literal(text: str) -> str:
    quoted = QuotedString(text)
    quoted.encoding = "utf8"  # type: ignore[attr-defined]
    return quoted.getquoted().decode()


QUOTED: dict[str, Callable[[str], str]] = {
    "json": json.dumps,
    "json-not-ascii": lambda text: json.dumps(text, ensure_ascii=False),
    "json-in-json": lambda text: json.dumps(json.dumps({"a": text})),
    "repr": repr,
    "repr-of-json": lambda text: repr(json.dumps([text])),
    "repr-of-bytes": lambda text: repr(text.encode()),
    "url": lambda text: quote(text, safe=""),
    "url-path": quote,
    "url-query": quote_plus,
    "shell": shlex.quote,
    "shell-in-shell": lambda text: shlex.quote(f"psql {shlex.quote(text)}"),
    "shell-in-json": lambda text: json.dumps(f"psql {shlex.quote(text)}"),
    "sql": _literal,
    "yaml": lambda text: yaml.safe_dump(text, default_style="'", width=10**6, allow_unicode=True),
    "yaml-escaped": lambda text: yaml.safe_dump(text, default_style='"', width=10**6),
    "yaml-escaped-but-letters": lambda text: yaml.safe_dump(
        text, default_style='"', width=10**6, allow_unicode=True
    ),
    "html": html.escape,
    "html-text": lambda text: html.escape(text, quote=False),
    "jinja": lambda text: str(markupsafe.escape(text)),
}


@pytest.mark.parametrize("form", QUOTED)
@settings(max_examples=25)
@given(secret=st.text(st.sampled_from("abXY12'\"\\$`!<>&%+/= \t\x07é€"), min_size=5))
@example(secret='it\'s a "s€cret" <&> 100%/$HOME+\\')
def test_a_quoted_secret_is_masked(form: str, secret: str) -> None:
    secret = f"a{secret}b"  # a secret may be written with blanks at its ends and found without
    expected = QUOTED[form]("[plain]").replace("plain", MASK)
    masked = Redactor([secret]).text(QUOTED[form](f"[{secret}]"))
    if form.startswith(("repr", "shell", "sql", "yaml")):  # what is around depends on the content
        assert masked.count(MASK) == 1
        assert len(masked) <= len(expected) + 10
    else:
        assert masked == expected


@given(before=st.binary(max_size=4), secret=st.text(min_size=6), after=st.binary(max_size=4))
@example(before=b"user:", secret="hunter2", after=b"")
def test_a_secret_in_base64_is_masked(before: bytes, secret: str, after: bytes) -> None:
    if not secret.strip():
        return
    data = before + secret.encode() + after
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        clear = Redactor([secret]).text(encoded.decode()).replace(MASK, "").rstrip("=")
        # What is left holds what is around, and a character at each end that holds both.
        assert len(clear) <= len(base64.b64encode(before)) + len(base64.b64encode(after)) + 2


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
