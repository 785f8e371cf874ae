"""Rates and latencies that are read off the metrics' counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from muster.frontend.dashboard.traffic import Traffic, quantile
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable


class Counted:
    def __init__(self) -> None:
        self.now = 100.0
        self.metrics = FrontendMetrics(CollectorRegistry(), ModelTable(), clock=lambda: self.now)
        self.traffic = Traffic(lambda: self.metrics.by_model)
        self.tick()

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.traffic.sample(wall=1_000_000 + self.now, monotonic=self.now)

    def ask(self, model: str = "m", tokens: int = 10, ttft: float = 0.03) -> None:
        with self.metrics.start(model, "chat_completions", stream=True) as meter:
            self.now += ttft
            meter.tokens(1)
            meter.tokens(tokens - 1)
            meter.finish()


def test_a_second_has_the_rates_of_its_own_requests_only() -> None:
    counted = Counted()
    counted.ask()
    counted.ask()
    counted.tick(1.94)  # with the requests' 0.06 s: two seconds
    counted.tick()
    _, busy, idle = counted.traffic.seconds
    assert (busy.started, busy.succeeded, busy.tokens) == (1.0, 1.0, 10.0)
    assert busy.ttft_p50 is not None
    assert 0.022 < busy.ttft_p50 <= 0.047
    assert (idle.started, idle.tokens, idle.ttft_p50, idle.itl_p95) == (0.0, 0.0, None, None)


def test_a_client_that_leaves_is_no_failure() -> None:
    counted = Counted()
    counted.metrics.start("m", "chat_completions", stream=True).fail("cancelled")
    counted.metrics.start("m", "chat_completions", stream=True).fail("internal")
    counted.tick()
    second = counted.traffic.seconds[-1]
    assert (second.cancelled, second.failed) == (1.0, 1.0)


def test_requests_in_flight_are_seen_while_nothing_else_changes() -> None:
    counted = Counted()
    meter = counted.metrics.start("m", "chat_completions", stream=True)
    for _ in range(70):
        counted.tick()
    assert counted.traffic.seconds[-1].active == 1
    assert counted.traffic.models()["m"].active == 1
    assert counted.traffic.models()["m"].queued == 1
    meter.fail("internal")
    for _ in range(70):
        counted.tick()
    assert counted.traffic.models() == {}


def test_a_models_rates_are_of_ten_seconds_and_its_latencies_of_a_minute() -> None:
    counted = Counted()
    counted.ask(ttft=5.0)
    for _ in range(20):
        counted.tick()
    counted.ask(ttft=0.03)
    counted.tick(0.97)
    model = counted.traffic.models()["m"]
    assert model.started == pytest.approx(0.1)
    assert model.ttft_p95 is not None
    assert model.ttft_p95 > 1
    for _ in range(45):
        counted.tick()
    later = counted.traffic.models()["m"]
    assert later.started == 0
    assert later.ttft_p95 is not None
    assert later.ttft_p95 < 1, "the slow request is more than a minute ago"


def test_ten_minutes_are_kept_and_no_more() -> None:
    counted = Counted()
    for _ in range(700):
        counted.tick()
    assert len(counted.traffic.seconds) == 600
    assert [one.at for one in counted.traffic.after(counted.traffic.count - 2)] == [
        one.at for one in list(counted.traffic.seconds)[-2:]
    ]
    assert len(counted.traffic.after(0)) == 600
    assert counted.traffic.after(counted.traffic.count) == ()


@given(
    counts=st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_quantile_is_within_the_bounds_and_grows_with_its_share(
    counts: list[int], shares: tuple[float, float]
) -> None:
    low, high = (quantile((0.1, 1.0, 10.0), counts, share) for share in sorted(shares))
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= 10.0


def test_a_quantile_of_nothing_is_none_and_of_the_largest_is_the_last_bound() -> None:
    assert quantile((0.1, 1.0), [0, 0, 0], 0.5) is None
    assert quantile((0.1, 1.0), [0, 0, 3], 0.5) == 1.0
    assert quantile((1.0, 2.0), [10, 0, 0], 0.5) == 0.5
