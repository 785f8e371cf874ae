"""Token buckets, against what they promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.guard.bucket import TokenBucket

STEPS = st.lists(st.floats(min_value=0, max_value=100, allow_nan=False), max_size=60)
RATES = st.floats(min_value=0.01, max_value=1000)


@given(capacity=st.integers(1, 1000), rate=RATES, steps=STEPS)
def test_no_more_is_let_out_than_it_held_and_gained(
    capacity: int, rate: float, steps: list[float]
) -> None:
    bucket, now, taken = TokenBucket(capacity, rate, 0.0), 0.0, 0
    for step in steps:
        now += step
        if not bucket.wait_s(1.0, now):
            bucket.charge(1.0, now)
            taken += 1
        assert bucket.level(now) >= 0
        assert taken <= capacity + now * rate + 1e-6


@given(capacity=st.integers(1, 1000), rate=RATES, spent=st.integers(0, 3000))
def test_after_the_wait_it_named_there_is_enough(capacity: int, rate: float, spent: int) -> None:
    bucket = TokenBucket(capacity, rate, 0.0)
    bucket.charge(spent, 0.0)
    wait = bucket.wait_s(1.0, 0.0)
    assert bucket.level(wait) == pytest.approx(max(1.0, capacity - spent), rel=1e-6)


@given(capacity=st.integers(1, 1000), rate=RATES, times=STEPS)
def test_a_clock_that_goes_back_gives_nothing(
    capacity: int, rate: float, times: list[float]
) -> None:
    bucket = TokenBucket(capacity, rate, 0.0)
    bucket.charge(capacity, 0.0)
    highest = 0.0
    for now in times:
        highest = max(highest, now)
        assert bucket.level(now) <= highest * rate + 1e-6


def test_it_is_full_when_it_says_it_will_be() -> None:
    bucket = TokenBucket(60, 1.0, 0.0)
    bucket.charge(70, 0.0)
    assert bucket.full_in_s(0.0) == 70
    assert bucket.level(70) == 60
    assert bucket.full_in_s(1000) == 0
