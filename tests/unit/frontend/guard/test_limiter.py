"""Limits of holders."""

from __future__ import annotations

import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.guard.keys import Holder, Limits
from muster.frontend.guard.limiter import Limiter, Usage, duration


def refusal(usage: Usage, now: float) -> ApiError:
    with pytest.raises(ApiError) as caught:
        usage.begin(now)
    assert caught.value.status == 429
    return caught.value


def test_requests_per_minute_are_a_burst_and_then_a_rate() -> None:
    usage = Usage(Limits(requests_per_minute=3), 0.0)
    for _ in range(3):
        usage.begin(0.0)
    error = refusal(usage, 0.0)
    assert error.slug == "rate_limit_exceeded"
    assert error.headers["retry-after"] == "20"
    assert error.headers["retry-after-ms"] == "20000"
    assert error.headers["x-ratelimit-limit-requests"] == "3"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.headers["x-ratelimit-reset-requests"] == "1m0s"
    refusal(usage, 19.9)
    usage.begin(20.0)


def test_a_refused_request_costs_nothing() -> None:
    usage = Usage(Limits(requests_per_minute=1, concurrent=1), 0.0)
    usage.begin(0.0)
    for now in range(1, 60):
        assert refusal(usage, now).slug == "concurrency_limit_exceeded"
    usage.end(0, 60.0)
    usage.begin(60.0)


def test_tokens_are_charged_when_they_are_known() -> None:
    usage = Usage(Limits(tokens_per_minute=60), 0.0)
    usage.begin(0.0)
    usage.begin(0.0)
    usage.end(80, 0.0)
    error = refusal(usage, 0.0)
    assert "60 tokens per minute" in error.message
    assert error.headers["retry-after"] == "21"
    assert error.headers["x-ratelimit-remaining-tokens"] == "0"
    usage.begin(21.0)


def test_holders_do_not_share_and_new_limits_count_at_once() -> None:
    limiter = Limiter()
    alice = Holder(name="alice", limits=Limits(concurrent=1))
    first = limiter.usage(alice, 0.0)
    assert first is not None
    first.begin(0.0)
    assert limiter.usage(Holder(name="bob"), 0.0) is None
    more = limiter.usage(Holder(name="alice", limits=Limits(concurrent=2)), 1.0)
    assert more is not None
    more.begin(1.0)
    refusal(more, 1.0)
    limiter.keep({"bob"})
    again = limiter.usage(alice, 2.0)
    assert again is not None
    assert again.running == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (0.0001, "1ms"),
        (0.25, "250ms"),
        (0.9999, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3661.5, "1h1m2s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
