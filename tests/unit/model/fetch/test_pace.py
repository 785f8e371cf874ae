from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.model.fetch.pace import Pace
from muster.model.fetch.retry_after import retry_after_s
from muster.model.fetch.scoreboard import Scoreboard


def test_a_trickle_is_too_slow_after_ten_seconds() -> None:
    pace = Pace(0.0, min_rate=100)
    for second in range(1, 10):
        pace.note(50, float(second))
        assert not pace.is_too_slow(float(second))
    pace.note(50, 10.0)
    assert pace.is_too_slow(10.0)


def test_the_least_rate_is_enough_and_zero_turns_it_off() -> None:
    enough, off = Pace(0.0, min_rate=100), Pace(0.0, min_rate=0)
    for second in range(1, 31):
        enough.note(100, float(second))
        assert not enough.is_too_slow(float(second))
        assert not off.is_too_slow(float(second))


def test_a_stream_that_stops_after_a_good_start_is_too_slow() -> None:
    pace = Pace(0.0, min_rate=100)
    pace.note(10_000_000, 1.0)
    assert not pace.is_too_slow(10.0)
    assert pace.is_too_slow(20.0)


def test_silence_is_lagging_and_so_is_a_rate_that_takes_for_ever() -> None:
    pace = Pace(0.0, min_rate=0)
    assert not pace.is_lagging(2.0, patience_s=3.0, missing_bytes=1000)
    assert pace.is_lagging(3.0, patience_s=3.0, missing_bytes=1000)
    pace.note(10, 4.0)
    assert pace.is_lagging(4.0, patience_s=3.0, missing_bytes=1000)
    assert not pace.is_lagging(4.0, patience_s=3.0, missing_bytes=20)
    assert not pace.is_lagging(4.0, patience_s=3.0, missing_bytes=None)


def test_a_source_rests_longer_after_each_failure_and_is_clean_after_a_success() -> None:
    scores = Scoreboard()
    ends = []
    for _ in range(10):
        scores.failed("http://a", now=100.0)
        ends.append(scores.score("http://a").resting_until - 100.0)
    assert ends == sorted(ends)
    assert (ends[0], ends[-1]) == (0.5, 30.0)
    assert scores.is_resting("http://a", 129.0)
    assert not scores.is_resting("http://a", 130.0)
    assert not scores.is_resting("http://b", 100.0)
    scores.succeeded("http://a", size_bytes=100, seconds=2.0)
    assert not scores.is_resting("http://a", 100.0)
    assert scores.score("http://a").rate == 50.0


def test_what_a_source_says_itself_counts() -> None:
    scores = Scoreboard()
    scores.failed("http://a", now=0.0, retry_after_s=7.0)
    assert scores.is_resting("http://a", 6.9)
    assert not scores.is_resting("http://a", 7.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999999", 300.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        (None, 1.0),
        ("", 1.0),
        ("soon", 1.0),
        ("-3", 1.0),
        ("\u0663", 1.0),
    ],
)
def test_when_a_busy_server_wants_to_be_asked_again(header: str | None, seconds: float) -> None:
    assert retry_after_s(header, now=60.0) == seconds


@given(st.text(max_size=40))
def test_no_header_makes_anybody_wait_long(header: str) -> None:
    assert 0 <= retry_after_s(header, now=60.0) <= 300
