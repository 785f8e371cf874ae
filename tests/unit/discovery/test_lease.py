from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.discovery.lease import LeaseKeeper, Liveness, refresh_interval

TTL = 10.0
HOUR = 3600.0
NOW = 1_800_000_000.0


def ns(seconds: float) -> int:
    return int(seconds * 1e9)


def first(age: float, *, monotonic: float = 100.0) -> Liveness:
    return Liveness.first_sight(ns(NOW - age), ttl_s=TTL, monotonic=monotonic, wall=NOW)


@pytest.mark.parametrize(
    ("age", "expired"), [(0, False), (9.9, False), (10.1, True), (HOUR, True), (-HOUR, False)]
)
def test_at_first_sight_the_wall_clock_decides(age: float, expired: bool) -> None:
    assert first(age).expired(100.0) is expired


def test_a_time_in_the_future_counts_as_now() -> None:
    assert first(-HOUR).expires_at == 110.0


def test_an_unchanged_record_runs_out_at_the_rest_of_its_time_to_live() -> None:
    liveness = first(4.0)
    again = liveness.seen_again(
        liveness.mtime_ns, ttl_s=TTL, monotonic=105.9, wall=NOW + 5.9, since=100.0
    )
    assert not again.expired(105.9)
    assert again.expired(106.1)


@given(jump=st.floats(-HOUR, HOUR), looks=st.integers(1, 20))
def test_a_jump_of_the_wall_clock_neither_kills_nor_keeps_a_known_record(
    jump: float, looks: int
) -> None:
    liveness = first(0.0)
    for look in range(1, looks + 1):
        liveness = liveness.seen_again(
            liveness.mtime_ns,
            ttl_s=TTL,
            monotonic=100.0 + look,
            wall=NOW + look + jump,
            since=99.0 + look,
        )
        assert liveness.expired(100.0 + look) is (look > TTL)


@given(jump=st.floats(-HOUR, HOUR), refreshed_before_jump=st.booleans())
def test_a_refreshed_record_lives_whatever_the_wall_clock_did(
    jump: float, refreshed_before_jump: bool
) -> None:
    mtime = NOW + 3.3 + (0.0 if refreshed_before_jump else jump)
    again = first(0.0).seen_again(
        ns(mtime), ttl_s=TTL, monotonic=105.0, wall=NOW + 5.0 + jump, since=100.0
    )
    assert not again.expired(105.0)
    assert 110.0 <= again.expires_at <= 115.0


def test_a_record_refreshed_and_then_left_while_nobody_looked_is_dead_at_the_next_look() -> None:
    refreshed_then_died = NOW + 60
    again = first(0.0).seen_again(
        ns(refreshed_then_died), ttl_s=TTL, monotonic=100.0 + HOUR, wall=NOW + HOUR, since=100.0
    )
    assert again.expired(100.0 + HOUR)


def test_an_expired_record_whose_owner_comes_back_is_alive() -> None:
    liveness = first(HOUR)
    assert liveness.expired(100.0)
    back = liveness.seen_again(ns(NOW + 1), ttl_s=TTL, monotonic=101.0, wall=NOW + 1, since=100.0)
    assert not back.expired(101.0)


def test_leases_are_refreshed_three_times_a_time_to_live_but_never_too_slowly_for_dynamo() -> None:
    assert refresh_interval(3.0) == 1.0
    assert refresh_interval(10.0) == pytest.approx(10 / 3)
    assert refresh_interval(60.0) == pytest.approx(10 / 3)


def test_the_keeper_goes_on_after_an_error() -> None:
    calls = threading.Semaphore(0)

    def refresh() -> None:
        calls.release()
        raise RuntimeError("no disk today")

    keeper = LeaseKeeper(refresh, interval_s=0.01)
    keeper.start()
    try:
        for _ in range(3):
            assert calls.acquire(timeout=5)
    finally:
        keeper.stop()


def test_the_keeper_stops_at_once_and_calls_no_more() -> None:
    called = threading.Event()
    keeper = LeaseKeeper(called.set, interval_s=HOUR)
    keeper.start()
    before = time.monotonic()
    keeper.stop()
    keeper.stop()
    assert time.monotonic() - before < 1.0
    assert not called.is_set()


def test_a_keeper_that_never_started_can_be_stopped() -> None:
    LeaseKeeper(lambda: None, interval_s=1.0).stop()
