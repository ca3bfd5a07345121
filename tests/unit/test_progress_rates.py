"""The controller's side of progress: what is read, how fast it grows, in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.labeller.runbook.plugins.plugin_utils.progress import (
    WINDOW,
    Count,
    Rates,
    Sample,
    duration,
    parse,
    rate,
    seconds_left,
    sentence,
    size,
)

FACTS: dict[str, Any] = {
    "phase": "back up", "rows": 500, "bytes": 60_000, "total_rows": 2000, "total_bytes": None,
    "exact": False, "done": False,
}  # fmt: skip


def count(**changed: Any) -> Count:
    return Count("hits", **{**FACTS, **changed})


def test_a_file_is_read() -> None:
    assert parse(json.dumps({"tables": {"hits": FACTS}})) == [count()]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '"x"', "{}", '{"tables": 1}', '{"tables": {"hits": 1}}']
    + [
        json.dumps({"tables": {"hits": {**FACTS, **wrong}}})
        for wrong in ({"rows": "5"}, {"rows": None}, {"phase": 3}, {"done": 1}, {"more": 1}, {"total_rows": True})
    ],
)  # fmt: skip
def test_what_is_no_such_file_says_nothing(content: str) -> None:
    assert parse(content) == []


def test_a_rate_needs_two_samples_of_different_times() -> None:
    assert rate([Sample(1, 0, 0)]) == (None, None)
    assert rate([Sample(1, 0, 0), Sample(1, 5, 5)]) == (None, None)
    assert rate([Sample(1, 0, 0), Sample(2, 90, 9), Sample(5, 400, 8)]) == (100, 2)


def test_time_left_is_by_rows_where_their_number_is_known() -> None:
    assert seconds_left(count(), 100) == 15
    assert seconds_left(count(total_rows=None, total_bytes=160_000), 10_000) == 10
    for changed in ({"total_rows": None}, {"done": True}, {"total_rows": 400}):
        assert seconds_left(count(**changed), 100) is None
    assert seconds_left(count(), 0) is None
    assert seconds_left(count(), None) is None


def test_rates_are_of_the_last_seconds() -> None:
    rates = Rates()
    fast = [next(rates.news(float(s), [count(rows=s, bytes=s * 1000)])) for s in range(1, 40)]
    assert fast[0]["bytes_per_second"] is None
    assert {news["bytes_per_second"] for news in fast[1:]} == {1000}
    assert fast[-1]["seconds_left"] == 2000 - 39
    slow = [next(rates.news(float(s), [count(rows=39, bytes=39_000)])) for s in range(40, 60)]
    assert slow[0]["bytes_per_second"] < 1000
    assert slow[-1]["bytes_per_second"] == 0
    assert slow[-1]["seconds_left"] is None
    assert WINDOW < 20
    late = [*rates.news(60.0, [count(rows=0, bytes=0, phase="verify")])]
    late += rates.news(69.0, [count(rows=0, bytes=0, phase="verify")])
    late += rates.news(70.0, [count(rows=9, bytes=500, phase="verify")])
    assert late[-1]["bytes_per_second"] == 500


def test_what_waits_and_what_is_done_is_told_once() -> None:
    rates = Rates()
    waiting, running, done = count(rows=0, bytes=0), count(), count(rows=2000, done=True)
    told = [
        [news["rows"] for news in rates.news(float(second), [state])]
        for second, state in enumerate([waiting, waiting, running, running, done, done])
    ]
    assert told == [[0], [], [500], [500], [2000], []]
    again = next(rates.news(9.0, [count(phase="verify", rows=1)]))
    assert again["bytes_per_second"] is None


def test_words() -> None:
    assert (
        sentence(count(rows=1200, bytes=34_100_000), 12_300_000, 42)
        == "back up: 1,200 of ~2,000 rows, 34.1 MB, 12.3 MB/s, 0:42 left"
    )
    assert sentence(count(exact=True), None, None) == "back up: 500 of 2,000 rows, 60.0 kB"
    assert sentence(count(rows=0, bytes=0), 0.0, None) == "back up: 0 of ~2,000 rows"
    assert sentence(count(total_rows=None), None, None) == "back up: 500 rows, 60.0 kB"
    nothing = {"rows": 0, "bytes": 0, "total_rows": None}
    assert sentence(count(phase="fill", **nothing), None, None) == "fill …"
    assert sentence(count(phase="fill", done=True, **nothing), None, None) == "fill: done"
    assert sentence(count(rows=2000, done=True), 5.0, None) == "back up: 2,000 rows, 60.0 kB, done"


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1.0 kB"), (99_940, "99.9 kB"), (123_456, "123 kB"),
     (999_600, "1.0 MB"), (5.25e9, "5.2 GB"), (1.5e15, "1,500.0 TB")],
)  # fmt: skip
def test_sizes(number: float, said: str) -> None:
    assert size(number) == said


def test_durations() -> None:
    assert [duration(s) for s in (0, 41.6, 725, 11_045)] == ["0:00", "0:42", "12:05", "3:04:05"]
